"""What a room's history is made of: positions, publications, and answers to questions about them.

What is made for each message is a `msgspec.Struct`, which costs a tenth of what a frozen dataclass does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from msgspec import Struct

_ID: Final = re.compile(r"([A-Za-z0-9]{1,32})-(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")


class Position(Struct, frozen=True, gc=False):
    """A place in a room's history.

    `epoch` names one history: another epoch means that nothing can be continued. `offset` counts publications from 1.
    `tag` is the microsecond (Unix time) at which the publication there was stored; it makes a history that was
    rewritten behind our back visible.

    Offset 0 is a room without publications. Nothing is stored for such a room, so `epoch` names the store that was
    asked, and `tag` is a moment of that store: the room was empty then. See `continues`.
    """

    epoch: str
    offset: int
    tag: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A position from its text form, the ``id`` of a message; None if it is not one."""
        match = _ID.fullmatch(text)
        return cls(match[1], int(match[2]), int(match[3])) if match else None

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}-{self.tag}"


class Publication(Struct, frozen=True, gc=False):
    """One message as stored: `data` is its JSON object, which relays and rooms never look into.

    `previous` is the tag of the publication before it, so that publications form a chain. In the first of a history it
    is a moment since which nothing of the room has been forgotten.
    """

    position: Position
    previous: int
    data: bytes


def continues(position: Position, publication: Publication) -> bool:
    """Return whether `publication` is the one right after `position`.

    The first publication of a history continues an empty room if nothing that was published after that position can
    have been forgotten. That both are of one store is for the relay to check.
    """
    at = publication.position
    if at.offset != position.offset + 1:
        return False
    if at.epoch == position.epoch:
        return publication.previous == position.tag
    return position.offset == 0 and publication.previous <= position.tag < at.tag


class Published(Struct, frozen=True, gc=False):
    """What became of a publish: the stored publication; `duplicate` when its idempotency key was seen before."""

    publication: Publication
    duplicate: bool = False


class Proof(Enum):
    """What a history answer says about the position that was asked from."""

    LOST = "lost"
    """It cannot be continued: another history, trimmed away or too old. The answer's `top` is where to go on."""
    COMPLETE = "complete"
    """Everything since it is in the answer."""
    MORE = "more"
    """What is in the answer follows it without a gap, and there is more: ask again from the last one."""


@dataclass(frozen=True, slots=True)
class History:
    """An answer from a room's history: publications in order, oldest first.

    `top` is the newest position of the room when the answer was made.
    """

    top: Position
    proof: Proof
    publications: tuple[Publication, ...] = ()


@dataclass(frozen=True, slots=True)
class Since:
    """Question: what came after `position`, at most `limit` publications, and can that be proven?"""

    position: Position
    limit: int


@dataclass(frozen=True, slots=True)
class Newest:
    """Question: the newest `limit` publications (0: only the top position). Its answer is always `COMPLETE`,
    or `MORE` when older ones exist that did not fit."""

    limit: int


@dataclass(frozen=True, slots=True)
class Before:
    """Question: the `limit` publications that stand right before `position`, oldest first.

    `MORE` when still older ones exist; `LOST` when `position` is not of this history.
    """

    position: Position
    limit: int


Question = Since | Newest | Before
