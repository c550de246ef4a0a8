"""Who a client is, and which rooms it may read and write."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from twisted_chat.core.errors import ChatError, Reason

MOST_PATTERNS: Final = 64
LONGEST_PATTERN: Final = 128

_STARS: Final = re.compile(r"(\*+)")


@dataclass(frozen=True, slots=True)
class _Automaton:
    """All patterns side by side as one nondeterministic automaton: one bit per state in one integer.

    A pattern of k literal characters has k + 1 states, each a place between two of them. A character takes a state one
    place on (one bit to the left) if it is the literal there, and leaves it where it is if a star stands there.
    Regular expressions would backtrack; this takes one step per character of the room, whatever the patterns are.
    """

    start: int
    accept: int
    arrive: dict[str, int]
    """By character: the states that stand right behind it."""
    stay: int
    """The states of ``**``, which any character leaves where they are."""
    stay_in_segment: int
    """Those and the states of ``*``, for every character but a slash."""

    @classmethod
    def of(cls, patterns: Iterable[str]) -> _Automaton:
        start = accept = stay = stay_in_segment = 0
        arrive: dict[str, int] = {}
        state = 1
        for pattern in patterns:
            start |= state
            for part in _STARS.split(pattern):
                if part.startswith("*"):
                    stay_in_segment |= state
                    stay |= state if len(part) > 1 else 0
                    continue
                for character in part:
                    state <<= 1
                    arrive[character] = arrive.get(character, 0) | state
            accept |= state
            state <<= 1
        return cls(start, accept, arrive, stay, stay_in_segment)

    def accepts(self, room: str) -> bool:
        states = self.start
        for character in room:
            stay = self.stay if character == "/" else self.stay_in_segment
            states = ((states << 1) & self.arrive.get(character, 0)) | (states & stay)
            if not states:
                return False
        return bool(states & self.accept)


@dataclass(frozen=True, slots=True, init=False)
class Patterns:
    """A set of rooms: those that any of at most 64 patterns matches.

    In a pattern ``*`` stands for any characters but slashes, ``**`` for any characters at all (none, too), and
    everything else for itself: ``team/*`` matches ``team/a`` but neither ``team`` nor ``team/a/b``. Raises
    `ValueError` with one readable line.
    """

    texts: tuple[str, ...]
    _everything: bool = field(repr=False, compare=False)
    _automaton: _Automaton = field(repr=False, compare=False)

    def __init__(self, texts: Iterable[str] = ()) -> None:
        patterns = tuple(_pattern(text) for text in texts)
        if len(patterns) > MOST_PATTERNS:
            raise ValueError(f"there may be {MOST_PATTERNS} room patterns, these are {len(patterns)}")
        object.__setattr__(self, "texts", patterns)
        object.__setattr__(self, "_everything", "**" in patterns)
        object.__setattr__(self, "_automaton", _Automaton.of(patterns))

    def __contains__(self, room: str) -> bool:
        return self._everything or self._automaton.accepts(room)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)


def _pattern(text: str) -> str:
    # Room names are NFC without outer slashes: anything else would never match, and nobody would see why.
    pattern = unicodedata.normalize("NFC", text)
    if not pattern:
        raise ValueError("a room pattern may not be empty; '**' matches every room")
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a room pattern may have {LONGEST_PATTERN} characters, this one has {len(pattern)}")
    if pattern.startswith("/") or pattern.endswith("/"):
        raise ValueError(f"a room pattern may not begin or end with a slash, as {pattern!r} does")
    return pattern


EVERY_ROOM: Final = Patterns(["**"])
NO_ROOM: Final = Patterns()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is.

    user
        the ``sub`` of its token; None: it is anonymous
    handle
        the handle that everything it publishes bears; None: the one that it gives
    expires
        when its token stops to be good, in Unix seconds; None: never
    read, write
        the rooms that it may read, and those that it may publish to; neither includes the other
    server
        whether it acts for the server, with an API key: it may publish under any handle
    """

    user: str | None
    handle: str | None
    expires: float | None
    read: Patterns
    write: Patterns
    server: bool = False

    @property
    def author(self) -> str | None:
        """Whose idempotency keys these are: the user; None when unknown, the handle stands for it then."""
        return self.user

    def check_read(self, room: str) -> None:
        """Raise `ChatError` (`Reason.NOT_ALLOWED`) unless it may read the room."""
        if room not in self.read:
            raise _not_allowed("read", room)

    def check_write(self, room: str) -> None:
        """Raise `ChatError` (`Reason.NOT_ALLOWED`) unless it may publish to the room."""
        if room not in self.write:
            raise _not_allowed("write", room)


def _not_allowed(what: str, room: str) -> ChatError:
    return ChatError(
        Reason.NOT_ALLOWED,
        f"you may not {what} the room {room!r}: no pattern in rooms.{what} of your token matches it",
    )


ANYONE: Final = Identity(user=None, handle=None, expires=None, read=EVERY_ROOM, write=EVERY_ROOM)
"""A client of an open server."""

SERVER: Final = Identity(user=None, handle=None, expires=None, read=EVERY_ROOM, write=EVERY_ROOM, server=True)
"""Who presents an API key."""
