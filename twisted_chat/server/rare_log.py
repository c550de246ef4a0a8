"""Lines of the log that a client could cause as often as it likes: one now and then, which says of how many."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime

LOG_SECONDS: Final = 60.0
"""Seconds between two lines about one kind of thing."""


class RareLog:
    """Counts what happens, and tells when it is to be logged."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock: Final = clock
        self._logged_at: float | None = None
        self._unlogged = 0

    def due(self) -> int | None:
        """Count one more. Return how many were not logged since the last line if one is due now, else None."""
        now = self._clock.seconds()
        if self._logged_at is not None and now - self._logged_at < LOG_SECONDS:
            self._unlogged += 1
            return None
        unlogged, self._unlogged, self._logged_at = self._unlogged, 0, now
        return unlogged
