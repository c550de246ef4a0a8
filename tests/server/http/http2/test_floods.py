"""What has brought HTTP/2 servers down, one after the other: each ends the connection before it costs much.

Every attack is bytes that are sent again and again. It is bounded when the connection has ended after so many of them,
each of them took so many calls of functions at most, and memory did not grow beyond so much.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice, repeat
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.server.http.http2.conftest import Later, Serve
from tests.server.http.http2.effort import measured
from twisted_chat.server.http.http2.stream import CONNECTION_QUEUE_LIMIT, SHARE
from twisted_chat.server.http.waiting import CHECK_SECONDS, WaitingBytes

GET = Encoder().encode([(":method", "GET"), (":path", "/"), (":scheme", "http")]) + b"\x01\x01a"
POST = b"\x83" + GET[1:]
CALM = ErrorCodes.ENHANCE_YOUR_CALM
MIB = 1 << 20


def request(stream: int, block: bytes = GET, *, ends: bool = True) -> bytes:
    flags = ["END_HEADERS", "END_STREAM"] if ends else ["END_HEADERS"]
    return HeadersFrame(stream, block, flags=flags).serialize()


def settings(values: dict[int, int]) -> bytes:
    body = b"".join(struct.pack(">HL", *value) for value in values.items())
    return len(body).to_bytes(3) + b"\4\0\0\0\0\0" + body


def streams() -> Iterator[int]:
    return count(1, 2)


# Streams that are reset


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream in streams():
        yield request(stream) + RstStreamFrame(stream, ErrorCodes.CANCEL).serialize()


def reset_before_the_body() -> Iterator[bytes]:
    for stream in streams():
        yield request(stream, POST, ends=False) + RstStreamFrame(stream, ErrorCodes.CANCEL).serialize()


def reset_for_a_window_too_large() -> Iterator[bytes]:
    """CVE-2025-8671: the server is made to reset."""
    for stream in streams():
        yield request(stream) + WindowUpdateFrame(stream, 2**31 - 1).serialize()


def reset_for_data_after_the_end() -> Iterator[bytes]:
    for stream in streams():
        yield request(stream) + DataFrame(stream, b"x").serialize()


def reset_for_a_head_after_the_end() -> Iterator[bytes]:
    for stream in streams():
        yield request(stream) + request(stream)


# Frames that carry nothing


def again(first: bytes, then: bytes) -> Callable[[], Iterator[bytes]]:
    def attack() -> Iterator[bytes]:
        yield first
        while True:
            yield then

    return attack


def unknown_settings() -> Iterator[bytes]:
    for start in count(10):
        yield settings({start % 65_536: 1})


def thousands_of_settings() -> Iterator[bytes]:
    for start in count(1):
        yield settings(dict.fromkeys(range(start * 2_000, start * 2_000 + 2_000), 1))


def windows_to_and_fro() -> Iterator[bytes]:
    """Each changes the windows of all streams, of which all have an answer waiting."""
    yield settings({4: 0}) + b"".join(request(stream) for _, stream in zip(range(200), streams(), strict=False))
    while True:
        yield settings({4: 1}) + settings({4: 0})


def windows_of_one_byte() -> Iterator[bytes]:
    """CVE-2019-9511."""
    yield settings({4: 0}) + request(1)
    while True:
        yield WindowUpdateFrame(1, 1).serialize()


def heads_for_streams_that_ended() -> Iterator[bytes]:
    yield request(1) + RstStreamFrame(1, ErrorCodes.CANCEL).serialize()
    while True:
        yield request(1)


# Heads


def endless_head(piece: bytes) -> Callable[[], Iterator[bytes]]:
    """CVE-2024-27316."""

    def attack() -> Iterator[bytes]:
        yield HeadersFrame(1, GET).serialize()
        while True:
            yield ContinuationFrame(1, piece).serialize()

    return attack


def head_that_unpacks() -> Iterator[bytes]:
    """CVE-2016-6581: one field of 4 KB in the table, and then thousands of references to it, each one byte long."""
    field = b"\x40\x01x" + b"\x7f\xb9\x1d" + b"y" * 3_896
    yield request(1, GET + field + b"\xbe" * 10_000)
    while True:
        yield request(3, GET + b"\xbe" * 10_000)


def head_in_a_few_large_pieces() -> Iterator[bytes]:
    """Text that takes long to decode: a mebibyte of it, in Huffman's code."""
    size = 60 * 16_000
    length = b"\xff" + bytes([((size - 127) >> shift & 0x7F) | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21)])
    block = GET + b"\x40\x01x" + length + b"\x00" * size
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    yield HeadersFrame(1, pieces[0]).serialize()
    for piece in pieces[1:-1]:
        yield ContinuationFrame(1, piece).serialize()
    yield ContinuationFrame(1, pieces[-1], flags=["END_HEADERS"]).serialize()


def more_streams_than_allowed() -> Iterator[bytes]:
    for stream in streams():
        yield request(stream)


@dataclass(frozen=True)
class Attack:
    name: str
    pieces: Callable[[], Iterator[bytes]]
    most: int
    """Pieces after which the connection has ended."""
    reason: str = "h2_abuse"
    code: ErrorCodes = CALM
    calls: int = 1_000
    """Calls of functions that a piece may take."""
    memory: int = 1 * MIB


OPEN = request(1, POST, ends=False)
ENDED = request(1) + RstStreamFrame(1, ErrorCodes.CANCEL).serialize()
PADDED = DataFrame(1, pad_length=255, flags=["PADDED"]).serialize()

ATTACKS = [
    Attack("rapid reset", rapid_reset, 301, memory=2 * MIB),
    Attack("reset before the body", reset_before_the_body, 301, memory=2 * MIB),
    Attack("made to reset: window too large", reset_for_a_window_too_large, 301, memory=2 * MIB),
    Attack("made to reset: data after the end", reset_for_data_after_the_end, 301, memory=2 * MIB),
    Attack("made to reset: head after the end", reset_for_a_head_after_the_end, 301, memory=2 * MIB),
    Attack("ping", again(OPEN, PingFrame(0).serialize()), 1_001),
    Attack("ping, acknowledged", again(OPEN, PingFrame(0, flags=["ACK"]).serialize()), 1_001),
    Attack("settings", again(OPEN, SettingsFrame(0).serialize()), 1_001),
    Attack("settings, acknowledged", again(OPEN, SettingsFrame(0, flags=["ACK"]).serialize()), 1_001),
    Attack("settings, unknown ones", unknown_settings, 1_001),
    Attack("settings, thousands at once", thousands_of_settings, 6, calls=40_000),
    Attack("initial windows to and fro", windows_to_and_fro, 501, calls=40_000, memory=4 * MIB),
    Attack("windows of one byte", windows_of_one_byte, 1_002),
    Attack("window updates for a stream", again(OPEN, WindowUpdateFrame(1, 1).serialize()), 1_002),
    Attack("window updates for the connection", again(OPEN, WindowUpdateFrame(0, 1).serialize()), 1_002),
    Attack("window updates for a stream that ended", again(ENDED, WindowUpdateFrame(1, 1).serialize()), 1_001),
    Attack("priority", again(OPEN, PriorityFrame(1, depends_on=3).serialize()), 1_001),
    Attack("unknown frames", again(OPEN, b"\0\0\4\x77\0\0\0\0\1what"), 1_001),
    Attack("goaway", again(OPEN, GoAwayFrame(0).serialize()), 1_001),
    Attack("data without any", again(OPEN, DataFrame(1).serialize()), 1_001),
    Attack("data of padding", again(OPEN, PADDED), 1_001),
    Attack("data for a stream that ended", again(ENDED, DataFrame(1, b"x").serialize()), 1_001),
    Attack("heads for a stream that ended", heads_for_streams_that_ended, 1_001),
    Attack("resets of a stream that ended", again(ENDED, RstStreamFrame(1).serialize()), 1_001),
    Attack("endless head of large pieces", endless_head(b"\0" * 16_000), 6),
    Attack("endless head of empty pieces", endless_head(b""), 65, "malformed", ErrorCodes.PROTOCOL_ERROR),
    Attack("head that unpacks", head_that_unpacks, 1, calls=20_000),
    Attack("head in a few large pieces", head_in_a_few_large_pieces, 6),
    Attack("frame of 16 MiB", again(b"\xff\xff\xff\0\0\0\0\0\1", b"x" * 16_384), 1, "malformed",
           ErrorCodes.FRAME_SIZE_ERROR),
    Attack("more streams than allowed", more_streams_than_allowed, 557, memory=4 * MIB),
]  # fmt: skip


def goaway_of(sent: bytes) -> int | None:
    """The code of the last GOAWAY in what the server sent."""
    code = None
    while sent:
        length = int.from_bytes(sent[:3])
        if sent[3] == 7:
            code = int.from_bytes(sent[13:17])
        sent = sent[9 + length :]
    return code


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_ends_the_connection(serve: Serve, later: Later, attack: Attack) -> None:
    site = serve(later)
    client = site.client()
    # Made before anything is measured.
    ready = [*islice(attack.pieces(), attack.most), *repeat(b"x" * 1_000, 100)]
    answered = 0

    def send(piece: bytes) -> None:
        nonlocal answered
        client.switch.dataReceived(piece)
        # Something waits to be sent on every stream.
        for request in later.requests[answered:]:
            if not request._disconnected:
                request.write(b"x" * 5_000)
        answered = len(later.requests)
        client.clock.advance(0)

    used = 0
    with measured() as effort:
        while not client.transport.disconnecting:
            assert used < attack.most
            send(ready[used])
            used += 1
    assert effort.calls / used <= attack.calls
    assert effort.peak <= attack.memory
    assert site.refused[-1] == attack.reason
    assert set(site.refused[:-1]) <= {"too_many_streams"}
    assert goaway_of(client.transport.value()) == attack.code
    # What it had is gone, and what it still sends is not looked at.
    assert len(later.ends) == len(later.requests)
    with measured() as effort:
        for piece in ready[used : used + 100]:
            client.switch.dataReceived(piece)
    assert effort.calls < 100 * 100


def test_answers_that_are_not_read_are_bounded(serve: Serve, later: Later) -> None:
    """One window for all that never opens, and as many answers as there may be streams."""
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client(window=0)
    answer = b"x" * MIB
    for _ in range(256):
        client.request("GET", "/")
        later.requests[-1].write(answer)
        later.requests[-1].finish()
        client.exchange()
    channel: Any = client.switch._receiver
    assert CONNECTION_QUEUE_LIMIT - MIB <= channel.backlog.size <= CONNECTION_QUEUE_LIMIT
    assert site.refused == ["stream_backlog"] * (256 - CONNECTION_QUEUE_LIMIT // MIB)
    # A small answer has its place in any case.
    small = client.request("GET", "/")
    later.requests[-1].write(b"x" * SHARE)
    client.exchange()
    assert client.reset_code(small) is None
    for _ in range(3):
        client.clock.advance(30)
        client.exchange()
    assert channel.backlog.size == 0
    assert len(channel._streams) == 0
    assert site.refused.count("stalled") == CONNECTION_QUEUE_LIMIT // MIB + 1


def test_answers_that_are_not_read_are_bounded_over_all_connections(
    serve: Serve, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(later)
    waiting = WaitingBytes(site.clock, 16 * MIB)
    monkeypatch.setattr(site.site, "waiting_bytes", waiting)
    clients = [site.client(window=0) for _ in range(6)]
    streams = []
    for number, client in enumerate(clients):
        streams.append(client.request("GET", "/"))
        later.requests[-1].write(b"x" * (MIB + number))
        later.requests[-1].finish()
        client.exchange()
    assert waiting.measure() == 6 * MIB + 15
    site.clock.advance(CHECK_SECONDS)
    for client in clients:
        client.exchange()
    given_up = [client.reset_code(stream) for client, stream in zip(clients, streams, strict=True)]
    assert given_up == [None] * 3 + [ErrorCodes.CANCEL] * 3, "the largest, until seven eighths of a share are left"
    assert site.refused == ["stalled"] * 3
    assert waiting.measure() == 3 * MIB + 3
    for client in clients:
        client.lose()
    assert waiting.measure() == 0


def test_a_connection_that_takes_nothing_of_its_own_is_given_up(
    serve: Serve, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(later)
    waiting = WaitingBytes(site.clock, 1_000)
    monkeypatch.setattr(site.site, "waiting_bytes", waiting)
    client = site.client()
    transport: Any = client.transport
    transport.dataBuffer = b"x" * 2_000  # as a socket's
    transport.producer.pauseProducing()
    assert waiting.measure() == 2_000
    site.clock.advance(CHECK_SECONDS)
    assert transport.disconnecting
    assert site.refused == ["stalled"]


def test_one_answer_after_the_other_is_not_bounded(serve: Serve, later: Later) -> None:
    client = serve(later).client(window=MIB)
    for _ in range(64):
        stream = client.request("GET", "/")
        later.requests[-1].write(b"x" * MIB)
        later.requests[-1].finish()
        client.h2.increment_flow_control_window(MIB)
        client.exchange()
        assert client.ended(stream)
        client.events.clear()


@pytest.mark.parametrize(
    "beginning",
    [HeadersFrame(1, GET).serialize(), request(1)[:12], request(1, POST, ends=False), b"\0\0"],
    ids=["half a head", "half a frame", "no body", "half a frame's header"],
)
def test_what_is_begun_and_not_ended_is_ended(serve: Serve, later: Later, beginning: bytes) -> None:
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client()
    client.switch.dataReceived(beginning)
    for _ in range(10):
        client.clock.advance(30)
    assert client.transport.disconnecting or client.transport.disconnected
    assert later.requests == []


def test_a_preface_byte_by_byte_has_only_so_long(serve: Serve, later: Later) -> None:
    site = serve(later, handshake_timeout=10)
    client = site.client()
    slow = type(client)(site.site, site.clock)
    site.clients.append(slow)
    first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    for at in range(len(first)):
        if slow.transport.disconnected or slow.transport.disconnecting:
            break
        slow.switch.dataReceived(first[at : at + 1])
        site.clock.advance(1)
    assert at <= 11
    assert site.refused == ["handshake_timeout"]
