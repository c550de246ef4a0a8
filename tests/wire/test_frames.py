"""Frames as RFC 6455 section 5.2 draws them."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.wire.frames import LEAST, WINDOW_BITS, compressed_frame, text_frame


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_length_is_written_in_the_shortest_form(size: int, head: bytes) -> None:
    assert text_frame(b"x" * size) == head + b"x" * size


@given(st.binary(max_size=70_000))
def test_a_reader_finds_the_payload(payload: bytes) -> None:
    frame = text_frame(payload)
    length, at = frame[1], 2
    if length == 126:
        (length,), at = struct.unpack_from("!H", frame, 2), 4
    elif length == 127:
        (length,), at = struct.unpack_from("!Q", frame, 2), 10
    assert frame[0] == 0x81, "a final text frame"
    assert frame[at:] == payload
    assert length == len(payload)


def inflated(frame: bytes, inflator: zlib._Decompress) -> bytes:
    """As a client reads it (RFC 7692 section 7.2.2)."""
    size, begin = frame[1], 2
    if size == 126:
        begin = 4
    elif size == 127:
        begin = 10
    if frame[0] == 0x81:
        return frame[begin:]
    assert frame[0] == 0xC1
    return inflator.decompress(frame[begin:] + b"\0\0\xff\xff")


@given(st.lists(st.text(max_size=3_000).map(str.encode), min_size=1, max_size=4))
def test_compressed_frames_are_read_with_and_without_what_came_before(payloads: list[bytes]) -> None:
    keeping = zlib.decompressobj(-WINDOW_BITS)
    for payload in payloads:
        frame = compressed_frame(payload)
        assert inflated(frame, zlib.decompressobj(-WINDOW_BITS)) == payload
        assert inflated(frame, keeping) == payload
        assert len(frame) <= len(text_frame(payload))


def test_what_gains_nothing_stays_as_it_is() -> None:
    for payload in (b"a" * (LEAST - 1), random.Random(1).randbytes(LEAST)):
        assert compressed_frame(payload) == text_frame(payload)
    assert len(compressed_frame(b"a" * 100_000)) < 1000
