"""What is written to a connection stays in order, whole and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_chat.server.outbox import HANDED_BYTES, Outbox


class Wire:
    """An outbox, its owner, and a transport that says that it is full when it holds more than `takes`."""

    def __init__(self, limit: int = 10, takes: float = float("inf")) -> None:
        self.clock = Clock()
        self.takes = takes
        self.pieces: list[bytes] = []
        self.held = 0
        self.slow = 0
        self.was_drained = 0
        self.grown = 0
        self.outbox = Outbox(self.clock, self._send, limit, self)

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)

    def read(self) -> None:
        """The client takes what the transport holds."""
        self.held = 0
        self.outbox.resumeProducing()

    def _send(self, data: bytes) -> None:
        self.pieces.append(data)
        self.held += len(data)
        if self.held > self.takes:
            self.outbox.pauseProducing()

    def held_bytes(self) -> int:
        return self.held

    def grew(self, size: int) -> None:
        self.grown += size

    def too_slow(self) -> None:
        self.slow += 1

    def drained(self) -> None:
        self.was_drained += 1


def test_a_transport_that_takes_bytes_gets_them_at_once() -> None:
    wire = Wire()
    wire.outbox.write(b"a" * 100)
    assert wire.sent == b"a" * 100
    assert wire.outbox.writable()
    assert (wire.outbox.backlog, wire.grown) == (0, 0)


def test_a_full_one_gets_them_later_in_order() -> None:
    wire = Wire()
    wire.outbox.pauseProducing()
    wire.outbox.write(b"one")
    wire.outbox.write(b"two")
    assert (wire.sent, wire.outbox.backlog, wire.outbox.writable()) == (b"", 6, False)
    assert wire.grown == 6
    wire.outbox.resumeProducing()
    assert (wire.sent, wire.outbox.backlog, wire.outbox.writable()) == (b"onetwo", 0, True)
    assert wire.was_drained == 1
    wire.outbox.resumeProducing()
    assert wire.was_drained == 1, "resuming what was not paused is nothing new"


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
    assert wire.was_drained == 0


def test_what_the_transport_holds_counts() -> None:
    wire = Wire(limit=100, takes=60)
    wire.outbox.write(b"a" * 61)
    assert wire.grown == 61
    wire.outbox.write(b"b" * 39)
    wire.clock.advance(0)
    assert wire.slow == 0
    wire.outbox.write(b"c")
    wire.clock.advance(0)
    assert wire.slow == 1


def test_a_frame_of_any_size_has_its_place_where_nothing_waits() -> None:
    wire = Wire(limit=10, takes=5)
    wire.outbox.write(b"a" * 1_000)
    wire.clock.advance(0)
    assert (wire.slow, wire.sent) == (0, b"a" * 1_000)


def test_a_transport_that_fills_up_again_is_not_drained() -> None:
    wire = Wire(takes=0)
    wire.outbox.pauseProducing()
    wire.outbox.write(b"a")
    wire.outbox.resumeProducing()
    assert wire.was_drained == 0
    assert not wire.outbox.writable()


def test_a_transport_that_is_full_is_not_given_more() -> None:
    wire = Wire(limit=20 * HANDED_BYTES, takes=HANDED_BYTES)
    wire.outbox.write(bytes(HANDED_BYTES + 1))
    frames = [b"%d" % number * 10_000 for number in range(10, 50)]
    for frame in frames:
        wire.outbox.write(frame)
    assert len(wire.pieces) == 1
    for _ in range(100):
        wire.read()
        assert wire.held <= 2 * HANDED_BYTES
        if wire.outbox.writable():
            break
        assert wire.outbox.backlog == sum(map(len, frames)) - len(wire.sent) + HANDED_BYTES + 1
    assert len(wire.pieces) > 5
    assert wire.sent[HANDED_BYTES + 1 :] == b"".join(frames)
    assert (wire.outbox.backlog, wire.was_drained) == (0, 1)


def test_the_last_words_follow_what_waits() -> None:
    wire = Wire()
    wire.outbox.pauseProducing()
    wire.outbox.write(b"waiting")
    wire.outbox.flush()
    wire.outbox.close()
    wire.outbox.write(b"too late")
    assert wire.sent == b"waiting"


def test_one_that_is_given_up_forgets_what_waits() -> None:
    wire = Wire()
    wire.outbox.pauseProducing()
    wire.outbox.write(b"waiting")
    wire.outbox.give_up()
    wire.outbox.give_up()
    wire.clock.advance(0)
    assert (wire.slow, wire.outbox.backlog) == (1, 0)


def test_a_transport_that_is_gone_takes_nothing() -> None:
    wire = Wire()
    wire.outbox.stopProducing()
    wire.outbox.write(b"a")
    assert wire.sent == b""
    assert not wire.outbox.writable()


@given(st.lists(st.binary(max_size=5) | st.sampled_from(["pause", "read"])), st.integers(0, 12))
def test_order_holds_and_the_bound_too(steps: list[bytes | str], takes: int) -> None:
    wire = Wire(limit=20, takes=takes)
    expected = b""
    for step in steps:
        if step == "pause":
            wire.outbox.pauseProducing()
        elif step == "read":
            wire.read()
        else:
            assert isinstance(step, bytes)
            wire.outbox.write(step)
            expected += step
        assert wire.outbox.backlog <= 20
    wire.clock.advance(0)
    if wire.slow:
        assert expected.startswith(wire.sent)
    else:
        for _ in steps:
            wire.read()
        assert wire.sent == expected
