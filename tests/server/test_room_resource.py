"""The room URL over HTTP: every row of its table, and every way to ask wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import read_answer
from twisted_chat.auth import ApiKeys, Origins, SigningKey, TokenKeys, make_token
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.relay.interface import HistoryLimits

MakeServer = Callable[..., Any]
WALL_CLOCK = 1_795_000_000.0
BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"


def say(server: Any, *messages: str) -> list[str]:
    """Post messages; their ids."""
    ids = []
    for message in messages:
        server.clock.advance(1)
        answer = server.post({"handle": "ann", "message": message})
        assert answer.status == 201, answer.body
        ids.append(answer.json["id"])
    return ids


# Forms


def test_a_browser_gets_the_page(server: Any) -> None:
    answer = server.ask("GET", "/chat/lobby", BROWSER)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert b"<script" in answer.body


def test_curl_gets_the_history(server: Any) -> None:
    for accept in ("", "Accept: */*\r\n", "Accept: application/json\r\n"):
        answer = server.ask("GET", "/chat/lobby", accept)
        assert "accept" in answer.headers["vary"], "no cache takes it for the page"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["messages"] == []


def test_what_is_not_to_be_had_is_said(server: Any) -> None:
    answer = server.ask("GET", "/chat/lobby", "Accept: image/png\r\n")
    assert (answer.status, answer.error) == (406, "not_acceptable")
    assert "text/event-stream" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("name", "status"),
    [("Accept", 406), ("Content-Type", 415), ("Origin", 403), ("X-API-Key", 401), ("Last-Event-ID", 400)],
)
def test_bytes_that_are_no_text_are_wrong_values(server: Any, name: str, status: int) -> None:
    method = "POST" if name == "Content-Type" else "GET"
    accept = "Accept: text/event-stream\r\n" if name == "Last-Event-ID" else ""
    assert server.ask(method, "/chat/lobby", f"{accept}{name}: \udcff\udcfe\r\n").status == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "BREW"])
def test_other_methods_are_told_which_there_are(server: Any, method: str) -> None:
    answer = server.ask(method, "/chat/lobby")
    assert (answer.status, answer.error) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS"


def test_head_is_get_without_a_body(server: Any) -> None:
    for accept in (BROWSER, "Accept: application/json\r\n", "Accept: text/event-stream\r\n"):
        answer = server.ask("HEAD", "/chat/lobby", accept)
        assert (answer.status, answer.body) == (200, b"")
    assert not server.connections.open, "HEAD opens no event stream"


def test_a_page_that_is_known_is_not_sent_again(server: Any) -> None:
    etag = server.ask("GET", "/chat/lobby", BROWSER).headers["etag"]
    answer = server.ask("GET", "/chat/lobby", f"{BROWSER}If-None-Match: {etag}\r\n")
    assert (answer.status, answer.body) == (304, b"")


# Room names


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/chat/lobby", "/chat/lobby/"])
def test_empty_means_lobby(server: Any, path: str) -> None:
    say(server, "hi")
    assert [m["message"] for m in server.ask("GET", path).json["messages"]] == ["hi"]


def test_rooms_have_slashes_and_any_language(server: Any) -> None:
    assert server.post({"handle": "ann", "message": "hola"}, "/chat/equipo/espa%C3%B1a/").status == 201
    assert [m["message"] for m in server.ask("GET", "/chat/equipo/espa%C3%B1a").json["messages"]] == ["hola"]


@pytest.mark.parametrize(
    ("path", "usual"),
    [
        ("/chat//secret", "/chat/secret"),
        ("/chat///secret", "/chat/secret"),
        ("/chat/%2fsecret", "/chat/secret"),
        ("/chat/%2Fsecret", "/chat/secret"),
        ("/chat/secret%2F", "/chat/secret/"),
        ("/chat/secret//", "/chat/secret/"),
        ("/chat/%73ecret", "/chat/secret"),
        ("/chat/team%2Fblue", "/chat/team/blue"),
        ("/chat/espa%c3%b1a", "/chat/espa%C3%B1a"),
        ("/chat/espan%CC%83a", "/chat/espa%C3%B1a"),
        ("/chat/a\\b", "/chat/a%5Cb"),
        ("/chat/100%", "/chat/100%25"),
        ("/chat//", "/chat/"),
    ],
)
def test_a_room_has_one_spelling(server: Any, path: str, usual: str) -> None:
    assert server.ask("GET", usual).status == 200
    answers = [server.ask("GET", path), server.ask("GET", path, BROWSER), server.post({"message": "hi"}, path)]
    answers.append(server.connect(path).answer)
    answers.append(server.ask("POST", path, "Content-Type: application/json\r\nContent-Length: 9\r\n"))
    for answer in answers:
        assert (answer.status, answer.error) == (400, "bad_room")
        assert usual in answer.json["error"]["message"].split()


def test_signs_may_be_encoded_or_not(server: Any) -> None:
    # As encodeURIComponent writes it, and as people do.
    assert server.post({"handle": "ann", "message": "hi"}, "/chat/user%3A42@a+b").status == 201
    assert len(server.ask("GET", "/chat/user:42%40a%2Bb").json["messages"]) == 1


@pytest.mark.parametrize("path", ["/%63hat/lobby", "//chat/lobby", "/chat%2Flobby", "/./chat/lobby", "/%2e/chat/lobby"])
def test_the_first_part_has_one_spelling_too(server: Any, path: str) -> None:
    for answer in (server.ask("GET", path), server.post({"handle": "ann", "message": "hi"}, path)):
        assert (answer.status, answer.error) == (404, "not_found")
    assert server.connect(path).answer.status == 404


@pytest.mark.parametrize("path", ["/chat/a//b", "/chat/a/../b", "/chat/%00", "/chat/%ff", "/chat/" + "x" * 129])
@pytest.mark.parametrize("accept", ["", BROWSER, "Accept: text/event-stream\r\n"])
def test_a_wrong_name_is_refused_in_every_form(server: Any, path: str, accept: str) -> None:
    answer = server.ask("GET", path, accept)
    assert (answer.status, answer.error) == (400, "bad_room")


# Posting


def test_posting_stores_and_answers_with_what_was_stored(server: Any) -> None:
    answer = server.post({"handle": " ann ", "message": "hi"})
    assert answer.status == 201
    assert answer.json.keys() == {"id", "timestamp", "handle", "message"}
    assert answer.json["handle"] == "ann"
    assert server.ask("GET", "/chat/lobby").json["messages"] == [answer.json]


def test_a_key_is_stored_once(server: Any) -> None:
    first = server.post({"handle": "ann", "message": "hi", "key": "k"})
    again = server.post({"handle": "ann", "message": "hi", "key": "k"})
    other = server.post({"handle": "bob", "message": "hi", "key": "k"})
    assert (first.status, again.status, other.status) == (201, 200, 201)
    assert again.json == first.json
    assert first.json["key"] == "k"
    assert len(server.ask("GET", "/chat/lobby").json["messages"]) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b"[]", 400, "bad_json"),
        (b"\xff", 400, "bad_json"),
        (b"", 400, "bad_json"),
        ({"message": "hi"}, 400, "bad_handle"),
        ({"handle": "ann"}, 400, "bad_message"),
        ({"handle": "ann", "typing": True}, 400, "bad_message"),
        ({"handle": "ann", "message": "x" * 4097}, 413, "message_too_long"),
    ],
)
def test_a_wrong_post_is_refused(server: Any, body: object, status: int, code: str) -> None:
    answer = server.post(body)
    assert (answer.status, answer.error) == (status, code)
    assert server.ask("GET", "/chat/lobby").json["messages"] == []
    assert server.refusals(code) == 1


def test_a_body_of_another_type_is_refused(server: Any) -> None:
    for kind in ("", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"):
        answer = server.ask("POST", "/chat/lobby", kind, b'{"handle":"a","message":"b"}')
        assert (answer.status, answer.error) == (415, "unsupported_media_type")
    typed = "Content-Type: application/json; charset=utf-8\r\n"
    assert server.ask("POST", "/chat/lobby", typed, b'{"handle":"a","message":"b"}').status == 201


def test_an_address_that_posts_too_fast_is_told_so(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(messages_per_address=Rate(1.0, 2)))
    statuses = [server.post({"handle": "ann", "message": "hi", "key": str(n)}).status for n in range(3)]
    assert statuses == [201, 201, 429]
    assert server.post({"handle": "ann", "message": "hi"}).headers["retry-after"] == "1"
    assert server.post({"handle": "ann", "message": "hi"}, address="198.51.100.1").status == 201
    assert server.refusals("rate_limited") == 2


def test_an_address_that_begins_too_many_rooms_is_told_so(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(new_rooms_per_address=Rate(0.5, 2)))
    hello = {"handle": "ann", "message": "hi"}
    assert [server.post(hello, f"/chat/room{n}").status for n in range(3)] == [201, 201, 429]
    assert server.post(hello, "/chat/room2", address="198.51.100.1").status == 201
    server.clock.advance(2)
    assert [server.post(hello, "/chat/room0").status for _ in range(5)] == [201] * 5, "it began already"
    assert server.refusals("rate_limited") == 1


def test_an_address_that_stores_too_much_is_told_so(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(stored_bytes_per_address=Rate(100.0, 5_000)))
    long = {"handle": "ann", "message": "x" * 3_000}
    assert [server.post(long).status for _ in range(3)] == [201, 201, 429]
    assert server.post(long, address="198.51.100.1").status == 201


def test_a_connection_that_posts_too_fast_is_told_so_however_its_requests_come(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(messages_per_connection=Rate(1.0, 2)))
    body = json.dumps({"handle": "ann", "message": "hi"}).encode()
    head = "POST /chat/lobby HTTP/1.1\r\nHost: chat.example\r\nContent-Type: application/json\r\n"
    post = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    peer = server.peer()
    peer.send(post * 2)
    assert peer.received().count(b"HTTP/1.1 201") == 2
    peer.send(post * 3)
    assert peer.received().count(b"HTTP/1.1 429") == 3
    assert server.post({"handle": "ann", "message": "hi"}).status == 201
    server.clock.advance(1)
    peer.send(post)
    assert peer.received().count(b"HTTP/1.1 201") == 1


# History


def test_pages_forward(server: Any) -> None:
    ids = say(server, *"abcde")
    page = server.ask("GET", f"/chat/lobby?since={ids[0]}&limit=2").json
    assert [m["message"] for m in page["messages"]] == ["b", "c"]
    assert (page["position"], page["complete"], page["more"]) == (ids[2], True, True)
    page = server.ask("GET", f"/chat/lobby?since={page['position']}&limit=2").json
    assert [m["message"] for m in page["messages"]] == ["d", "e"]
    assert (page["position"], page["complete"], page["more"]) == (ids[4], True, False)
    page = server.ask("GET", f"/chat/lobby?since={ids[4]}").json
    assert (page["messages"], page["position"], page["more"]) == ([], ids[4], False)


def test_pages_backward(server: Any) -> None:
    ids = say(server, *"abcde")
    page = server.ask("GET", "/chat/lobby?limit=2").json
    assert [m["message"] for m in page["messages"]] == ["d", "e"]
    assert page["more"] is True
    page = server.ask("GET", f"/chat/lobby?before={ids[3]}&limit=2").json
    assert ([m["message"] for m in page["messages"]], page["more"]) == (["b", "c"], True)
    page = server.ask("GET", f"/chat/lobby?before={ids[1]}&limit=2").json
    assert ([m["message"] for m in page["messages"]], page["more"]) == (["a"], False)


def test_what_cannot_be_continued_is_said(make_server: MakeServer) -> None:
    server = make_server(history=HistoryLimits(count=2))
    ids = say(server, *"abcde")
    for since in (ids[0], "another-1-1"):
        page = server.ask("GET", f"/chat/lobby?since={since}").json
        assert page["complete"] is False
        assert [m["message"] for m in page["messages"]] == ["d", "e"]
        assert page["position"] == ids[4]


@pytest.mark.parametrize("query", ["since=x", "limit=0", "limit=many", "before=1", "since=a-1-1&before=a-1-1"])
def test_wrong_questions_are_refused(server: Any, query: str) -> None:
    answer = server.ask("GET", f"/chat/lobby?{query}")
    assert (answer.status, answer.error) == (400, "bad_request")


# Origins


def test_a_page_of_the_same_host_may(server: Any) -> None:
    answer = server.post({"handle": "a", "message": "b"}, headers="Origin: http://chat.example\r\n")
    assert answer.status == 201


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://chat.example.evil.example"])
def test_a_page_of_another_site_may_not(server: Any, origin: str) -> None:
    header = f"Origin: {origin}\r\n"
    for answer in (
        server.post({"handle": "a", "message": "b"}, headers=header),
        server.ask("GET", "/chat/lobby", header),
        server.ask("GET", "/chat/lobby", f"{header}Accept: text/event-stream\r\n"),
        server.connect(headers=header).answer,
    ):
        assert (answer.status, answer.error) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    assert server.ask("GET", "/chat/lobby").json["messages"] == []


def test_an_allowed_site_is_allowed_to_read(make_server: MakeServer) -> None:
    server = make_server(origins=Origins(["https://www.example.com"]))
    header = "Origin: https://www.example.com\r\n"
    answer = server.ask("GET", "/chat/lobby", header)
    stream = server.ask("GET", "/chat/lobby", f"{header}Accept: text/event-stream\r\n")
    posted = server.post({"handle": "ann", "message": "hi"}, headers=header)
    for each in (answer, stream, posted):
        assert each.headers["access-control-allow-origin"] == "https://www.example.com"
        assert "origin" in each.headers["vary"], "no cache gives it to another site"
    preflight = server.ask("OPTIONS", "/chat/lobby", f"{header}Access-Control-Request-Method: POST\r\n")
    assert preflight.status == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]


# Identity

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def closed(make_server: MakeServer, tmp_path: Any) -> tuple[Any, Callable[..., str]]:
    """A server that wants tokens and takes an API key, and a function that makes tokens for it."""
    key_file = tmp_path / "key"
    key_file.write_bytes(SECRET)
    key_file.chmod(0o600)
    api_file = tmp_path / "api"
    api_file.write_text("the-api-key-of-the-tests\n")
    api_file.chmod(0o600)
    server = make_server(tokens=TokenKeys.from_file(key_file), api_keys=ApiKeys.from_file(api_file))

    def token(user: str = "u1", **claims: Any) -> str:
        return make_token(SigningKey.from_file(key_file), user, now=WALL_CLOCK, **claims)

    return server, token


def test_without_a_token_a_closed_room_is_closed(closed: Any) -> None:
    server, _ = closed
    for answer in (
        server.ask("GET", "/chat/lobby"),
        server.ask("GET", "/chat/lobby", "Accept: text/event-stream\r\n"),
        server.post({"handle": "a", "message": "b"}),
        server.connect().answer,
    ):
        assert (answer.status, answer.error) == (401, "token_required")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_page_itself_is_no_secret(closed: Any) -> None:
    server, _ = closed
    assert server.ask("GET", "/chat/lobby", BROWSER).status == 200


def test_a_token_opens_in_header_and_query(closed: Any) -> None:
    server, token = closed
    assert server.ask("GET", "/chat/lobby", f"Authorization: Bearer {token()}\r\n").status == 200
    assert server.ask("GET", f"/chat/lobby?token={token()}").status == 200
    assert server.ask("GET", "/chat/lobby?token=nonsense").error == "token_invalid"


def test_the_handle_is_the_tokens(closed: Any) -> None:
    server, token = closed
    header = f"Authorization: Bearer {token(handle='ann')}\r\n"
    assert server.post({"handle": "the boss", "message": "hi"}, headers=header).json["handle"] == "ann"
    assert server.post({"message": "hi"}, headers=header).json["handle"] == "ann"


def test_a_token_says_which_rooms(closed: Any) -> None:
    server, token = closed
    header = f"Authorization: Bearer {token(read=['team/*'], write=['team/a'])}\r\n"
    assert server.ask("GET", "/chat/team/b", header).status == 200
    for refused in (
        server.ask("GET", "/chat/lobby", header),
        server.ask("GET", "/chat/lobby", f"{header}Accept: text/event-stream\r\n"),
        server.connect("/chat/lobby", header).answer,
    ):
        assert (refused.status, refused.error) == (403, "not_allowed")
    assert server.connect("/chat/team/b", header).answer.status == 101
    assert server.post({"message": "hi"}, "/chat/team/a", header).status == 201
    answer = server.post({"message": "hi", "key": "k"}, "/chat/team/b", header)
    assert (answer.status, answer.error) == (403, "not_allowed")
    assert answer.json["error"]["key"] == "k"


def test_an_expired_token_is_told_apart(closed: Any) -> None:
    server, token = closed
    header = f"Authorization: Bearer {token(expires_in=60)}\r\n"
    assert server.ask("GET", "/chat/lobby", header).status == 200
    server.clock.advance(61)
    assert server.ask("GET", "/chat/lobby", header).error == "token_expired"


def test_an_api_key_speaks_as_anyone_without_a_rate(closed: Any) -> None:
    server, _ = closed
    header = "X-API-Key: the-api-key-of-the-tests\r\n"
    for number in range(300):
        assert server.post({"handle": f"h{number}", "message": "hi"}, headers=header).status == 201
    assert server.post({"handle": "a", "message": "b"}, headers="X-API-Key: wrong\r\n").error == "api_key_invalid"


def test_an_open_server_takes_no_api_key(server: Any) -> None:
    answer = server.post({"handle": "a", "message": "b"}, headers="X-API-Key: anything\r\n")
    assert (answer.status, answer.error) == (401, "api_key_invalid")


# Event streams


def events(data: bytes) -> list[dict[str, str]]:
    """The events in an HTTP/1.1 answer's chunks."""
    found = []
    for block in data.decode().replace("\r\n", "\n").split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, separator, value = line.partition(":")
            if separator and name in {"event", "data", "id", "retry"}:
                fields[name] = value.removeprefix(" ")
        if fields:
            found.append(fields)
    return found


def test_an_event_stream_has_the_same_messages(server: Any) -> None:
    stream = server.stream("/chat/lobby?history=1")
    head = stream.received()
    assert b"Content-Type: text/event-stream" in head
    assert b"x-accel-buffering: no" in head.lower()
    assert b"no-transform" in head.lower()
    posted = server.post({"handle": "ann", "message": "hi"}).json
    (event,) = [e for e in events(stream.received()) if "data" in e]
    assert json.loads(event["data"]) == posted
    assert event["id"] == posted["id"]


def test_an_event_stream_begins_where_it_stopped(server: Any) -> None:
    ids = say(server, *"abc")
    stream = server.stream("/chat/lobby", f"Last-Event-ID: {ids[0]}\r\n")
    found = [json.loads(e["data"])["message"] for e in events(stream.received()) if "data" in e]
    assert found == ["b", "c"]


def test_an_event_stream_can_be_continued_before_anything_was_said(server: Any) -> None:
    stream = server.stream()
    (bookmark,) = [e["id"] for e in events(stream.received()) if "id" in e]
    stream.close()
    say(server, "a")
    again = server.stream("/chat/lobby", f"Last-Event-ID: {bookmark}\r\n")
    assert [json.loads(e["data"])["message"] for e in events(again.received()) if "data" in e] == ["a"]


def test_an_event_stream_that_cannot_be_continued_is_told(server: Any) -> None:
    stream = server.stream("/chat/lobby?since=another-1-1")
    (reset,) = [e for e in events(stream.received()) if e.get("event") == "event"]
    assert json.loads(reset["data"])["event"] == "reset"
    assert reset["id"] == json.loads(reset["data"])["position"]


def test_a_silent_event_stream_shows_that_it_lives(server: Any) -> None:
    stream = server.stream()
    stream.received()
    server.beat()
    assert b":\n\n" in stream.received()


def test_an_event_stream_that_does_not_read_is_cut(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(outbox_bytes=1000))
    stream = server.stream()
    stream.received()
    stream.transport.producer.pauseProducing()
    for number in range(20):
        server.post({"handle": "ann", "message": "x" * 100 + str(number)}, address=f"192.0.2.{number}")
    server.clock.advance(0)
    assert stream.transport.aborted
    assert server.refusals("too_slow") == 1
    assert not server.connections.open


def test_an_event_stream_ends_with_its_token(closed: Any) -> None:
    server, token = closed
    stream = server.stream("/chat/lobby", f"Authorization: Bearer {token(expires_in=60)}\r\n")
    assert b"200 OK" in stream.received()
    server.clock.advance(61)
    (last,) = [e for e in events(stream.received()) if e.get("event") == "refused"]
    assert json.loads(last["data"])["error"]["code"] == "token_expired"
    assert not server.connections.open


# Elsewhere


def test_there_is_an_index(server: Any) -> None:
    answer = server.ask("GET", "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_static_files_and_nothing_else(server: Any) -> None:
    answer = server.ask("GET", "/static/chat-client.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    for path in ("/static/", "/static/../service.py", "/static/%2e%2e/service.py", "/nowhere", "/chatter"):
        assert server.ask("GET", path).error == "not_found"


# By the head


def begin(server: Any, path: str = "/chat/lobby", headers: str = "", *, kind: str = "application/json") -> Any:
    """What is answered to a post of which only the head has come, None where the body is waited for."""
    peer = server.peer()
    head = f"POST {path} HTTP/1.1\r\nHost: chat.example\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n{headers}\r\n"
    peer.send(head.encode())
    received = peer.received()
    return read_answer(received) if received else None


def test_a_post_is_refused_by_its_head(server: Any) -> None:
    assert begin(server) is None
    for path, headers, kind, status in (
        ("/chat/a/../b", "", "application/json", 400),
        ("/chat/lobby", "", "text/plain", 415),
        ("/chat/lobby", "Content-Encoding: gzip\r\n", "application/json", 415),
        ("/chat/lobby", "X-API-Key: nobody\r\n", "application/json", 401),
        ("/chat/lobby", "Origin: https://elsewhere.example\r\n", "application/json", 403),
        ("/nothing", "", "application/json", 404),
        ("/static/chat.html", "", "application/json", 405),
    ):
        answer = begin(server, path, headers, kind=kind)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
    assert server.site.unfinished.size > 0  # of the first


def test_a_post_without_a_token_is_refused_by_its_head(closed: tuple[Any, Callable[..., str]]) -> None:
    server, _ = closed
    assert begin(server).error == "token_required"
    assert begin(server, headers="Authorization: Bearer a.b.c\r\n").error == "token_invalid"
    assert server.refusals("token_required") == 1
    assert server.site.unfinished.size == 0


def test_an_address_that_posts_too_fast_is_refused_by_the_head(make_server: Callable[..., Any]) -> None:
    server = make_server(limits=Limits(messages_per_address=Rate(1.0, 2)))
    assert begin(server) is None
    for _ in range(2):
        assert server.post({"handle": "ann", "message": "hi"}).status == 201
    assert begin(server).error == "rate_limited"
    server.clock.advance(1)
    assert begin(server) is None  # which counts nothing
    assert server.post({"handle": "ann", "message": "hi"}).status == 201


def test_a_compressed_body_says_what_would_be_taken(server: Any) -> None:
    answer = server.post({"handle": "ann", "message": "hi"}, headers="Content-Encoding: gzip\r\n")
    assert (answer.status, answer.error) == (415, "unsupported_media_type")
    assert answer.headers["accept-encoding"] == "identity"
    assert server.post({"handle": "ann", "message": "hi"}, headers="Content-Encoding: identity\r\n").status == 201


@pytest.mark.parametrize(
    "fields",
    [
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: keep-alive\r\n",
        "Sec-WebSocket-Version: 13\r\nUpgrade: h2c\r\nAccept: text/html\r\n",
    ],
)
def test_a_handshake_whose_upgrade_was_dropped_is_told_so(server: Any, fields: str) -> None:
    answer = server.ask("GET", "/chat/lobby", headers=fields)
    assert (answer.status, answer.error) == (426, "upgrade_missing")
    assert answer.headers["upgrade"] == "websocket"
    assert server.refusals("upgrade_missing") == 1
    assert server.post({"handle": "ann", "message": "hi"}, headers=fields).status == 201
