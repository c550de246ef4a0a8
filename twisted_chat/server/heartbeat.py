"""Asking connections whether they live: one timer for all of them, each in its turn."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final, Protocol

PARTS: Final = 25
"""Ticks within one interval: so that not all connections are asked, and answer, at the same moment."""


class Beating(Protocol):
    """What has a turn. It may leave the heartbeat while it is asked or judged."""

    def beat(self) -> None:
        """Show that the connection lives, and ask for the same."""

    def judge(self, beats: int) -> None:
        """The answer to the `beats`-th last question, 1 being the last, is due."""


class Heartbeat:
    """Call `tick` each `seconds`.

    interval
        seconds between two beats of one connection
    timeout
        seconds from a beat until its answer is due, give or take a tick

    Whoever is added has its first beat after one interval, or up to a tick less.
    """

    def __init__(self, interval: float, timeout: float) -> None:
        self.seconds: Final = interval / PARTS
        more, late = divmod(max(1, ceil(timeout / self.seconds)) - 1, PARTS)
        self._beats: Final = more + 1
        self._late: Final = late + 1
        # In the order of their turns: the first has its beat in the next tick, the last had it in the one before.
        self._parts: Final = deque[dict[Beating, None]]({} for _ in range(PARTS))

    def add(self, connection: Beating) -> None:
        self._parts[-1][connection] = None

    def remove(self, connection: Beating) -> None:
        """No harm if it is not here."""
        for part in self._parts:
            part.pop(connection, None)

    def tick(self) -> None:
        for connection in list(self._parts[-self._late]):
            connection.judge(self._beats)
        for connection in list(self._parts[0]):
            connection.beat()
        self._parts.rotate(-1)
