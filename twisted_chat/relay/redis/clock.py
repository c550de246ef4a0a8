"""The clock of Redis, as far as a node knows it: several nodes have one time, whatever their own clocks say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

SAMPLES: Final = 12
"""Readings that an estimate is made of: with one at each sign of life, those of a minute."""


class RedisClock:
    """An estimate of the time by the clock of Redis, which gives positions their tags.

    Between two readings it goes on by `seconds`, a monotonic clock. Before the first one it is that of this machine.
    """

    def __init__(self, seconds: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._seconds: Final = seconds
        self._wall_clock: Final = wall_clock
        self._offsets: Final[deque[float]] = deque(maxlen=SAMPLES)
        self._offset: float | None = None

    def read(self, time: float) -> None:
        """Take a reading, in Unix seconds, that has just arrived."""
        self._offsets.append(time - self._seconds())
        # Each was late by the time that it was under way: the largest is the best.
        self._offset = max(self._offsets)

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return self._wall_clock() if self._offset is None else self._seconds() + self._offset
