"""What is written to a connection stays in order and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_chat.server.outbox import Outbox


class Wire:
    """An outbox, and what it did."""

    def __init__(self, limit: int = 10) -> None:
        self.clock = Clock()
        self.sent = b""
        self.slow = 0
        self.drained = 0
        self.outbox = Outbox(self.clock, self._send, limit, too_slow=self._too_slow, drained=self._drained)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def _too_slow(self) -> None:
        self.slow += 1

    def _drained(self) -> None:
        self.drained += 1


def test_a_transport_that_takes_bytes_gets_them_at_once() -> None:
    wire = Wire()
    wire.outbox.write(b"a" * 100)
    assert wire.sent == b"a" * 100
    assert wire.outbox.writable()
    assert wire.outbox.backlog == 0


def test_a_full_one_gets_them_later_in_order() -> None:
    wire = Wire()
    wire.outbox.pauseProducing()
    wire.outbox.write(b"one")
    wire.outbox.write(b"two")
    assert (wire.sent, wire.outbox.backlog, wire.outbox.writable()) == (b"", 6, False)
    wire.outbox.resumeProducing()
    assert (wire.sent, wire.outbox.backlog, wire.outbox.writable()) == (b"onetwo", 0, True)
    assert wire.drained == 1
    wire.outbox.resumeProducing()
    assert wire.drained == 1, "resuming what was not paused is nothing new"


def test_beyond_the_limit_it_is_cut_off_once_and_not_from_within_the_write() -> None:
    wire = Wire(limit=10)
    wire.outbox.pauseProducing()
    wire.outbox.write(b"a" * 10)
    wire.outbox.write(b"b")
    wire.outbox.write(b"c" * 100)
    assert wire.slow == 0
    wire.clock.advance(0)
    assert wire.slow == 1
    assert wire.outbox.backlog == 0
    wire.outbox.resumeProducing()
    assert wire.sent == b"", "part of a stream would be read as all of it"
    assert wire.drained == 0


def test_a_transport_that_fills_up_again_is_not_drained() -> None:
    wire = Wire()
    outbox = Outbox(wire.clock, lambda _: outbox.pauseProducing(), 10, too_slow=wire._too_slow, drained=wire._drained)
    outbox.pauseProducing()
    outbox.write(b"a")
    outbox.resumeProducing()
    assert wire.drained == 0
    assert not outbox.writable()


def test_the_last_words_follow_what_waits() -> None:
    wire = Wire()
    wire.outbox.pauseProducing()
    wire.outbox.write(b"waiting")
    wire.outbox.flush()
    wire.outbox.close()
    wire.outbox.write(b"too late")
    assert wire.sent == b"waiting"


def test_a_transport_that_is_gone_takes_nothing() -> None:
    wire = Wire()
    wire.outbox.stopProducing()
    wire.outbox.write(b"a")
    assert wire.sent == b""
    assert not wire.outbox.writable()


@given(st.lists(st.binary(max_size=5) | st.sampled_from(["pause", "resume"])))
def test_order_holds_and_the_bound_too(steps: list[bytes | str]) -> None:
    wire = Wire(limit=20)
    expected = b""
    for step in steps:
        if step == "pause":
            wire.outbox.pauseProducing()
        elif step == "resume":
            wire.outbox.resumeProducing()
        else:
            assert isinstance(step, bytes)
            wire.outbox.write(step)
            expected += step
        assert wire.outbox.backlog <= 20
    wire.clock.advance(0)
    if wire.slow:
        assert expected.startswith(wire.sent)
    else:
        wire.outbox.resumeProducing()
        assert wire.sent == expected
