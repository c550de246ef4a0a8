from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.server.http.http2.backlog import Backlog
from twisted_chat.server.http.http2.send_queue import SendQueue


@given(pieces=st.lists(st.binary(max_size=50)), cuts=st.lists(st.integers(1, 60)))
def test_what_is_pushed_is_taken_in_order_whatever_the_cuts(pieces: list[bytes], cuts: list[int]) -> None:
    backlog = Backlog()
    queue = SendQueue(backlog)
    for piece in pieces:
        queue.push(piece)
    whole = b"".join(pieces)
    assert queue.size == backlog.size == len(whole)
    taken = []
    for cut in cuts:
        taken.append(queue.take(cut))
        assert len(taken[-1]) == min(cut, len(whole) - len(b"".join(taken[:-1])))
    assert b"".join(taken) + queue.take(10_000) == whole
    assert queue.size == backlog.size == 0


def test_cleared_queue_is_empty() -> None:
    backlog = Backlog()
    queue = SendQueue(backlog)
    queue.push(b"abc")
    queue.take(1)
    queue.clear()
    assert queue.size == 0
    assert queue.take(5) == b""


def test_backlog_counts_all_queues() -> None:
    backlog = Backlog()
    first, second = SendQueue(backlog), SendQueue(backlog)
    first.push(b"x" * 10)
    second.push(b"x" * 5)
    assert backlog.size == 15
    first.take(4)
    assert backlog.size == 11
    first.clear()
    assert backlog.size == second.size == 5
