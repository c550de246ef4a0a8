"""The client of the command line, against servers that answer as they are told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from threading import Thread
from typing import Any

import pytest

from twisted_chat.client import AGAIN, ApiClient, ClientError, RoomClient, Unreachable

EVENTS = "text/event-stream"
JSON = "application/json"


class Script:
    """A server that gives its answers in turn, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - `self` is the script
                length = int(handler.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in handler.headers.items()}
                self.paths.append(handler.path)
                self.asked.append((handler.command, headers, handler.rfile.read(length)))
                status, answered, body = self.answers.pop(0)
                handler.send_response(status)
                for name, value in answered.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/chat/lobby"

    def answer(self, status: int, body: bytes | dict[str, Any], kind: str = JSON) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, {"content-type": kind}, content))

    def stream(self, text: str) -> None:
        self.answer(200, text.encode(), EVENTS)

    def broken_stream(self, text: str) -> None:
        """One that promises more than it has."""
        body = text.encode()
        headers = {"content-type": EVENTS, "transfer-encoding": "chunked"}
        self.answers.append((200, headers, b"%x\r\n%b\r\nff\r\nid:" % (len(body), body)))


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    thread = Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield script
    script.server.shutdown()
    script.server.server_close()
    thread.join()


@pytest.fixture
def no_server() -> Iterator[str]:
    """The URL of a port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/chat/lobby"


def event(position: str, message: str) -> str:
    return f"id: {position}\ndata: {json.dumps({'message': message})}\n\n"


def follow(client: RoomClient, count: int, **options: Any) -> tuple[list[str], list[float]]:
    """So many messages, and how long it slept in between."""
    slept: list[float] = []
    messages = client.follow(sleep=slept.append, **options)
    return [fields["message"] for fields in islice(messages, count)], slept


# The API


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_secrets_do_not_follow_to_another_server(script: Script, status: int) -> None:
    script.answers.append((status, {"location": "http://evil.example/", "content-length": "0"}, b""))
    with pytest.raises(ClientError, match=r"elsewhere: give 'http://evil\.example/' if you trust that one$"):
        RoomClient(script.url, token="secret", api_key="secret").publish("ann", "hi")
    assert len(script.asked) == 1


def test_nodes(script: Script) -> None:
    script.answer(200, {"nodes": [{"name": "a"}]})
    server = script.url.removesuffix("chat/lobby")
    assert ApiClient(server, api_key="k3y").nodes() == [{"name": "a"}]
    ((method, headers, _),) = script.asked
    assert (method, headers["x-api-key"]) == ("GET", "k3y")
    assert script.paths == ["/api/nodes"]


def test_what_the_api_refuses(script: Script) -> None:
    script.answer(401, {"error": {"code": "api_key_invalid", "message": "the API key is not one of this server's"}})
    with pytest.raises(ClientError, match=r"/api/nodes: the API key is not one of this server's$"):
        ApiClient(script.url.removesuffix("/chat/lobby"), api_key="k3y").nodes()


def test_what_is_no_server_of_ours() -> None:
    with pytest.raises(ClientError, match=r"is no server's URL; give for example http://127\.0\.0\.1:8080$"):
        ApiClient("127.0.0.1:8080")


def test_a_server_that_answers_otherwise(script: Script) -> None:
    script.answer(200, b"<p>hello</p>", "text/html")
    with pytest.raises(ClientError, match="this is not a server, which would answer with application/json, not text"):
        ApiClient(script.url.removesuffix("/chat/lobby")).nodes()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"nodes"'])
def test_a_server_whose_answer_is_another(script: Script, body: bytes) -> None:
    script.answer(200, body, "application/json")
    with pytest.raises(ClientError, match="this is not a server, whose answer would have 'nodes'"):
        ApiClient(script.url.removesuffix("/chat/lobby")).nodes()


def test_the_url_of_a_room_is_no_servers() -> None:
    with pytest.raises(ClientError, match="is no server's URL"):
        ApiClient("http://127.0.0.1:8080/chat/lobby")


# Posting


def test_publish(script: Script) -> None:
    script.answer(201, {"id": "e-1-1", "message": "hi"})
    stored = RoomClient(script.url, token="t0ken").publish("ann", "hi ✓", "k1")
    assert stored == {"id": "e-1-1", "message": "hi"}
    ((method, headers, body),) = script.asked
    assert method == "POST"
    assert json.loads(body) == {"handle": "ann", "message": "hi ✓", "key": "k1"}
    assert headers["content-type"] == JSON
    assert headers["authorization"] == "Bearer t0ken"
    assert "x-api-key" not in headers


def test_what_is_not_given_is_not_sent(script: Script) -> None:
    script.answer(201, {"id": "e-1-1"})
    RoomClient(script.url, api_key="k3y").publish(None, "hi")
    ((_, headers, body),) = script.asked
    assert json.loads(body) == {"message": "hi"}
    assert headers["x-api-key"] == "k3y"
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"code": "token_required", "message": "send a token"}}, "send a token"),
        (404, b"<h1>nothing</h1>", "404 Not Found"),
        (400, {"error": "wrong"}, "400 Bad Request"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(
    script: Script, status: int, body: bytes | dict[str, Any], said: str
) -> None:
    script.answer(status, body)
    with pytest.raises(ClientError) as error:
        RoomClient(script.url).publish("ann", "hi")
    assert str(error.value) == f"{script.url}: {said}"
    assert not isinstance(error.value, Unreachable)


def test_what_is_no_room(script: Script) -> None:
    script.answer(200, b"welcome", "text/html")
    with pytest.raises(
        ClientError, match="this is not a room, which would answer with application/json, not text/html"
    ):
        RoomClient(script.url).publish("ann", "hi")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080/chat/lobby",
        "ws://127.0.0.1/chat/",
        "file:///etc/passwd",
        "",
        "http://",
        "http:///chat/x",
        "http://a:b/",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ClientError, match="is no room's URL; give for example http://"):
        RoomClient(url)


def test_nobody_there(no_server: str) -> None:
    client = RoomClient(no_server)
    for call in (lambda: client.publish("ann", "hi"), lambda: next(client.follow())):
        with pytest.raises(Unreachable) as error:
            call()
        assert str(error.value).startswith(f"{no_server}: ")


@pytest.mark.parametrize("words", [b"", b"\x15\x03\x01\x00\x02\x02\x46", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_who_speaks_something_else(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/chat/lobby"

        def serve(count: int) -> None:
            for _ in range(count):
                connection, _ = listening.accept()
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    connection.sendall(words)

        thread = Thread(target=serve, args=(2,))
        thread.start()
        client = RoomClient(url)
        for call in (lambda: client.publish("ann", "hi"), lambda: next(client.follow())):
            with pytest.raises(Unreachable, match="no answer in HTTP"):
                call()
        thread.join()


# Following


def test_follow(script: Script) -> None:
    script.stream(f":\n\nid: e-0-0\n\n{event('e-1-1', 'one')}: comment\n\n{event('e-2-2', 'two')}")
    assert follow(RoomClient(script.url, token="t0ken"), 2) == (["one", "two"], [])
    ((method, headers, _),) = script.asked
    assert method == "GET"
    assert headers["accept"] == EVENTS
    assert headers["authorization"] == "Bearer t0ken"
    assert "last-event-id" not in headers


def test_it_begins_where_it_is_told(script: Script) -> None:
    script.stream(event("e-8-8", "eight"))
    follow(RoomClient(script.url), 1, since="e-7-7")
    assert script.asked[0][1]["last-event-id"] == "e-7-7"


def test_it_goes_on_where_it_broke_off(script: Script) -> None:
    script.stream(event("e-1-1", "one") + event("e-2-2", "two") + "id: e-3-3\ndata: {}")  # in the middle of an event
    script.stream("id: e-2-2\n\n")
    script.broken_stream(event("e-3-3", "three"))
    script.stream(event("e-4-4", "four"))
    assert follow(RoomClient(script.url), 4) == (["one", "two", "three", "four"], [AGAIN] * 3)
    assert [headers.get("last-event-id") for _, headers, _ in script.asked] == [None, "e-2-2", "e-2-2", "e-3-3"]


def test_it_waits_for_a_server_that_takes_nobody(script: Script) -> None:
    script.stream(event("e-1-1", "one"))
    script.answer(503, {"error": {"code": "going_away", "message": "later"}})
    script.answer(429, {"error": {"code": "too_many_from_address", "message": "later"}})
    script.stream(event("e-2-2", "two"))
    assert follow(RoomClient(script.url), 2) == (["one", "two"], [AGAIN] * 3)


def test_it_does_not_wait_for_what_will_not_change(script: Script) -> None:
    script.stream(event("e-1-1", "one"))
    script.answer(401, {"error": {"code": "token_expired", "message": "the token expired"}})
    messages = RoomClient(script.url).follow(sleep=lambda _: None)
    assert next(messages)["message"] == "one"
    with pytest.raises(ClientError, match="the token expired"):
        next(messages)


def test_at_first_it_waits_for_nothing(script: Script) -> None:
    script.answer(503, {"error": {"code": "going_away", "message": "later"}})
    with pytest.raises(Unreachable, match="later"):
        next(RoomClient(script.url).follow())
    script.answer(200, b"<h1>hello</h1>", "text/html")
    with pytest.raises(ClientError, match="this is not a room, which would answer with text/event-stream"):
        next(RoomClient(script.url).follow())


def test_a_reset_is_told(script: Script) -> None:
    reset = json.dumps({"event": "reset", "position": "f-5-5"})
    script.stream(f"event: event\nid: f-5-5\ndata: {reset}\n\n{event('f-6-6', 'six')}")
    script.stream(event("f-7-7", "seven"))
    resets: list[str] = []
    messages, _ = follow(RoomClient(script.url), 2, since="e-1-1", on_reset=lambda: resets.append("reset"))
    assert (messages, resets) == (["six", "seven"], ["reset"])
    assert script.asked[1][1]["last-event-id"] == "f-6-6"


@pytest.mark.parametrize(
    "named",
    ['event: event\ndata: {"event": "join", "handle": "bob"}\n\n', 'event: refused\ndata: {"error": {}}\n\n'],
)
def test_other_events_are_not_messages(script: Script, named: str) -> None:
    script.stream(named + event("e-1-1", "one"))
    assert follow(RoomClient(script.url), 1) == (["one"], [])
