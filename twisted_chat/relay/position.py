"""How a relay that makes positions itself makes them."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import Final

from twisted_chat.core.publication import Position
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits

_LETTERS: Final = string.ascii_letters + string.digits
_EPOCH_LENGTH: Final = 8
"""47 bits: two histories of one room never share an epoch, and every message carries it."""


def new_epoch() -> str:
    """Return the name of a history or of a store that nobody has seen yet."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_EPOCH_LENGTH))


@dataclass(slots=True)
class Moments:
    """What a store remembers of the rooms that it no longer has: not one of them, only two moments.

    With these it can tell whether an empty room has been empty ever since a reader was told so, and nothing has to be
    kept for the reader. The clock is that of the publications, so a wall clock that is set back does no harm.

    epoch
        names the store
    newest
        no publication that was ever stored has a larger tag
    forgotten
        every publication of a forgotten room has at most this tag
    """

    epoch: str
    newest: int = 0
    forgotten: int = 0

    def empty(self) -> Position:
        """Return the position of a room that has no publications now."""
        return Position(self.epoch, 0, self.newest)

    def oldest(self) -> Position:
        """Return the earliest position of an empty room that can still be continued."""
        return Position(self.epoch, 0, self.forgotten)

    def first(self, now: float) -> Position:
        """Return the position of the first publication of a new history. `newest` is for the caller to set."""
        return Position(new_epoch(), 1, max(microseconds(now), self.newest + 1))

    def forget(self, tag: int) -> None:
        """Take note that a room is forgotten whose newest publication had this tag."""
        self.forgotten = max(self.forgotten, tag)


def following(top: Position, now: float) -> Position:
    """The position right after `top`. Its tag is larger even where the wall clock stood still or was set back."""
    tag = microseconds(now)
    return Position(top.epoch, top.offset + 1, tag if tag > top.tag else top.tag + 1)


def horizon(history: HistoryLimits, now: float) -> int:
    """Publications with a smaller tag are too old at `now`; 0 where there is no limit of age."""
    return microseconds(now - history.age) if history.age else 0


def forgettable(history: HistoryLimits, now: float) -> int:
    """A room whose newest tag is smaller may be forgotten with its position: nothing of it is kept, no idempotency
    key answers with it, and what comes later begins a new history, so that who was there is told so. 0: never.
    """
    return microseconds(now - max(history.age, IDEMPOTENCY_SECONDS)) if history.age else 0


def microseconds(seconds: float) -> int:
    """A time as tags count it."""
    return int(seconds * 1_000_000)
