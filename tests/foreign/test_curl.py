"""curl, with the commands of the README and those that people try next."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.conftest import Server

README = Path(__file__).parents[2] / "README.rst"
CURL = shutil.which("curl")
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")


@cache
def version() -> str:
    assert CURL is not None
    return subprocess.run([CURL, "--version"], capture_output=True, text=True, check=True).stdout


def needs_release(*release: int) -> None:
    """Skip with a curl that is older."""
    found = re.match(r"curl (\d+)\.(\d+)", version())
    assert found is not None
    if tuple(map(int, found.groups())) < release:
        pytest.skip(f"curl {found[0]} is older than {release}")


def command(*arguments: str) -> list[str]:
    """Without what the user's ~/.curlrc says, and for ever at no address."""
    assert CURL is not None
    return [CURL, "--disable", "--silent", "--show-error", "--max-time", f"{PATIENCE:g}", *arguments]


@dataclass
class Answer:
    version: str
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        code: str = self.json["error"]["code"]
        return code


def curl(*arguments: str) -> Answer:
    """Run curl and read what it was answered, the last of several answers (100 Continue, 101)."""
    ran = subprocess.run(command("--include", *arguments), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rest = ran.stdout
    while True:
        head, _, rest = rest.replace("\r\n", "\n").partition("\n\n")
        status, *lines = head.split("\n")
        http, code, *_ = status.split(" ")
        if int(code) >= 200:
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            return Answer(http, int(code), headers, rest)


def post(room: str, message: str, *arguments: str) -> Answer:
    body = json.dumps({"handle": "ann", "message": message})
    return curl(room, "--header", "Content-Type: application/json", "--data-binary", body, *arguments)


@contextmanager
def following(room: str, *arguments: str) -> Iterator[Iterator[dict[str, str]]]:
    """The events with data of an event stream that curl follows."""
    accept = ("--no-buffer", "--header", "Accept: text/event-stream")
    with subprocess.Popen(command(room, *accept, *arguments), stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        overdue = threading.Timer(PATIENCE, process.kill)
        overdue.start()
        try:
            yield events(iter(process.stdout))
        finally:
            overdue.cancel()
            process.kill()


def events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.rstrip("\n").partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif line == "\n":
            if "data" in fields:
                yield fields
            fields = {}


# The README


def readme_commands() -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(r"^ {3}(curl .*)$", text, flags=re.MULTILINE)


def test_the_readme_shows_how_to_post_to_read_and_to_follow() -> None:
    assert len(readme_commands()) >= 3


@pytest.mark.parametrize("shown", readme_commands())
def test_commands_of_the_readme(server: Server, shown: str) -> None:
    """Each in a room with one message, which it shows, or gets by posting."""
    room = server.room()
    post(room, "hello")
    program, *arguments = shlex.split(shown)
    if "--json" in arguments:
        needs_release(7, 82)
    assert program == "curl"
    arguments = [argument.replace("http://127.0.0.1:8080/chat/lobby", room) for argument in arguments]
    assert any(room in argument for argument in arguments)
    with subprocess.Popen(command("--fail", *arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while '"handle":"ann","message":"hello"' not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.kill()


# Posting and reading


def test_posts_and_reads(room: str) -> None:
    posted = post(room, "größer")
    assert (posted.status, posted.headers["content-type"]) == (201, "application/json")
    read = curl(room)
    assert (read.status, read.headers["content-type"]) == (200, "application/json")
    assert read.json["messages"] == [posted.json]
    assert read.json["position"] == posted.json["id"]


def test_posts_once_under_one_key(room: str) -> None:
    body = json.dumps({"handle": "ann", "message": "once", "key": "k1"})
    arguments = (room, "--header", "Content-Type: application/json", "--data-binary", body)
    first, again = curl(*arguments), curl(*arguments)
    assert (first.status, again.status) == (201, 200)
    assert first.json == again.json
    assert len(curl(room).json["messages"]) == 1


def test_waits_for_continue_before_it_sends(room: str) -> None:
    """curl waits so long only where the server does not answer `100 Continue` at once."""
    answer = post(room, "asked before", "--header", "Expect: 100-continue", "--expect100-timeout", f"{PATIENCE:g}")
    assert answer.status == 201


def test_sends_chunks(room: str) -> None:
    assert post(room, "in chunks", "--header", "Transfer-Encoding: chunked").status == 201


def test_takes_compressed_answers_if_there_were_any(room: str) -> None:
    post(room, "hello")
    assert curl(room, "--compressed").json["messages"][0]["message"] == "hello"


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("--data", "handle=ann&message=hello"), 415, "unsupported_media_type"),
        (("--form", "message=hello"), 415, "unsupported_media_type"),
        (("--header", "Content-Type: application/json", "--data", "hello"), 400, "bad_json"),
        (("--header", "Content-Type: application/json", "--data", '{"handle": "ann"}'), 400, "bad_message"),
        (("--header", "Content-Type: application/json", "--data", "x" * 65_537), 413, "body_too_large"),
        (("--request", "PUT", "--data", "x"), 405, "method_not_allowed"),
        (("--request", "DELETE"), 405, "method_not_allowed"),
        (("--header", "Accept: image/png"), 406, "not_acceptable"),
        (("--header", "Origin: https://evil.example"), 403, "origin_not_allowed"),
        (("--header", "Host: evil.example"), 421, "host_not_allowed"),
        (("--url-query", "since=yesterday"), 400, "bad_request"),
    ],
)
def test_is_told_what_was_wrong(room: str, arguments: tuple[str, ...], status: int, error: str) -> None:
    if "--url-query" in arguments:
        needs_release(7, 87)
    answer = curl(room, *arguments)
    assert (answer.status, answer.error) == (status, error)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"]["message"]
    assert curl(room).json["messages"] == []


def test_rooms_have_names_in_any_language(server: Server) -> None:
    room = f"{server.url}/chat/caf%C3%A9%20{server.room().rpartition('/')[2]}"
    stored = post(room, "bonjour").json
    assert curl(f"{room}/").json["messages"] == [stored]


@pytest.mark.parametrize("name", ["caf%c3%a9", "cafe%CC%81"])
def test_other_spellings_of_a_name_are_refused_with_the_usual_one(server: Server, name: str) -> None:
    answer = curl(f"{server.url}/chat/{name}")
    assert (answer.status, answer.error) == (400, "bad_room")
    assert "/chat/caf%C3%A9" in answer.json["error"]["message"]


# HEAD and OPTIONS


def test_head_is_like_get_without_the_body(room: str) -> None:
    post(room, "hello")
    head, get = curl(room, "--head"), curl(room)
    assert head.body == ""
    assert head.status == get.status == 200
    assert head.headers | {"date": ""} == get.headers | {"date": ""}
    assert int(get.headers["content-length"]) == len(get.body)
    page = curl(room, "--head", "--header", "Accept: text/html")
    assert (page.status, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    stream = curl(room, "--head", "--header", "Accept: text/event-stream")
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")


def test_options_says_what_may_be_asked(room: str) -> None:
    answer = curl(room, "--request", "OPTIONS")
    assert (answer.status, answer.body) == (204, "")
    assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    # RFC 9110 section 8.6: 204 has none.
    assert "content-length" not in answer.headers


# The event stream


def test_follows_from_the_last_event(room: str) -> None:
    stored = [post(room, str(number)).json for number in range(4)]
    with following(room, "--header", f"Last-Event-ID: {stored[1]['id']}") as stream:
        heard = [next(stream), next(stream)]
        stored.append(post(room, "4").json)
        heard.append(next(stream))
    assert [json.loads(event["data"]) for event in heard] == stored[2:]
    assert [event["id"] for event in heard] == [each["id"] for each in stored[2:]]


def test_last_event_goes_before_the_query(room: str) -> None:
    """As when a browser comes back to a URL that it began with."""
    stored = [post(room, str(number)).json for number in range(3)]
    newest = f"Last-Event-ID: {stored[1]['id']}"
    with following(f"{room}?since={stored[0]['id']}&history=3", "--header", newest) as stream:
        assert json.loads(next(stream)["data"]) == stored[2]


def test_is_told_when_it_cannot_go_on(room: str) -> None:
    known = post(room, "hello").json["id"]
    unknown = re.sub("^[^-]+", "AAAAAAAA", known)
    with following(room, "--header", f"Last-Event-ID: {unknown}") as stream:
        event = next(stream)
    assert (event["event"], event["id"]) == ("event", known)
    assert json.loads(event["data"]) == {"event": "reset", "position": known}


def test_follows_over_http_1_0(room: str) -> None:
    with following(f"{room}?history=1", "--http1.0") as stream:
        stored = post(room, "hello").json
        assert json.loads(next(stream)["data"]) == stored


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_is_told_when_the_server_stops(request: pytest.FixtureRequest, own_server: Server, version: str) -> None:
    """The stream ends as a whole answer does, so that curl finds nothing wrong with it."""
    if version != "--http1.1":
        request.getfixturevalue("http2")
    room = own_server.room()
    accept = ("--no-buffer", "--header", "Accept: text/event-stream")
    with subprocess.Popen(command(room, *accept, version), stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(":")
        own_server.stop()
        rest = process.stdout.read()
        assert process.wait(PATIENCE) == 0
    assert re.search(r"^retry: \d+\n", rest, re.MULTILINE)
    assert "event: refused\n" in rest
    assert '"code":"going_away"' in rest


# HTTP/2


@pytest.fixture
def http2() -> None:
    if "HTTP2" not in version():
        pytest.skip("this curl speaks no HTTP/2")


@pytest.mark.usefixtures("http2")
def test_http2_by_prior_knowledge(room: str) -> None:
    posted = post(room, "hello", "--http2-prior-knowledge")
    assert (posted.version, posted.status) == ("HTTP/2", 201)
    read = curl(room, "--http2-prior-knowledge")
    assert (read.version, read.json["messages"]) == ("HTTP/2", [posted.json])
    head = curl(room, "--http2-prior-knowledge", "--head")
    assert (head.status, head.body, head.headers["content-length"]) == (200, "", str(len(read.body)))
    options = curl(room, "--http2-prior-knowledge", "--request", "OPTIONS")
    assert (options.status, "content-length" in options.headers) == (204, False)
    wrong = curl(room, "--http2-prior-knowledge", "--data", "x" * 65_537)
    assert (wrong.status, wrong.error) == (413, "body_too_large")
    with following(room, "--http2-prior-knowledge", "--header", f"Last-Event-ID: {posted.json['id']}") as stream:
        stored = post(room, "to the stream").json
        assert json.loads(next(stream)["data"]) == stored


@pytest.mark.usefixtures("http2")
def test_http2_by_upgrade_stays_http1(room: str) -> None:
    """RFC 9113 took that upgrade away; a server goes on as if it had not been asked."""
    answer = post(room, "hello", "--http2")
    assert (answer.version, answer.status) == ("HTTP/1.1", 201)


# What a WebSocket needs


def test_a_websocket_by_hand(room: str) -> None:
    upgrade = ("--http1.1", "--header", "Upgrade: websocket", "--header", "Connection: Upgrade")
    answer = curl(room, *upgrade)
    assert (answer.status, answer.error) == (426, "bad_handshake")
    assert answer.headers["sec-websocket-version"] == "13"
    answer = curl(room, *upgrade, "--header", "Sec-WebSocket-Version: 13")
    assert (answer.status, answer.error) == (400, "bad_handshake")
