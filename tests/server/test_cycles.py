"""A connection that ends is freed at once, by reference counts: the collector hardly ever looks at what is old."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from twisted.logger import LimitedHistoryLogObserver, Logger

from tests.server.conftest import InMemoryServer, Peer
from tests.server.consumers import Consumers, frame
from tests.server.http.http2.conftest import Client
from twisted_chat.consumers.events import Failed, Join, Leave, Say, Unrouted
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.connection import Connection
from twisted_chat.server.consumer_client import ConsumerClient

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
    for kind in (Connection, ConsumerClient):
        monkeypatch.setattr(kind, "_log", Logger(observer=LimitedHistoryLogObserver(0)))
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


def consumers_client(consumers: Consumers) -> Peer:
    peer = consumers.client()
    consumers.tell(Join("g", consumers.top("g")))
    consumers.tell(Join("other", consumers.top("other")))
    consumers.publish("g", b'{"text":"hi"}')
    assert peer.received() == b"\x81\x02hi"
    consumers.tell(Leave("other"))
    peer.send(frame(b"hello"))
    return peer


def goes_away(consumers: Consumers) -> Peer:
    return consumers_client(consumers)


def closes(consumers: Consumers) -> Peer:
    peer = consumers_client(consumers)
    peer.send(frame(b"\x03\xe8", 8))
    return peer


def is_closed(consumers: Consumers) -> Peer:
    peer = consumers_client(consumers)
    consumers.tell(Say({"text": "bye", "close": True}))
    peer.send(frame(b"\x03\xe8", 8))
    return peer


def is_closed_by_a_group(consumers: Consumers) -> Peer:
    peer = consumers_client(consumers)
    consumers.publish("g", b'{"text":"bye","close":true}')
    consumers.server.clock.advance(1)
    peer.send(frame(b"\x03\xe8", 8))
    return peer


def is_sent_away(consumers: Consumers) -> Peer:
    peer = consumers_client(consumers)
    for connection in list(consumers.server.connections.open):
        connection.close(ChatError(Reason.GOING_AWAY, "the server restarts"))
    return peer


def was_held_up(consumers: Consumers) -> Peer:
    peer = consumers.client()
    consumers.queue.full = True
    peer.send(frame(b"1"))
    consumers.queue.full = False
    consumers.queue.waiting.pop().callback(None)
    return peer


def is_held_up(consumers: Consumers) -> Peer:
    peer = consumers.client()
    consumers.queue.full = True
    peer.send(frame(b"1"))
    assert peer.transport.producerState == "paused"
    consumers.queue.full = False
    return peer


def is_refused(consumers: Consumers) -> Peer:
    peer = consumers.ask()
    consumers.tell(Say({"close": True}))
    return peer


def is_failed(consumers: Consumers) -> Peer:
    peer = consumers.ask()
    consumers.tell(Failed())
    return peer


def is_not_answered(consumers: Consumers) -> Peer:
    peer = consumers.ask()
    consumers.server.clock.advance(10)
    return peer


def does_not_wait(consumers: Consumers) -> Peer:
    return consumers.ask()


def is_for_the_rest_of_the_site(consumers: Consumers) -> Peer:
    peer = consumers.ask("/chat/kitchen")
    consumers.tell(Unrouted())
    return peer


def is_for_nobody(consumers: Consumers) -> Peer:
    peer = consumers.ask("/nowhere")
    consumers.tell(Unrouted())
    return peer


@pytest.mark.parametrize(
    "visit",
    [
        goes_away,
        closes,
        is_closed,
        is_closed_by_a_group,
        is_sent_away,
        was_held_up,
        is_held_up,
        is_refused,
        is_failed,
        is_not_answered,
        does_not_wait,
        is_for_the_rest_of_the_site,
        is_for_nobody,
    ],
    ids=lambda visit: visit.__name__,
)
def test_clients_of_consumers_leave_nothing(
    server: InMemoryServer,
    consumers: Consumers,
    cycles: Callable[[], list[str]],
    visit: Callable[[Consumers], Peer],
) -> None:
    for _ in range(MANY):
        peer = visit(consumers)
        peer.received()
        server.peers.remove(peer)
        leave(peer)
        del peer
    assert not server.site.connections
    assert not consumers.groups.rooms
    consumers.queue.events.clear()
    consumers.queue.waiting.clear()
    server.clock.advance(120)
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
