"""The commands of ``python -m twisted_chat``: what they are given, what they say, how they end."""

from __future__ import annotations

import io
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.relay.redis_server import making
from tests.server.tls.conftest import Issued
from twisted_chat import __main__ as tools
from twisted_chat import __version__
from twisted_chat.auth import TokenKeys
from twisted_chat.client import ClientError
from twisted_chat.core.errors import ChatError

ROOM = "http://127.0.0.1:8080/chat/lobby"

Said = Callable[[], tuple[str, str]]


class Client:
    """Stands in for `RoomClient`."""

    made: list[tuple[str, dict[str, Any]]]
    published: list[tuple[str | None, str, str | None]]

    def __init__(self, url: str, **options: Any) -> None:
        self.made.append((url, options))

    def publish(self, handle: str | None, message: str, key: str | None) -> dict[str, Any]:
        if message == "too much":
            raise ClientError(f"{ROOM}: a message may have 4096 characters")
        self.published.append((handle, message, key))
        return {"id": f"e-{len(self.published)}-1"}

    def follow(self, since: str | None, on_reset: Callable[[], None]) -> Iterator[dict[str, Any]]:
        on_reset()
        yield {"timestamp": "2026-11-22T07:20:00.123456Z", "handle": "ann", "message": f"after {since}"}
        raise KeyboardInterrupt


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    monkeypatch.setattr(tools, "RoomClient", Client)
    Client.made, Client.published = [], []
    return Client


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was written to standard output and error since the last call."""
    return lambda: tuple(capsys.readouterr())  # type: ignore[return-value]  # a pair, which mypy cannot count


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path


# Tokens


def test_a_token_is_one_that_the_server_takes(key_file: Path, said: Said) -> None:
    options = ["--handle", "ann", "--read", "team/*", "--write", "team/blue", "--audience", "chat"]
    assert tools.main(["token", "u1", "--key-file", str(key_file), *options]) == 0
    token, errors = said()
    assert errors == ""
    identity = TokenKeys.from_file(key_file, "chat").verify(token.strip(), time.time())
    assert (identity.user, identity.handle) == ("u1", "ann")
    assert "team/red" in identity.read
    assert "team/red" not in identity.write
    assert "team/blue" in identity.write


def test_a_token_ends(key_file: Path, said: Said) -> None:
    tools.main(["token", "u1", "--key-file", str(key_file), "--expires-in", "60"])
    token = said()[0].strip()
    keys = TokenKeys.from_file(key_file)
    assert keys.verify(token, time.time() + 30).user == "u1"
    with pytest.raises(ChatError, match="expired"):
        keys.verify(token, time.time() + 120)
    tools.main(["token", "u1", "--key-file", str(key_file)])
    assert keys.verify(said()[0].strip(), time.time() + 3500).user == "u1"


def test_a_token_that_cannot_be_made(tmp_path: Path, said: Said, key_file: Path) -> None:
    assert tools.main(["token", "u1", "--key-file", str(tmp_path / "nowhere")]) == 1
    assert said() == (
        "",
        f"twisted_chat token: the key file {tmp_path}/nowhere cannot be read: No such file or directory\n",
    )
    assert tools.main(["token", "", "--key-file", str(key_file)]) == 1
    output, errors = said()
    assert (output, errors.startswith("twisted_chat token: "), errors.count("\n")) == ("", True, 1)


# Publishing


def test_publish_says_the_id(client: type[Client], said: Said) -> None:
    assert tools.main(["publish", ROOM, "--handle", "ann", "--key", "k1", "hi"]) == 0
    assert client.made == [(ROOM, {"token": None, "api_key": None, "verify": True})]
    assert client.published == [("ann", "hi", "k1")]
    assert said() == ("e-1-1\n", "")


def test_publish_reads_lines(client: type[Client], said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\n  \n two\ntoo much\nnever\n"))
    assert tools.main(["publish", ROOM]) == 1
    assert client.published == [(None, "one", None), (None, " two", None)]
    assert said() == ("e-1-1\ne-2-1\n", f"twisted_chat publish: {ROOM}: a message may have 4096 characters\n")


@pytest.mark.parametrize("arguments", [["publish", ROOM, ""], ["publish", ROOM, " \u200b"], ["publish", ROOM]])
def test_nothing_to_publish(
    arguments: list[str], client: type[Client], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    assert tools.main(arguments) == 1
    output, errors = said()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith("twisted_chat publish: ")


def test_secrets_come_from_files(client: type[Client], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("# for cron\n\n t0ken \nanother\n")
    (tmp_path / "api-key").write_text("k3y")
    files = ["--token-file", str(tmp_path / "token"), "--api-key-file", str(tmp_path / "api-key")]
    assert tools.main(["publish", ROOM, *files, "--insecure", "hi"]) == 0
    assert client.made == [(ROOM, {"token": "t0ken", "api_key": "k3y", "verify": False})]


@pytest.mark.parametrize("option", ["--token-file", "--api-key-file"])
def test_a_secret_that_is_not_there(client: type[Client], tmp_path: Path, said: Said, option: str) -> None:
    assert tools.main(["publish", ROOM, option, str(tmp_path / "nowhere"), "hi"]) == 1
    assert "No such file or directory" in said()[1]
    (tmp_path / "empty").write_text("# nothing\n")
    assert tools.main(["publish", ROOM, option, str(tmp_path / "empty"), "hi"]) == 1
    assert said()[1] == f"twisted_chat publish: {tmp_path}/empty is empty\n"
    assert client.published == []


# Following


def test_tail_prints_until_it_is_interrupted(client: type[Client], said: Said) -> None:
    assert tools.main(["tail", ROOM, "--since", "e-1-1"]) == 130
    output, errors = said()
    assert output == "2026-11-22T07:20:00.123456Z ann: after e-1-1\n"
    assert errors == "twisted_chat tail: the history does not reach back so far; messages may be missing here\n"


# Nodes


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the server says of its nodes; how it was asked comes first."""
    said: list[dict[str, Any]] = []

    class Server:
        def __init__(self, url: str, **options: Any) -> None:
            said.insert(0, {"url": url, **options})

        def nodes(self) -> list[dict[str, Any]]:
            return said[1:]

    monkeypatch.setattr(tools, "ApiClient", Server)
    monkeypatch.setattr(time, "time", lambda: 1_795_000_000.0)
    return said


def test_nodes_are_a_table(nodes: list[dict[str, Any]], tmp_path: Path, said: Said) -> None:
    for name, up in (("a", 0.2), ("b-long-name", 3_725.0), ("c", 100_000.0), ("d", -5.0)):
        started = 1_795_000_000.0 - up
        nodes.append({"name": name, "version": "1.0", "started": started, "rooms": 3, "members": 12})
    nodes.append({"name": "of another version"})
    (tmp_path / "api-key").write_text("k3y")
    assert tools.main(["nodes", "http://127.0.0.1:8080", "--api-key-file", str(tmp_path / "api-key")]) == 0
    assert nodes[0] == {"url": "http://127.0.0.1:8080", "api_key": "k3y", "verify": True}
    output, errors = said()
    assert errors == ""
    assert output.splitlines() == [
        "NAME                VERSION  UP FOR  ROOMS  MEMBERS",
        "a                   1.0      0s      3      12",
        "b-long-name         1.0      1h 2m   3      12",
        "c                   1.0      1d 3h   3      12",
        "d                   1.0      0s      3      12",
        "of another version  ?        0s      ?      ?",
    ]


# Events that were set aside


class EventServer:
    """What there is, and what was asked for."""

    events: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, url: str, **options: Any) -> None:
        self.asked.append((url, options["api_key"]))

    def set_aside(self) -> list[dict[str, Any]]:
        return self.events

    def replay(self, event: str) -> None:
        self.asked.append(("replay", event))

    def drop(self, event: str) -> None:
        if event == "unknown":
            raise ClientError("no event of this name")
        self.asked.append(("drop", event))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command with more arguments."""
    EventServer.events, EventServer.asked = [], []
    monkeypatch.setattr(tools, "ApiClient", EventServer)
    monkeypatch.setattr(time, "time", lambda: 1_795_000_000.0)
    (tmp_path / "api-key").write_text("k3y")
    return lambda *more: tools.main(
        ["events", "http://127.0.0.1:8080", "--api-key-file", str(tmp_path / "api-key"), *more]
    )


def test_events_are_a_table(events: Callable[..., int], said: Said) -> None:
    about = {"channel": "websocket.receive", "connection": "a-1", "bytes": 1234, "content": '{"text":"' + "x" * 100}
    EventServer.events = [
        {"id": "1794999998000-0", "at": 1_794_999_998.0, **about},
        {"id": "1-0", "at": 1_795_000_000.0, "channel": None, "connection": "b-1", "bytes": 7, "content": None},
    ]
    assert events() == 0
    assert said()[0].splitlines() == [
        "ID               SINCE  CHANNEL            CONNECTION  BYTES  CONTENT",
        f'1794999998000-0  2s     websocket.receive  a-1         1234   {{"text":"{"x" * 71}',
        "1-0              0s     ?                  b-1         7      ?",
    ]


def test_events_are_run_again_and_dropped(events: Callable[..., int], said: Said) -> None:
    assert events("--replay", "1-0", "--drop", "2-0", "--replay", "3-0") == 0
    assert said() == ("", "")
    assert EventServer.asked[1:] == [("replay", "1-0"), ("replay", "3-0"), ("drop", "2-0")]
    assert events("--drop", "unknown") == 1
    assert "no event of this name" in said()[1]


# Checking


def test_check(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tools.main(["check", "-p", "tcp:8080", "--relay", "memory:"]) == 0
    assert said()[0] == "the configuration is good\n"
    assert tools.main(["check", "-p", "tcp:80x"]) == 1
    output, errors = said()
    assert (output, errors.startswith("twisted_chat check: --port: "), errors.count("\n")) == ("", True, 1)
    assert list(tmp_path.iterdir()) == []


def test_check_warns_of_what_redis_is_set_up_to_do(tmp_path: Path) -> None:
    def check(url: str) -> list[str]:
        command = [sys.executable, "-m", "twisted_chat", "check", "--relay", url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
        assert (done.returncode, done.stdout) == (0, "the configuration is good\n"), done.stderr
        return done.stderr.splitlines()

    with making() as make:
        redis = make("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
        redis.start()
        [warning] = check(redis.url)
        assert warning.startswith(f"twisted_chat check: warning: {redis.url}: it throws")
        redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert check(redis.url) == []
        redis.kill()
        [warning] = check(redis.url)
        assert "could not be asked" in warning


def test_check_warns_of_what_clients_may_refuse(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Issued(common_name="root", ca=True)
    Issued("a.example", issuer=root).write(tmp_path, "a")
    monkeypatch.chdir(tmp_path)
    assert tools.main(["check", "-p", "tls:8443", "--certificates", ".", "--relay", "memory:"]) == 0
    output, errors = said()
    assert output == "the configuration is good\n"
    assert errors.startswith("twisted_chat check: warning: ")
    assert "CN=root" in errors


@pytest.mark.parametrize(
    ("file", "options", "complaint"),
    [
        ('{"keys": []}', ["--token-key-file", "file"], "the key file file has no key that can be used"),
        (json.dumps({"keys": 3}), ["--token-key-file", "file"], "the key file file is JSON, but no JWK set"),
        ("short", ["--api-key-file", "file"], "the key file file"),
        ("", ["--certificates", ".", "-p", "tls:443"], "no usable certificate in .: it has no .pem, .crt, .cer"),
        ("", ["--relay", "sqlite:nowhere/chat.db"], "sqlite:nowhere/chat.db: there is no directory nowhere"),
        ("", ["--allow-origin", "example.com"], "'example.com' is no origin to allow: it needs a scheme"),
    ],
)
def test_check_looks_at_what_is_named(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, options: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text(file)
    Path("file").chmod(0o600)
    assert tools.main(["check", *options]) == 1
    output, errors = said()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith(f"twisted_chat check: {complaint}")


def test_check_says_what_is_wrong_with_an_option(said: Said) -> None:
    with pytest.raises(SystemExit) as error:
        tools.main(["check", "--relay"])
    assert str(error.value.code).startswith("python -m twisted_chat check: option --relay requires argument.")


def test_help_of_check_is_its_own(said: Said) -> None:
    with pytest.raises(SystemExit) as error:
        tools.main(["check", "--help"])
    assert error.value.code in (0, None)
    assert said()[0].startswith("Usage: python -m twisted_chat check [options]\n")


# The rest


def test_version(said: Said) -> None:
    with pytest.raises(SystemExit) as error:
        tools.main(["--version"])
    assert (error.value.code, said()[0]) == (0, f"twisted_chat {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["nodes", "http://127.0.0.1:8080"],
        ["publish"],
        ["token", "u1"],
        ["tail", ROOM, "hi"],
        ["publish", ROOM, "hi", "--loud"],
    ],
)
def test_what_is_no_command(arguments: list[str], said: Said) -> None:
    with pytest.raises(SystemExit) as error:
        tools.main(arguments)
    assert error.value.code == 2
    assert "usage: " in said()[1]


def test_arguments_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch, client: type[Client]) -> None:
    monkeypatch.setattr("sys.argv", ["twisted_chat", "publish", ROOM, "hi"])
    assert tools.main() == 0
    assert client.published == [(None, "hi", None)]
