"""What clients do wrong, in the log: now and then, however often they do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

EVERY: Final = 10.0
"""Seconds between two lines, at least."""


class Complaints:
    """`clock` gives seconds."""

    _log = Logger()

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._last: float | None = None
        self._kept_back = 0

    def complain(self, event: str, error: str) -> None:
        """The event that is named has something of a client in it that cannot be used."""
        now = self._clock()
        if self._last is not None and now - self._last < EVERY:
            self._kept_back += 1
            return
        self._log.warn(
            "event {event} is dropped, and {more} others since the last line like this: {error}",
            event=event,
            more=self._kept_back,
            error=error,
        )
        self._last, self._kept_back = now, 0
