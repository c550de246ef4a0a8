"""What the collector looks at, and when."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.task import Clock

from twisted_chat.core.limits import ConnectionCount, Limits
from twisted_chat.garbage import LEAST, LOOK, OF_A_CONNECTION, Garbage


class Cycle:
    """Only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


class Process:
    """One whose memory and connections are as a test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.blocks = 500_000
        self.connections = ConnectionCount(Limits())
        self.pauses: list[float] = []
        self.garbage = Garbage(self.clock, self.connections, self.pauses.append, lambda: self.blocks)

    def old_cycle(self) -> Callable[[], object]:
        """One that became garbage when it was old; whether it is still there."""
        cycle = Cycle()
        gc.collect(1)
        return weakref.ref(cycle)


@pytest.fixture
def process() -> Iterator[Process]:
    before = gc.get_threshold()
    process = Process()
    process.garbage.startService()
    gc.collect(0)  # as far as can be from the next one that comes by itself
    yield process
    process.garbage.stopService()
    assert not process.clock.getDelayedCalls()
    assert gc.get_threshold() == before
    # As before this test, for those that follow.
    gc.collect()
    gc.freeze()


def test_what_is_young_is_collected(process: Process) -> None:
    there = weakref.ref(Cycle())
    assert there() is not None
    gc.collect(0)
    assert there() is None


def test_what_survives_is_not_looked_at_again(process: Process) -> None:
    there = process.old_cycle()
    assert gc.get_objects(generation=2) == []
    gc.collect()
    assert there() is not None


def test_what_is_old_is_freed_by_its_count(process: Process) -> None:
    class Plain:
        pass

    plain = Plain()
    there = weakref.ref(plain)
    gc.collect(1)
    del plain
    assert there() is None


def test_old_garbage_is_collected_when_memory_grew(process: Process) -> None:
    there = process.old_cycle()
    process.blocks = LEAST
    process.clock.advance(LOOK)
    assert there() is not None
    process.blocks = LEAST + 1
    process.clock.advance(LOOK)
    assert there() is None


def test_connections_explain_growth(process: Process) -> None:
    there = process.old_cycle()
    process.connections.total = 20_000
    process.blocks = LEAST + 20_000 * OF_A_CONNECTION
    process.clock.advance(LOOK)
    assert there() is not None
    process.connections.total = 19_999
    process.clock.advance(LOOK)
    assert there() is None


def test_growth_that_stays_is_doubted_again_when_it_doubled(process: Process) -> None:
    process.blocks = 2 * LEAST
    process.clock.advance(LOOK)
    there = process.old_cycle()
    process.blocks = 4 * LEAST
    process.clock.advance(LOOK)
    assert there() is not None
    process.blocks += 1
    process.clock.advance(LOOK)
    assert there() is None


def test_pauses_are_told(process: Process) -> None:
    process.pauses.clear()
    gc.collect(0)
    gc.collect(1)
    assert len(process.pauses) == 2
    assert min(process.pauses) > 0
