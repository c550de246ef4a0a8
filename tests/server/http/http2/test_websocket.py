"""WebSockets over HTTP/2 (RFC 8441), with Autobahn's protocol behind them: how they are opened and answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from websockets.frames import Close, Frame, Opcode

from tests.conftest import LoggedFailures
from tests.server.http.http2.conftest import OpenSocket, Serve
from twisted_chat.server.http.upgrade import upgrade

VERSION = ("sec-websocket-version", "13")


def test_echo_and_close_by_the_client(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client, "/chat/x?token=secret")
    assert client.head(socket.stream)[b":status"] == b"200"
    assert not {b"upgrade", b"connection", b"sec-websocket-accept"} & client.head(socket.stream).keys()
    assert socket.say("hi") == [Frame(Opcode.TEXT, b"hi")]
    socket.protocol.send_close(1000, "bye")
    (close,) = socket.exchange()
    assert Close.parse(close.data).code == 1000
    assert client.ended(socket.stream)
    assert resource.sockets[0].seen == [("open",), ("message", b"hi"), ("close", True, 1000)]
    assert resource.sockets[0].asked.path == "/chat/x"
    assert resource.sockets[0].asked.params == {}
    assert resource.ends == []
    assert site.refused == []


def test_close_by_the_server_ends_the_stream_and_does_not_reset_it(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    resource.sockets[0].sendClose(3001, "going away")
    (close,) = socket.exchange()
    assert Close.parse(close.data).code == 3001
    socket.exchange()
    assert client.ended(socket.stream)
    assert client.reset_code(socket.stream) is None
    assert resource.sockets[0].seen == [("open",), ("close", True, 3001)]
    # A client that then ends its half, as browsers do, leaves nothing behind.
    client.send(socket.stream, b"", end=True)
    client.clock.advance(6)
    client.exchange()
    assert client.reset_code(socket.stream) is None


def test_subprotocol_and_extensions_pass_through(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    fields = [("sec-websocket-protocol", "chat, superchat"), ("sec-websocket-extensions", "permessage-deflate")]
    socket = open_socket(client, "/chat/x", *fields)
    assert client.head(socket.stream)[b"sec-websocket-protocol"] == b"chat"
    assert resource.sockets[0].asked.protocols == ["chat", "superchat"]
    assert resource.sockets[0].asked.extensions == [("permessage-deflate", {})]


def test_fields_that_are_asked_for_pass_through_and_no_others(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    open_socket(site.client(), "/chat/x", ("cookie", "a=1"), ("x-tracing", "7"), ("origin", "https://evil.test"))
    resource.upgrade(b"x-tracing", b"x-missing")
    fields = resource.sockets[0].asked.headers
    assert fields["x-tracing"] == "7"
    assert not {"cookie", "origin", "x-missing"} & fields.keys()


def test_denial_becomes_the_status(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client, "/chat/denied")
    assert client.head(socket.stream)[b":status"] == b"403"
    assert client.ended(socket.stream)
    assert ("open",) not in resource.sockets[0].seen


@pytest.mark.parametrize("fields", [[], [("sec-websocket-version", "8")], [VERSION, VERSION]])
def test_wrong_version_is_refused_before_anything_is_upgraded(room: Any, fields: list[tuple[str, str]]) -> None:
    resource, site = room()
    client = site.client()
    stream = client.connect("/chat/x", *fields)
    head = client.head(stream)
    assert head[b":status"] == b"400"
    assert head[b"sec-websocket-version"] == b"13"
    assert json.loads(client.body(stream))["error"]["code"] == "bad_handshake"
    assert client.ended(stream)
    assert resource.sockets[0].seen == []
    assert site.refused == ["bad_handshake"]


@pytest.mark.parametrize(
    "field",
    [
        ("sec-websocket-protocol", "chat\x01"),
        ("sec-websocket-extensions", "a\x0bb"),
        ("sec-websocket-protocol", "ch\x85at"),
    ],
)
def test_control_characters_are_refused(room: Any, field: tuple[str, str]) -> None:
    _, site = room()
    client = site.client()
    stream = client.connect("/chat/x", VERSION, field)
    assert client.head(stream)[b":status"] == b"400"
    assert json.loads(client.body(stream))["error"]["code"] == "bad_handshake"


def test_control_characters_in_other_fields_are_left_out(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    open_socket(site.client(), "/chat/x", ("x-tracing", "7\x85evil: 1"))
    resource.upgrade(b"x-tracing")
    assert "x-tracing" not in resource.sockets[0].asked.headers
    assert resource.sockets[0].seen == [("open",)]


def test_other_requests_are_ordinary(room: Any) -> None:
    _, site = room()
    client = site.client()
    assert client.body(client.request("GET", "/chat/x")) == b"a page"
    assert client.head(client.connect("/chat/x", VERSION, protocol="webtransport"))[b":status"] == b"501"


def test_several_sockets_and_requests_on_one_connection(room: Any, open_socket: OpenSocket) -> None:
    _, site = room()
    client = site.client()
    sockets = [open_socket(client) for _ in range(20)]
    for number, socket in enumerate(sockets):
        assert [bytes(frame.data) for frame in socket.say(f"from {number}")] == [b"from %d" % number]
        assert client.body(client.request("GET", "/chat/x")) == b"a page"


def test_upgrade_of_a_client_that_has_left_is_an_error(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    client = site.client()
    socket = open_socket(client)
    client.h2.reset_stream(socket.stream)
    client.exchange()
    assert len(resource.ends) == 1
    with pytest.raises(ConnectionLost, match="left before"):
        resource.upgrade()


def test_failing_protocol_fails_its_stream_only(serve: Serve, logged_failures: LoggedFailures) -> None:
    class Broken(Protocol):
        def dataReceived(self, data: bytes) -> None:
            if data.startswith(b"GET") and b"/early" not in data:
                assert self.transport is not None
                self.transport.write(b"HTTP/1.1 101 x\r\n\r\n")
                return
            raise ZeroDivisionError

    class Upgrades(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes | int:
            upgrade(request, Broken())
            return NOT_DONE_YET

    client = serve(Upgrades()).client()
    early = client.connect("/early", VERSION)
    late = client.connect("/late", VERSION)
    client.send(late, b"x")
    assert client.reset_code(early) == ErrorCodes.CANCEL
    assert client.reset_code(late) == ErrorCodes.INTERNAL_ERROR
    assert len(logged_failures.flush(ZeroDivisionError)) == 2
    assert client.goaway_code() is None


def test_protocol_that_does_not_answer_in_http_is_reset(serve: Serve, logged_failures: LoggedFailures) -> None:
    class Talks(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"hello\r\n\r\n")

    class Upgrades(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes | int:
            upgrade(request, Talks())
            return NOT_DONE_YET

    client = serve(Upgrades()).client()
    stream = client.connect("/", VERSION)
    assert client.reset_code(stream) == ErrorCodes.INTERNAL_ERROR
    assert len(logged_failures.flush(ValueError)) == 1


def test_answer_in_pieces(serve: Serve) -> None:
    class Stammers(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            for piece in (b"HTTP/1.1 101 x\r\n", b"X: y\r\n\r", b"\nfirst", b" second"):
                self.transport.write(piece)

    class Upgrades(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes | int:
            upgrade(request, Stammers())
            return NOT_DONE_YET

    client = serve(Upgrades()).client()
    stream = client.connect("/", VERSION)
    assert client.head(stream) == {b":status": b"200", b"x": b"y"}
    assert client.body(stream) == b"first second"


def test_host_that_was_changed_on_the_way_is_checked_too(serve: Serve) -> None:
    class Upgrades(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes | int:
            request.requestHeaders.setRawHeaders(b"host", [b"evil.test\x85x: y"])
            upgrade(request, Protocol())
            return NOT_DONE_YET

    client = serve(Upgrades()).client()
    assert client.head(client.connect("/", VERSION))[b":status"] == b"400"
