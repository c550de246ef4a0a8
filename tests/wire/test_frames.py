"""Frames as RFC 6455 section 5.2 draws them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.wire.frames import text_frame


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
