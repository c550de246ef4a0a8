"""Reading what clients send: so much at a time, so fast, whatever the frames carry; on sockets of both kinds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.consumers import Consumers
from twisted_chat.auth import ApiKeys
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.incoming import EMPTY_FLOODS, LONGEST_ADDRESS_PAUSE
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.server.websocket import CLOSE_TIMEOUT, RoomSocketFactory
from twisted_chat.server.websocket_reading import SLICE_FRAMES, SLICES_PER_TURN

MakeServer = Callable[..., Any]
PeerOf = Callable[..., Any]

READ = 65_536
"""Bytes that a transport reads at a time."""

TURN_FRAMES = SLICE_FRAMES * (SLICES_PER_TURN + 1)

COMPRESSION = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, compressed: bool = False) -> bytes:
    """As a client sends it, with a mask of zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes((fin << 7 | compressed << 6 | opcode,)) + length + b"\0\0\0\0" + payload


FLOODS = {
    "pings": (b"", frame(b"", 9)),
    "pings with payload": (b"", frame(b"p" * 125, 9)),
    "pongs": (b"", frame(b"", 10)),
    "empty texts": (b"", frame(b"")),
    "texts": (b"", frame(b"{}")),
    "binary": (b"", frame(b"b", 2)),
    "all of them": (b"", frame(b"", 9) + frame(b"") + frame(b"", 2) + frame(b"p", 10)),
    "fragments": (frame(b"", fin=False), frame(b"", 0, fin=False)),
    "fragmented messages": (b"", frame(b"", fin=False) + frame(b"{", 0, fin=False) + frame(b"}", 0)),
}
"""What is sent first, and then without end."""


class Flooder:
    """A client that sends without end; as much is read as the server wants."""

    def __init__(self, server: Any, peer: Any, kind: str) -> None:
        self._server, self._transport = server, peer.transport
        self._unread, self._chunk = FLOODS[kind]
        self.protocol: Any = peer.transport.protocol._receiver
        self.read = 0
        """Frames that were charged."""
        charge = self.protocol.charge

        def counting(frames: int, parts: int, size: int, *, more: bool) -> float:
            self.read += frames
            wait: float = charge(frames, parts, size, more=more)
            return wait

        self.protocol.charge = counting

    @property
    def reading(self) -> bool:
        return bool(self._transport.producerState == "producing")

    def turn(self, seconds: float) -> None:
        """Let the server read once, if it does, and so much time go by."""
        self.send()
        self._server.clock.advance(seconds)

    def send(self) -> None:
        if self.reading and self._transport.connected:
            self._unread += self._chunk * ((READ - len(self._unread)) // len(self._chunk) + 1)
            data, self._unread = self._unread[:READ], self._unread[READ:]
            self._transport.protocol.dataReceived(data)


@pytest.fixture(params=["room", "consumers"])
def peer_of(request: pytest.FixtureRequest) -> Iterator[PeerOf]:
    """``peer_of(server)``: the client's end of a socket of either kind."""
    made: list[Consumers] = []

    def peer_of(server: Any) -> Any:
        if request.param == "room":
            return server.connect()
        if not made:
            made.append(Consumers(server))
        return made[0].client()

    yield peer_of
    for consumers in made:
        for connection in list(consumers.server.connections.open):
            connection.edge.abort()
        consumers.relay.stop()


def throttles(server: Any, limit: str) -> float:
    count = server.metrics.registry.get_sample_value("twisted_chat_websocket_throttles_total", {"limit": limit})
    return float(count or 0.0)


def closing(peer: Any) -> bytes:
    """The payload of the close frame that ends what came."""
    received = bytes(peer.received())
    at = received.rindex(b"\x88")
    assert at + 2 + received[at + 1] == len(received)
    return received[at + 2 :]


# One turn


@pytest.mark.parametrize("kind", FLOODS)
def test_a_turn_reads_a_few_frames_of_a_connection(server: Any, peer_of: PeerOf, kind: str) -> None:
    flooder = Flooder(server, peer_of(server), kind)
    flooder.send()
    assert 0 < flooder.read <= TURN_FRAMES
    assert not flooder.reading
    # The clock makes no difference between one turn and the next.
    server.clock.advance(0)
    assert flooder.read > TURN_FRAMES


def test_what_is_left_for_later_turns_is_read_in_order(make_server: MakeServer) -> None:
    plenty = Rate(1e6, 10**6)
    server = make_server(limits=Limits(messages_per_connection=plenty, messages_per_address=plenty))
    peer = server.connect()
    texts = [str(number) for number in range(1_000)]
    stream = b"".join(frame(b'{"handle": "ann", "message": "%b"}' % text.encode()) for text in texts)
    # TLS gives out the rest of what it has read, whatever it was told.
    for at in range(0, len(stream), 7_000):
        peer.send(stream[at : at + 7_000])
    heard: list[str] = []
    while len(heard) < len(texts):
        more = peer.messages()
        assert more
        heard += more
    assert heard == texts
    assert peer.transport.producerState == "producing"


@pytest.mark.parametrize("kind", ["pings", "fragments"])
def test_many_small_reads_are_as_one_large_one(server: Any, peer_of: PeerOf, kind: str) -> None:
    peer = peer_of(server)
    flooder = Flooder(server, peer, kind)
    first, chunk = FLOODS[kind]
    stream = first + chunk * 50
    for at in range(0, len(stream), 5):
        peer.send(stream[at : at + 5])
    server.clock.advance(0)
    assert flooder.read >= 50 - SLICE_FRAMES
    assert flooder.reading


# Rates


@pytest.mark.parametrize("kind", ["pings", "pings with payload", "pongs"])
def test_a_client_is_read_as_fast_as_it_may_send_and_ended_when_it_goes_on(
    server: Any, peer_of: PeerOf, kind: str
) -> None:
    peer = peer_of(server)
    flooder = Flooder(server, peer, kind)
    rate, began = server.limits.frames_of_connection, server.clock.seconds()
    while not peer.transport.disconnecting and flooder.protocol.state == flooder.protocol.STATE_OPEN:
        flooder.turn(0.05)
        seconds = server.clock.seconds() - began
        assert flooder.read <= rate.burst + rate.per_second * seconds + SLICE_FRAMES
        assert seconds < EMPTY_FLOODS.burst
    assert flooder.read >= rate.burst
    assert throttles(server, "frames_per_connection") >= EMPTY_FLOODS.burst
    assert server.refusals("rate_limited") == 1
    assert closing(peer).startswith(b"\x03\xf5rate_limited: ")
    # It goes on all the same: nothing of that is kept, or looked at.
    read = flooder.read
    for _ in range(20):
        flooder.turn(0.05)
    assert flooder.read == read
    assert not flooder.protocol._held
    assert not flooder.protocol.data
    server.clock.advance(CLOSE_TIMEOUT + 1)
    assert not peer.transport.connected
    assert not server.connections.open


def test_bytes_are_read_as_fast_as_they_may_come(make_server: MakeServer) -> None:
    rate = Rate(50_000.0, 100_000)
    server = make_server(limits=Limits(incoming_bytes_per_connection=rate))
    consumers = Consumers(server)
    peer = consumers.client()
    stream = frame(b"b" * 10_000, 2)
    sent, began = 0, server.clock.seconds()
    while server.clock.seconds() - began < 60.0:
        if peer.transport.producerState == "producing":
            peer.send(stream)
            sent += len(stream)
        server.clock.advance(0.01)
    # Charged after it was read.
    most = rate.burst + 60.0 * rate.per_second + 2 * READ
    assert rate.per_second * 50.0 < sent <= most
    assert throttles(server, "incoming_bytes_per_connection")
    assert not throttles(server, "frames_per_connection")
    assert server.connections.open, "it is only held back"
    peer.close()
    consumers.relay.stop()


def test_a_client_of_consumers_that_sends_many_messages_is_held_back_and_kept(consumers: Consumers) -> None:
    server = consumers.server
    flooder = Flooder(server, consumers.client(), "texts")
    rate = server.limits.frames_of_connection
    for _ in range(600):
        flooder.turn(0.1)
    assert rate.burst + 55 * rate.per_second < flooder.read <= rate.burst + 60 * rate.per_second + SLICE_FRAMES
    assert consumers.queue.channels().count("receive") >= flooder.read
    assert flooder.protocol.state == flooder.protocol.STATE_OPEN
    flooder.protocol.abort()


def test_an_address_is_read_as_fast_as_it_may_send(make_server: MakeServer, peer_of: PeerOf) -> None:
    limits = Limits(frames_per_connection=Rate(1e6, 10**6), frames_per_address=Rate(100.0, 1_000))
    server = make_server(limits=limits)
    many = [Flooder(server, peer_of(server), "pings") for _ in range(10)]
    for _ in range(int(10 * LONGEST_ADDRESS_PAUSE / 0.1)):
        for flooder in many:
            flooder.send()
        server.clock.advance(0.1)
    # Each gets a slice for each pause, so that the one who is honest among them is not kept waiting.
    read = sum(flooder.read for flooder in many)
    assert 1_000 <= read <= 1_000 + len(many) * SLICE_FRAMES * 12
    assert all(flooder.read >= 9 * SLICE_FRAMES for flooder in many)
    assert throttles(server, "frames_per_address")


def test_honest_clients_are_not_held_back(server: Any) -> None:
    """Messages as fast as they may come, typing, a ping each second, and answers to pings, at one address."""
    members = [server.connect(f"/chat/{number}") for number in range(5)]
    for second in range(60):
        for number, member in enumerate(members):
            for _ in range(10):
                member.say({"handle": "ann", "message": "x" * 4_000})
                assert member.transport.producerState == "producing"
            member.say(b"ping", 9)
            member.say(b"", 10)
            assert len(member.messages()) == 10, (second, number)
        server.clock.advance(1.0)
    assert not any(throttles(server, limit) for limit in ("frames_per_connection", "frames_per_address"))


def test_an_api_key_publishes_without_rates_but_its_pings_have_one(make_server: MakeServer, tmp_path: Path) -> None:
    keys = tmp_path / "api-keys"
    keys.write_text("0123456789abcdef0123456789abcdef\n")
    keys.chmod(0o600)
    server = make_server(api_keys=ApiKeys.from_file(keys))
    peer = server.connect(headers="X-API-Key: 0123456789abcdef0123456789abcdef\r\n")
    message = frame(b'{"handle": "shop", "message": "%b"}' % (b"x" * 500))
    heard = 0
    for _ in range(100):
        peer.send(message * 100)
        heard += len(peer.messages())
    while more := len(peer.messages()):
        heard += more
    assert heard == 10_000
    assert not throttles(server, "frames_per_connection")
    assert not throttles(server, "incoming_bytes_per_connection")
    flooder = Flooder(server, peer, "pings")
    for _ in range(100):
        flooder.turn(0.1)
    assert flooder.read < 5_000
    assert server.refusals("rate_limited") == 1


def test_how_many_are_held_back_is_known(server: Any, peer_of: PeerOf) -> None:
    peer, _ = peer_of(server), peer_of(server)
    assert server.connections.throttled() == 0
    peer.send(frame(b"", 9) * (server.limits.frames_of_connection.burst + 100))
    server.clock.advance(0)
    assert server.connections.throttled() == 1
    server.clock.advance(0.5)
    assert server.connections.throttled() == 0
    for connection in list(server.connections.open):
        connection.edge.abort()


# Beside other things that pause or end a connection


def test_a_client_that_is_not_read_from_need_not_answer_pings(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(frames_per_connection=Rate(0.1, 1)))
    peer = server.connect()
    peer.send(FLOODS["pings"][1] * SLICE_FRAMES)
    assert peer.transport.producerState == "paused"
    for _ in range(5):
        server.beat()
    assert peer.transport.connected
    # When it is read from again it is to answer, as all are.
    server.clock.advance(SLICE_FRAMES / 0.1)
    assert peer.transport.producerState == "producing"
    for _ in range(5):
        server.beat()
    assert not peer.transport.connected


def test_our_close_is_answered_by_what_was_not_read_yet(server: Any, peer_of: PeerOf) -> None:
    peer = peer_of(server)
    peer.send(frame(b"", 10) * 600 + frame(b"\x03\xe9", 8))
    assert peer.transport.producerState == "paused"
    (connection,) = server.connections.open
    connection.close(ChatError(Reason.GOING_AWAY, "retry=1.0"))
    for _ in range(10):
        server.clock.advance(0)
    peer.received()
    assert not peer.transport.connected
    assert not peer.transport.aborted, "that was a clean end"


def test_our_close_is_not_left_waiting_for_a_rate(make_server: MakeServer, peer_of: PeerOf) -> None:
    server = make_server(limits=Limits(frames_per_connection=Rate(0.1, SLICE_FRAMES)))
    peer = peer_of(server)
    peer.send(frame(b"", 10) * 2 * SLICE_FRAMES + frame(b"\x03\xe9", 8))
    assert server.connections.throttled() == 1
    (connection,) = server.connections.open
    connection.close(ChatError(Reason.GOING_AWAY, "retry=1.0"))
    server.clock.advance(0)
    peer.received()
    assert not peer.transport.connected
    assert not peer.transport.aborted


def test_consumers_pause_and_so_do_rates(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(frames_per_connection=Rate(10.0, 16)))
    consumers = Consumers(server)
    peer = consumers.client()
    consumers.queue.full = True
    peer.send(frame(b"first") + frame(b"t") * 60)
    taken = consumers.queue.channels().count("receive")
    assert taken == 1
    server.clock.advance(10)
    assert consumers.queue.channels().count("receive") == taken
    assert peer.transport.producerState == "paused"
    consumers.queue.full = False
    consumers.queue.waiting.pop().callback(None)
    server.clock.advance(0)
    assert taken < consumers.queue.channels().count("receive") < 61
    assert peer.transport.producerState == "paused", "now for its rate"
    for _ in range(100):
        server.clock.advance(0.1)
    texts = [event.content["text"] for event in consumers.queue.events if event.channel == "websocket.receive"]
    assert texts == ["first"] + ["t"] * 60
    assert peer.transport.producerState == "producing"
    peer.close()
    consumers.relay.stop()


def test_a_client_that_leaves_while_it_is_held_back_leaves_nothing_behind(server: Any, peer_of: PeerOf) -> None:
    flooder = Flooder(server, peer_of(server), "pings")
    for _ in range(20):
        flooder.turn(0)
    flooder._transport.lose()
    assert not server.connections.open
    assert not flooder.protocol._held


def test_a_violation_in_a_flood_ends_it_once(server: Any, peer_of: PeerOf) -> None:
    peer = peer_of(server)
    peer.send(frame(b"", 9) * 100 + b"\x8a\xff" + b"\xff" * 12 + frame(b"", 9) * 5_000)
    for _ in range(5):
        server.clock.advance(0)
        peer.send(b"x" * READ)
    assert server.refusals("protocol_error") == 1
    assert len(flooder_memory(peer)) < READ
    peer.received()
    server.clock.advance(CLOSE_TIMEOUT + 1)
    assert not peer.transport.connected


def flooder_memory(peer: Any) -> bytes:
    """What is kept of a control frame that is far too long."""
    protocol = peer.transport.protocol._receiver
    return b"".join([protocol._held, protocol.data, *(protocol.control_frame_data or ())])


# Fragments


@pytest.mark.parametrize("opcode", [1, 2])
def test_a_message_has_so_many_fragments(make_server: MakeServer, peer_of: PeerOf, opcode: int) -> None:
    server = make_server(limits=Limits(frames_per_connection=Rate(1e6, 10**6), frames_per_address=Rate(1e6, 10**6)))
    peer = peer_of(server)
    peer.send(frame(b"", opcode, fin=False) + frame(b"", 0, fin=False) * (server.limits.fragments - 1))
    settle(server)
    assert not server.refusals("too_many_fragments")
    peer.send(frame(b"", 0, fin=False) + frame(b"", 0))
    assert server.refusals("too_many_fragments") == 1
    assert closing(peer).startswith(b"\x03\xf0too_many_fragments: ")
    peer.send(frame(b"\x03\xf0", 8))
    peer.received()
    assert not server.connections.open


def test_control_frames_between_them_do_not_count(make_server: MakeServer, peer_of: PeerOf) -> None:
    server = make_server(limits=Limits(frames_per_connection=Rate(1e6, 10**6), frames_per_address=Rate(1e6, 10**6)))
    peer = peer_of(server)
    for _ in range(3):
        peer.send(frame(b"", fin=False) + (frame(b"", 9) + frame(b" ", 0, fin=False)) * 1_000 + frame(b"", 0))
        settle(server)
    assert not server.refusals("too_many_fragments")
    peer.transport.abortConnection()


def test_a_compressed_message_has_so_many_fragments(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compressing = RoomSocketFactory(server.connections, compression=True)
    monkeypatch.setattr(server.sockets, "_socket", compressing._socket)
    peer = server.connect(headers=COMPRESSION)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = compressor.compress(b'{"handle": "ann", "message": "hi"}') + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    whole = [text[at : at + 1] for at in range(len(text))]
    peer.send(frame(whole[0], fin=False, compressed=True))
    for piece in whole[1:-1]:
        peer.send(frame(piece, 0, fin=False))
    peer.send(frame(whole[-1], 0))
    assert [opcode for opcode, _ in peer.frames()] == [1]
    peer.send(frame(b"", fin=False, compressed=True) + frame(b"", 0, fin=False) * server.limits.fragments)
    for _ in range(100):
        server.clock.advance(0.1)
    assert server.refusals("too_many_fragments") == 1


def settle(server: Any) -> None:
    for _ in range(100):
        server.clock.advance(0)
