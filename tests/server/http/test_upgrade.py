"""WebSockets on HTTP/1.1: a request's connection becomes Autobahn's, on every kind of transport.

The same over HTTP/2 is in http2/test_websocket.py.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet import ssl
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint, wrapServerTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.haproxy import proxyEndpoint
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.sync.client import ClientConnection, connect, unix_connect
from websockets.uri import parse_uri

from tests.conftest import LoggedFailures
from tests.server.http.echo_socket import EchoSocket
from tests.threaded_tls import threaded_context
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.http.upgrade import is_websocket_request, upgrade
from twisted_chat.server.tls.self_signed import FILE_NAME, make_self_signed

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
ASKS = (
    b"GET /chat/x?token=secret HTTP/1.1\r\nHost: chat.test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
)


class Room(Resource):
    """Upgrades to an echo, at once or when the test says so."""

    isLeaf = True

    def __init__(self, reactor: IReactorTime, *, at_once: bool = True) -> None:
        super().__init__()
        self.factory = WebSocketServerFactory(reactor=reactor)
        self.factory.protocol = EchoSocket
        self.factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=5, closeHandshakeTimeout=5)
        self.sockets: list[EchoSocket] = []
        self.requests: list[Request] = []
        self.ends: list[Any] = []
        self._at_once = at_once

    def render(self, request: Request) -> bytes | int:
        if not is_websocket_request(request):
            return b"a page"
        self.requests.append(request)
        request.notifyFinish().addBoth(self.ends.append)
        if self._at_once:
            self.upgrade()
        return NOT_DONE_YET

    def upgrade(self, *headers: bytes) -> None:
        self.sockets.append(cast("EchoSocket", self.factory.buildProtocol(None)))
        upgrade(self.requests[-1], self.sockets[-1], headers)


class Transport(StringTransport):
    """A transport that lets go of a producer twice, as real ones do."""

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()


class Server:
    """A room and one connection to it, in memory."""

    def __init__(self, clock: Clock, *, at_once: bool = True) -> None:
        self.clock = clock
        self.refused: list[str] = []
        self.room = Room(clock, at_once=at_once)
        self.site = ChatSite(self.room, reactor=clock, on_refused=self.refused.append)
        self.transport = Transport(lenient=True)
        self.switch = self.site.buildProtocol(None)
        self.switch.makeConnection(self.transport)
        self.client = ClientProtocol(parse_uri("ws://chat.test/chat/x"))

    def send(self, data: bytes) -> bytes:
        """What is answered at once."""
        self.transport.clear()
        self.switch.dataReceived(data)
        self.clock.advance(0)
        return bytes(self.transport.value())

    def exchange(self) -> list[Any]:
        """Send what the client has to say, all in one segment; the frames that came."""
        self.client.receive_data(self.send(b"".join(self.client.data_to_send())))
        return self.client.events_received()

    def open(self) -> EchoSocket:
        self.client.send_request(self.client.connect())
        self.exchange()
        return self.room.sockets[0]

    def lose(self) -> None:
        self.switch.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def serve(**options: Any) -> Server:
        clock = Clock()
        # Autobahn's timers are txaio's, whatever reactor the factory has.
        monkeypatch.setattr("txaio.config.loop", clock)
        servers.append(Server(clock, **options))
        return servers[-1]

    yield serve
    for server in servers:
        if server.switch in server.site.connections:
            server.lose()
        server.clock.advance(6)  # Autobahn leaves its batch of time-outs for closing handshakes to run out
        assert server.clock.getDelayedCalls() == []


# In memory


def test_echo_and_close_by_the_client(serve: Callable[..., Server]) -> None:
    server = serve()
    protocol = server.open()
    server.client.send_text(b"hi")
    assert server.exchange() == [Frame(Opcode.TEXT, b"hi")]
    server.client.send_close(1000)
    (close,) = server.exchange()
    assert Close.parse(close.data).code == 1000
    assert server.transport.disconnecting
    server.lose()
    assert protocol.seen == [("open",), ("message", b"hi"), ("close", True, 1000)]
    # The request is neither finished nor lost.
    assert server.room.ends == []


def test_close_by_the_server_does_not_abort(serve: Callable[..., Server]) -> None:
    server = serve()
    protocol = server.open()
    server.transport.clear()
    protocol.sendClose(3001, "going away")
    server.client.receive_data(server.transport.value())
    server.exchange()
    assert server.transport.disconnecting
    assert not server.transport.disconnected
    server.lose()
    assert protocol.seen == [("open",), ("close", True, 3001)]


def test_handshake_has_what_it_needs_and_nothing_else(serve: Callable[..., Server]) -> None:
    server = serve()
    server.send(
        ASKS + KEY + VERSION + b"Cookie: a=1\r\nOrigin: https://evil.test\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
    asked = server.room.sockets[0].asked
    assert asked is not None
    assert asked.headers.keys() == {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-version",
        "sec-websocket-key",
        "sec-websocket-protocol",
    }
    assert (asked.path, asked.params, asked.host) == ("/chat/x", {}, "chat.test")


def test_fields_that_are_asked_for_pass_through(serve: Callable[..., Server]) -> None:
    server = serve(at_once=False)
    server.send(ASKS + KEY + VERSION + b"X-Tracing: 7\r\nX-Bad: a\x85b\r\n\r\n")
    server.room.upgrade(b"x-tracing", b"x-bad", b"x-missing")
    asked = server.room.sockets[0].asked
    assert asked is not None
    assert asked.headers["x-tracing"] == "7"
    assert not {"x-bad", "x-missing"} & asked.headers.keys()


def test_frames_in_the_segment_of_the_handshake(serve: Callable[..., Server]) -> None:
    server = serve()
    server.client.send_request(server.client.connect())
    # The client must not know that it is early.
    early = b"\x81\x85\0\0\0\0early"
    answer = server.send(b"".join(server.client.data_to_send()) + early)
    assert answer.endswith(b"\x81\x05early")


def test_frames_before_an_upgrade_that_takes_its_time(serve: Callable[..., Server]) -> None:
    server = serve(at_once=False)
    server.send(ASKS + KEY + VERSION + b"\r\n\x81\x81\0\0\0\0a")
    # Enough for the channel to stop reading.
    message = b"\x82\xfe\x40\x00\0\0\0\0" + b"x" * 0x4000
    server.send(message)
    assert server.transport.producerState == "paused"
    server.clock.advance(100)
    server.room.upgrade()
    assert server.transport.producerState == "producing"
    assert [event[0] for event in server.room.sockets[0].seen] == ["open", "message", "message"]


def test_socket_owns_its_transport(serve: Callable[..., Server]) -> None:
    server = serve()
    protocol = server.open()
    assert server.transport.producer is None
    assert protocol.transport is server.transport
    # No deadline of HTTP is left, and its end is the protocol's alone.
    server.clock.advance(1_000)
    assert not server.transport.disconnecting
    server.lose()
    assert protocol.seen == [("open",), ("close", False, 1006)]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (ASKS + KEY + b"\r\n", 426),
        (ASKS + KEY + b"Sec-WebSocket-Version: 8\r\n\r\n", 426),
        (ASKS + KEY + VERSION + VERSION + b"\r\n", 426),
        (ASKS + VERSION + b"\r\n", 400),
        (ASKS + VERSION + KEY + KEY + b"\r\n", 400),
        (ASKS + VERSION + b"Sec-WebSocket-Key: short\r\n\r\n", 400),
        (ASKS + VERSION + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\n\r\n", 400),
        (ASKS.replace(b"keep-alive, Upgrade", b"keep-alive") + VERSION + KEY + b"\r\n", 400),
        (ASKS + VERSION + KEY + b"Sec-WebSocket-Protocol: a\x85b\r\n\r\n", 400),
        (ASKS + VERSION + KEY + b"Sec-WebSocket-Extensions: a\x0bX-Evil: 1\r\n\r\n", 400),
    ],
)
def test_bad_handshake_is_an_ordinary_answer(serve: Callable[..., Server], head: bytes, status: int) -> None:
    server = serve()
    answer = server.send(head)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nsec-websocket-version: 13\r\n" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_handshake"
    assert server.refused == ["bad_handshake"]
    assert server.room.sockets[0].seen == []
    # The connection goes on as what it was.
    assert b"a page" in server.send(b"GET / HTTP/1.1\r\nHost: chat.test\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        ASKS.replace(b"GET", b"POST") + KEY + VERSION + b"\r\n",
        ASKS.replace(b"HTTP/1.1", b"HTTP/1.0") + KEY + VERSION + b"\r\n",
        ASKS.replace(b"websocket", b"h2c") + KEY + VERSION + b"\r\n",
    ],
)
def test_other_requests_are_ordinary(serve: Callable[..., Server], head: bytes) -> None:
    assert b"a page" in serve().send(head)


def test_denial(serve: Callable[..., Server]) -> None:
    server = serve()
    answer = server.send(ASKS.replace(b"/chat/x", b"/chat/denied") + KEY + VERSION + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403 not you\r\n")
    assert server.transport.disconnecting


def test_upgrade_of_a_client_that_has_left_is_an_error(serve: Callable[..., Server]) -> None:
    server = serve(at_once=False)
    server.send(ASKS + KEY + VERSION + b"\r\n")
    server.lose()
    assert len(server.room.ends) == 1
    with pytest.raises(ConnectionLost, match="left before"):
        server.room.upgrade()


def test_failing_protocol_ends_its_connection(logged_failures: LoggedFailures) -> None:
    class Broken(Protocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    class Upgrades(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes | int:
            upgrade(request, Broken())
            return NOT_DONE_YET

    clock, transport = Clock(), Transport(lenient=True)
    switch = ChatSite(Upgrades(), reactor=clock).buildProtocol(None)
    switch.makeConnection(transport)
    switch.dataReceived(ASKS + KEY + VERSION + b"\r\n")
    assert transport.disconnected
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    switch.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []


# Over real sockets


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    make_self_signed(tmp_path, ["localhost", "127.0.0.1"], datetime.now(UTC))
    return tmp_path / FILE_NAME


async def echoing(endpoint: Any, open_client: Callable[[Any], ClientConnection]) -> None:
    """A client gets its echoes, large ones too, and both ends of the conversation close it once."""
    from twisted.internet import reactor

    def talk(address: Any) -> None:
        for closes_first in (True, False):
            with open_client(address) as client:
                for size in (1, 100, 70_000, 1_000_000):
                    client.send(b"x" * size)
                    assert len(client.recv(timeout=60)) == size
                if closes_first:
                    client.close()
                else:
                    client.send("bye")
                    client.recv(timeout=60)

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("txaio.config.loop", reactor)
    room = Room(cast("IReactorTime", reactor))
    site = ChatSite(room, reactor=cast("IReactorTime", reactor))
    port = await endpoint.listen(site)
    try:
        await deferToThread(talk, port.getHost())
        for protocol in room.sockets:
            await protocol.is_closed
    finally:
        await port.stopListening()
        finished = site.shutdown()
        site.abort()
        await finished
        monkeypatch.undo()
    assert [protocol.seen[-1] for protocol in room.sockets] == [("close", True, 1000)] * 2
    assert [protocol.seen.count(("close", True, 1000)) for protocol in room.sockets] == [1, 1]


def tcp() -> TCP4ServerEndpoint:
    from twisted.internet import reactor

    return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")


def secure(endpoint: Any, pem: Path) -> Any:
    return wrapServerTLS(ssl.PrivateCertificate.loadPEM(pem.read_bytes()).options(), endpoint)


def proxied(address: Any) -> socket.socket:
    """A connection that comes through a proxy."""
    connection = socket.create_connection((address.host, address.port), timeout=60)
    connection.sendall(b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 443\r\n")
    return connection


@pytest_twisted.ensureDeferred
async def test_tcp() -> None:
    await echoing(tcp(), lambda address: connect(f"ws://127.0.0.1:{address.port}/", max_size=None))


@pytest_twisted.ensureDeferred
async def test_tls(pem: Path) -> None:
    context = threaded_context(pem)
    await echoing(
        secure(tcp(), pem), lambda address: connect(f"wss://127.0.0.1:{address.port}/", ssl=context, max_size=None)
    )


@pytest_twisted.ensureDeferred
async def test_behind_a_proxy() -> None:
    await echoing(
        proxyEndpoint(tcp()), lambda address: connect("ws://127.0.0.1/", sock=proxied(address), max_size=None)
    )


@pytest_twisted.ensureDeferred
async def test_tls_behind_a_proxy(pem: Path) -> None:
    context = threaded_context(pem)
    await echoing(
        secure(proxyEndpoint(tcp()), pem),
        lambda address: connect("wss://127.0.0.1/", sock=proxied(address), ssl=context, max_size=None),
    )


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")
@pytest_twisted.ensureDeferred
async def test_unix_socket(tmp_path: Path) -> None:
    from twisted.internet import reactor

    path = str(tmp_path / "s")
    await echoing(UNIXServerEndpoint(reactor, path), lambda _address: unix_connect(path, max_size=None))
