"""When a process that ended begins again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST: Final = 0.1
"""Seconds before the first new beginning."""

LONGEST: Final = 5.0
"""No wait is longer: connections wait as long as that for a process that is to take them."""

STEADY: Final = 60.0
"""Who served for so many seconds had no trouble that lasts."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a process ended soon after it began."""

    failures: int = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before it begins again."""
        # Whoever fails for days makes no number that is too large.
        return float(min(LONGEST, FIRST * 2 ** min(max(self.failures - 1, 0), 16)))

    def ended(self, lived: float) -> Backoff:
        """After a life of so many seconds."""
        return Backoff(1 if lived >= STEADY else self.failures + 1)
