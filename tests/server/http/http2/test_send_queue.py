from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twisted_chat.server.http.http2.send_queue import SendQueue


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=st.lists(st.binary(max_size=50)), cuts=st.lists(st.integers(1, 60)))
def test_what_is_pushed_is_taken_in_order_whatever_the_cuts(pieces: list[bytes], cuts: list[int]) -> None:
    queue = SendQueue()
    for piece in pieces:
        queue.push(piece)
    whole = b"".join(pieces)
    assert queue.size == len(whole)
    taken = []
    for cut in cuts:
        taken.append(queue.take(cut))
        assert len(taken[-1]) == min(cut, len(whole) - len(b"".join(taken[:-1])))
    assert b"".join(taken) + queue.take(10_000) == whole
    assert queue.size == 0


def test_cleared_queue_is_empty() -> None:
    queue = SendQueue()
    queue.push(b"abc")
    queue.take(1)
    queue.clear()
    assert queue.size == 0
    assert queue.take(5) == b""
