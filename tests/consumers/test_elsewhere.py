"""Sending from a process without consumers: a server that a test is behind says what arrived, and then a real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.consumers.conftest import Serve, Worker
from tests.relay.redis_server import RedisServer
from twisted_chat.consumers import Channel, Group, elsewhere, send_through
from twisted_chat.consumers import run as running
from twisted_chat.consumers.elsewhere import ApiSender
from twisted_chat.consumers.errors import NotReadyError

PATIENCE = 60.0


class Server(ThreadingHTTPServer):
    """Notes what it is asked, and answers with `answers`, one after the other; none: it hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: list[tuple[int, bytes] | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["X-API-Key"], body))
        answer = self.server.answers.pop(0) if self.server.answers else (200, b'{"id": "1"}')
        if answer is None:
            return
        self.send_response(answer[0])
        self.end_headers()
        self.wfile.write(answer[1])

    def log_message(self, *args: object) -> None:
        """Nothing needs to be said."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(running, "_elsewhere", [])
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_group_is_sent_to(server: Server) -> None:
    send_through(server.url + "/", "the-key\n")
    Group("lobby").send({"text": "¡hola!", "close": 4001})
    [(path, key, fields)] = server.asked
    assert (path, key, len(fields.pop("key"))) == ("/api/send", "the-key", 32)
    assert fields == {"group": "lobby", "text": "¡hola!", "close": 4001}


def test_a_channel_is_sent_to(server: Server) -> None:
    send_through(server.url, "the-key")
    Channel("chat.receive").send({"text": "¡hola!", "data": b"\x00\xff"}, immediately=True)
    [(path, key, fields)] = server.asked
    assert (path, key, len(fields.pop("key"))) == ("/api/send", "the-key", 32)
    assert fields == {"channel": "chat.receive", "content": {"text": "¡hola!", "data": {"\0bytes": "AP8="}}}


def test_each_message_has_a_key_of_its_own(server: Server) -> None:
    send_through(server.url, "k")
    for _ in range(2):
        Group("lobby").send({"text": "hi"})
    assert len({fields["key"] for _, _, fields in server.asked}) == 2


def test_what_was_not_answered_is_sent_again_once(server: Server) -> None:
    send_through(server.url, "k")
    server.answers[:] = [None]
    Group("lobby").send({"text": "hi"})
    assert len(server.asked) == 2
    assert server.asked[0] == server.asked[1]
    server.answers[:] = [None, None]
    with pytest.raises(NotReadyError, match="/api/send cannot be reached"):
        Group("lobby").send({"text": "hi"})
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (503, b'{"error": {"code": "try_again", "message": "later"}}', NotReadyError, "503: later"),
        (401, b'{"error": {"code": "x", "message": "no such key"}}', RuntimeError, "401: no such key"),
        (502, b"<html>", NotReadyError, "502: Bad Gateway"),
        (404, b"[]", RuntimeError, "404: Not Found"),
    ],
)
def test_what_the_server_says_is_raised(
    server: Server, status: int, body: bytes, kind: type[Exception], said: str
) -> None:
    send_through(server.url, "k")
    server.answers[:] = [(status, body)]
    with pytest.raises(kind, match=said):
        Group("lobby").send({"text": "hi"})
    assert len(server.asked) == 1


def test_what_cannot_be_sent(server: Server) -> None:
    send_through(server.url, "k")
    with pytest.raises(TypeError, match="a set cannot be sent"):
        Channel("chat.receive").send({"text": {1}})
    with pytest.raises(TypeError, match="give text"):
        Group("lobby").send({"text": b"\x00"})
    for change in (Group("lobby").add, Group("lobby").discard):
        with pytest.raises(RuntimeError, match="only consumers can"):
            change(Channel("websocket.send!node-1"))
    assert server.asked == []


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ws://127.0.0.1", "http://", "http://127.0.0.1/chat", "file:///x"])
def test_what_is_no_server(url: str) -> None:
    with pytest.raises(ValueError, match="such as http://127"):
        ApiSender(url, "k")


@pytest.mark.parametrize("workers", [False, True], ids=["local", "workers"])
def test_consumers_are_reached_from_elsewhere(
    request: pytest.FixtureRequest, start_server: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: bool
) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    key.chmod(0o600)
    if workers:
        redis: RedisServer = request.getfixturevalue("shared_redis")
        start_worker: Callable[..., Worker] = request.getfixturevalue("start_worker")
        server = start_server("--relay", redis.url, "--consumers", "remote", "--api-key-file", str(key))
        start_worker("--relay", redis.url)
    else:
        server = start_server(
            *("--relay", "memory:", "--routing", "behaviour_app:channel_routing", "--api-key-file", str(key))
        )
    monkeypatch.setattr(running, "_elsewhere", [])
    monkeypatch.setattr(elsewhere, "TIMEOUT", PATIENCE)
    send_through(server.url, key.read_text())
    url = f"{server.url.replace('http', 'ws', 1)}/tool"
    with connect(url, proxy=None, compression=None, open_timeout=PATIENCE) as client:
        client.recv(PATIENCE)
        client.send("who")
        name = str(client.recv(PATIENCE))
        Channel("tool.later").send({"reply_channel": name, "word": "told", "data": b"\x00\xff"})
        assert client.recv(PATIENCE) == "told True"
        Channel(name).send({"bytes": b"\x00\xff"})
        assert client.recv(PATIENCE) == b"\x00\xff"
        client.send("join elsewhere")
        assert client.recv(PATIENCE) == "joined"
        Channel("asgi.delay").send(
            {"channel": "tool.tell", "delay": 20, "content": {"group": "elsewhere", "text": "x"}}
        )
        assert client.recv(PATIENCE) == "x of None"
        Group("elsewhere").send({"bytes": b"all"})
        assert client.recv(PATIENCE) == b"all"
