"""To a client our protocol is Autobahn's: the same events and the same bytes for random streams, cut anywhere."""

from __future__ import annotations

import random
import struct
from itertools import accumulate, pairwise
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from txaio import tx

from twisted_chat.server.websocket_protocol import LeanProtocol, with_options
from twisted_chat.server.websocket_reading import unmask

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAME_BYTES, MESSAGE_BYTES = 2500, 3000
SIZES = (0, 1, 3, 4, 5, 60, 125, 126, 127, 300, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1)
STREAMS = 1500
"""In all; each is a seed, so that one that fails can be tried alone."""


class Transport(StringTransportWithDisconnection):
    def abortConnection(self) -> None:
        self.loseConnection()

    def unregisterProducer(self) -> None:
        """There is none; real transports do not mind."""


class Recording:
    """What a protocol of either kind is asked to do, and that it answers in between."""

    def onOpen(self: Any) -> None:
        self.events = ["open"]

    def onMessage(self: Any, payload: bytes, isBinary: bool) -> None:
        self.events.append((payload, isBinary))
        if self.state == self.STATE_OPEN:
            self.sendMessage(payload[:50], isBinary)
        if payload == b"close":
            self.sendClose(1000, "as asked")

    def onPong(self: Any, payload: bytes) -> None:
        self.events.append(("pong", payload))

    def onClose(self: Any, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.events.append(("close", wasClean, code, reason))


# Made so, mypy does not compare the bases that Autobahn mixes.
Stock: Any = type("Stock", (Recording, WebSocketServerProtocol), {})
Lean: Any = type("Lean", (Recording, LeanProtocol), {})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tx.config, "loop", clock)
    return clock


def make(protocol: type[Any], clock: Clock) -> tuple[Any, Transport]:
    factory = WebSocketServerFactory("ws://chat.example:80", reactor=clock)
    factory.setProtocolOptions(
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        maxMessagePayloadSize=MESSAGE_BYTES,
        maxFramePayloadSize=FRAME_BYTES,
        failByDrop=False,
    )
    made = protocol() if protocol is Stock else with_options(protocol, factory)()
    made.factory = factory
    transport = Transport()
    transport.protocol = made
    made.makeConnection(transport)
    return made, transport


def frame(chance: random.Random, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    head, size, mask = bytes((fin << 7 | rsv << 4 | opcode,)), len(payload), chance.randbytes(4)
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 65_536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def payload(chance: random.Random) -> bytes:
    size = chance.choice(SIZES)
    if chance.random() < 0.3:  # it may end within a character
        return (chance.choice("aé€😀") * size).encode()[:size]
    return b"t" * size


def piece(chance: random.Random) -> bytes:
    """Something that a client may send, or should not."""
    content = payload(chance)
    match chance.choices(range(11), (55, 15, 10, 4, 4, 3, 3, 2, 2, 2, 3))[0]:
        case 0:
            return frame(chance, chance.choice((1, 1, 2)), content)
        case 1:
            cut = chance.randrange(len(content) + 1)
            between = frame(chance, 9, b"ping") if chance.random() < 0.5 else b""
            return frame(chance, 1, content[:cut], fin=False) + between + frame(chance, 0, content[cut:])
        case 2:
            return frame(chance, chance.choice((9, 10)), content[:130])
        case 3:
            return frame(chance, 1, b"close")
        case 4:
            return frame(chance, 8, struct.pack("!H", chance.choice((1000, 1001, 1005, 3000))) + b"bye")
        case 5:
            return frame(chance, 1, b"reserved bits", rsv=chance.randrange(8))
        case 6:
            return b"\x81\x08unmasked"
        case 7:
            return frame(chance, chance.randrange(16), b"any opcode")
        case 8:
            return b"\x81\xfe\x00\x05\0\0\0\0tooth"  # a short length, written long
        case 9:
            return frame(chance, 1, content, fin=False)  # and no more of it
        case _:
            return chance.randbytes(chance.randrange(20))


@pytest.mark.parametrize("part", range(10))
def test_what_happens_is_what_happens_to_autobahn(part: int, clock: Clock) -> None:
    for seed in range(part, STREAMS, 10):
        chance = random.Random(seed)
        pieces = [HANDSHAKE, *(piece(chance) for _ in range(chance.randrange(1, 12)))]
        stream = b"".join(pieces)
        # Mostly between two of them: only there does our own reading begin.
        cuts = {end for end in accumulate(map(len, pieces)) if chance.random() < 0.7}
        cuts.update(chance.randrange(len(stream)) for _ in range(chance.choice((0, 0, 1, 3))))
        ends = sorted(cuts | {len(stream)})
        results = []
        for protocol in (Stock, Lean):
            made, transport = make(protocol, clock)
            for begin, end in pairwise([0, *ends]):
                if begin < end and transport.connected:
                    made.dataReceived(stream[begin:end])
            clock.advance(1)
            results.append((made.events, transport.value(), transport.connected, made.state))
        assert results[0] == results[1], f"seed {seed}"


def test_plain_frames_are_read_here(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = make(Lean, clock)
    made.dataReceived(HANDSHAKE)
    monkeypatch.setattr(made, "_dataReceived", lambda data: pytest.fail(f"left to Autobahn: {data!r}"))
    chance = random.Random(1)
    texts = [b"", "é".encode(), b"t" * 125, b"t" * 126, b"t" * FRAME_BYTES]
    made.dataReceived(b"".join(frame(chance, 1, text) for text in texts) + frame(chance, 10, b"beat"))
    assert made.events == ["open", *((text, False) for text in texts), ("pong", b"beat")]


def test_any_byte_is_a_sign_of_life(clock: Clock) -> None:
    made, _ = make(Lean, clock)
    made.dataReceived(HANDSHAKE)
    made.heard = False
    made.dataReceived(b"\x81")
    assert made.heard


def test_a_connection_holds_little_of_its_own(clock: Clock) -> None:
    stock, lean = (make(protocol, clock)[0] for protocol in (Stock, Lean))
    for made in (stock, lean):
        made.dataReceived(HANDSHAKE)
    assert len(vars(lean)) * 2 < len(vars(stock))


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking(content: bytes, mask: bytes) -> None:
    assert unmask(content, mask) == bytes(byte ^ mask[at & 3] for at, byte in enumerate(content))
