"""Rooms in which nobody is, and which of them a relay in memory forgets first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

EVICTIONS: Final = 64
"""Rooms of one spender that are forgotten at most before it is counted again who has most."""


class IdleRooms:
    """Rooms by whose they are, the longest unused first. None are the server's own, and those of several.

    bytes_of
        the bytes of each spender, also in rooms in which somebody is
    """

    def __init__(self, bytes_of: Callable[[], Mapping[str | None, int]]) -> None:
        self._bytes_of = bytes_of
        self._spenders: dict[str, str | None] = {}
        self._rooms: dict[str | None, OrderedDict[str, None]] = {}
        self._order: list[str | None] = []
        self._evictions_left = 0

    def __len__(self) -> int:
        return len(self._spenders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spenders)

    def use(self, room: str, spender: str | None) -> None:
        """Make a room the last one to be forgotten of those of its spender."""
        if self._spenders.get(room, spender) != spender:
            self.discard(room)
        self._spenders[room] = spender
        rooms = self._rooms.get(spender)
        if rooms is None:
            rooms = self._rooms[spender] = OrderedDict()
        rooms[room] = None
        rooms.move_to_end(room)

    def discard(self, room: str) -> None:
        """Let go of a room; no harm if it is not here."""
        if room not in self._spenders:
            return
        spender = self._spenders.pop(room)
        rooms = self._rooms[spender]
        del rooms[room]
        if not rooms:
            del self._rooms[spender]

    def first(self, but: str, spender: str | None, *, spare: bool) -> str | None:
        """Return the room that is to be forgotten first: the oldest of whoever has most; never `but`, a `spender`'s.

        spare
            none, rather than a room of those who have less than `spender`
        """
        if self._evictions_left <= 0:
            self._count()
        self._evictions_left -= 1
        for largest in self._order:
            for room in self._rooms.get(largest, ()):
                if room != but:
                    return room
            if spare and largest == spender:
                return None
        return next((room for room in self._spenders if room != but), None)

    def clear(self) -> None:
        """Let go of all."""
        self._spenders.clear()
        self._rooms.clear()

    def _count(self) -> None:
        """Find who has most. It takes as long as there are rooms, so it is not done for each of them."""
        sizes = self._bytes_of()
        self._order = sorted(sizes, key=sizes.__getitem__, reverse=True)
        rooms = next((self._rooms[spender] for spender in self._order if spender in self._rooms), ())
        self._evictions_left = min(EVICTIONS, len(rooms) // 8 + 1)
