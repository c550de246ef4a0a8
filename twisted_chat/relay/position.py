"""How a relay that makes positions itself makes them."""

from __future__ import annotations

import secrets
import string
from typing import Final

from twisted_chat.core.publication import Position
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits

_LETTERS: Final = string.ascii_letters + string.digits
_EPOCH_LENGTH: Final = 8
"""47 bits: two histories of one room never share an epoch, and every message carries it."""


def beginning() -> Position:
    """Before the first publication of a history that nobody has seen yet."""
    return Position("".join(secrets.choice(_LETTERS) for _ in range(_EPOCH_LENGTH)), 0, 0)


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
