"""The body of a request: read as it was written, bounded, and cheap to put together."""

from __future__ import annotations

import tracemalloc

import pytest

from twisted_chat.server.http.body import PIECES, BodyBuffer
from twisted_chat.server.http.limits import HttpLimits, Refused


def filled(pieces: list[bytes]) -> BodyBuffer:
    body = BodyBuffer(HttpLimits())
    for piece in pieces:
        assert body.write(piece) == len(piece)
    return body


@pytest.mark.parametrize("count", [0, 1, PIECES - 1, PIECES, PIECES + 1, 10 * PIECES])
def test_it_is_read_as_it_was_written(count: int) -> None:
    pieces = [b"%d," % number for number in range(count)]
    body, whole = filled(pieces), b"".join(pieces)
    assert body.tell() == len(whole)
    assert body.seek(0) == 0
    assert body.read() == whole
    assert body.tell() == len(whole)
    assert body.seek(1) == 1
    assert body.read(2) == whole[1:3]


def test_what_is_past_the_limit_is_refused() -> None:
    body = BodyBuffer(HttpLimits(body_bytes=10))
    body.write(b"x" * 9)
    body.write(b"x")
    with pytest.raises(Refused) as refused:
        body.write(b"x")
    assert refused.value.refusal.code == "body_too_large"


def test_small_pieces_take_little_more_than_what_is_in_them() -> None:
    tracemalloc.start()
    try:
        body = BodyBuffer(HttpLimits())
        for number in range(32_768):
            body.write(b"%02d" % (number % 100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body.tell() == 65_536
    # Twice, while it is joined; each piece for itself would be twenty times.
    assert peak < 3 * 65_536
