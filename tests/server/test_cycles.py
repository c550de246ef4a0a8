"""A connection that ends is freed at once, by reference counts: the collector hardly ever looks at what is old."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from twisted.logger import LimitedHistoryLogObserver, Logger

from tests.server.conftest import InMemoryServer, Peer
from tests.server.http.http2.conftest import Client
from twisted_chat.server.connection import Connection

MANY = 5


@pytest.fixture
def cycles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The types of ours that only the collector would free, of what was made since."""

    def found() -> list[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = {type(each) for each in gc.garbage}
        return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if is_ours(kind))

    # Until logging has begun, Twisted keeps what is logged, and with it who did.
    monkeypatch.setattr(Connection, "_log", Logger(observer=LimitedHistoryLogObserver(0)))
    gc.collect()
    gc.freeze()  # an earlier test's server may still be on its way out
    gc.disable()
    try:
        yield found
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


def is_ours(kind: type) -> bool:
    return any(each.__module__.startswith("twisted_chat.") for each in kind.__mro__)


def leave(peer: Peer) -> None:
    peer.close()
    # As a real transport does at its end.
    peer.transport.unregisterProducer()
    del peer.transport.protocol, peer.protocol


def ended_by_client(server: InMemoryServer) -> None:
    socket = server.connect("/chat/room?handle=ann&events=presence")
    socket.say({"handle": "ann", "message": "hi"})
    assert socket.messages() == ["hi"]
    server.peers.remove(socket)
    leave(socket)


def closed_by_client(server: InMemoryServer) -> None:
    socket = server.connect("/chat/room")
    socket.say(b"\x03\xe8", opcode=8)
    socket.heard()
    assert socket.close_code == 1000
    server.peers.remove(socket)
    leave(socket)


def refused_message(server: InMemoryServer) -> None:
    socket = server.connect("/chat/room")
    socket.say(b"no JSON")
    socket.heard()
    server.peers.remove(socket)
    leave(socket)


def refused_handshake(server: InMemoryServer) -> None:
    socket = server.connect("/chat/room", "Origin: https://elsewhere.example\r\n")
    assert socket.answer.status == 403
    server.peers.remove(socket)
    leave(socket)


def event_stream(server: InMemoryServer) -> None:
    peer = server.stream("/chat/room?events=presence")
    assert b"200 OK" in peer.received()
    server.peers.remove(peer)
    leave(peer)


def history(server: InMemoryServer) -> None:
    peer = Peer(server)
    peer.send(b"GET /chat/room HTTP/1.1\r\nHost: chat.example\r\n\r\n")
    assert b"200 OK" in peer.received()
    leave(peer)


def malformed(server: InMemoryServer) -> None:
    peer = Peer(server)
    peer.send(b"GET / HTTP/1.1\r\nHost : chat.example\r\n\r\n")
    assert b"400 Bad Request" in peer.received()
    leave(peer)


def over_http2(server: InMemoryServer) -> None:
    client = Client(server.site, server.clock)
    stream = client.connect("/chat/room", ("sec-websocket-version", "13"))
    assert client.head(stream)[b":status"] == b"200"
    events = client.request("GET", "/chat/room", ("accept", "text/event-stream"))
    assert client.head(events)[b":status"] == b"200"
    plain = client.request("GET", "/chat/room")
    assert client.ended(plain)
    client.lose()


@pytest.mark.parametrize(
    "visit",
    [
        ended_by_client,
        closed_by_client,
        refused_message,
        refused_handshake,
        event_stream,
        history,
        malformed,
    ],
    ids=lambda visit: visit.__name__,
)
def test_connections_leave_nothing(
    server: InMemoryServer, cycles: Callable[[], list[str]], visit: Callable[[InMemoryServer], None]
) -> None:
    for _ in range(MANY):
        visit(server)
    assert not server.site.connections
    assert not server.hub.rooms
    server.clock.advance(120)  # delayed calls that were cancelled are forgotten when they would have been due
    assert cycles() == []


def test_of_http2_only_the_connection_itself_waits_for_the_collector(
    server: InMemoryServer, cycles: Callable[[], list[str]]
) -> None:
    # The library's connection refers to its own methods; it is one for all streams.
    over_http2(server)
    assert not server.hub.rooms
    server.clock.advance(120)
    kinds = {name.rpartition(".")[2] for name in cycles()}
    assert "H2Channel" in kinds
    assert not kinds & {"H2Stream", "SiteRequest", "RoomSocket", "EventStream", "Connection", "Outbox", "Session"}


def test_what_would_be_found(cycles: Callable[[], list[str]]) -> None:
    class Leaking(InMemoryServer):
        pass

    Leaking.__module__ = "twisted_chat.leaking"
    one = Leaking.__new__(Leaking)
    one.limits = one  # type: ignore[assignment]  # to itself
    del one
    assert [name for name in cycles() if name.endswith("Leaking")] != []
