"""Who has how much of an SQLite database, and what becomes of what does not fit."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Container
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from twisted_chat.relay.interface import WhenFull
from twisted_chat.relay.position import Moments
from twisted_chat.relay.sqlite.file import Transaction

ROW_BYTES: Final = 200
"""What a publication costs besides its data, about."""
RESERVE: Final = 8
"""Rooms are evicted when less than this part of the file is free: an eighth."""
EVICTED_ROOMS: Final = 200
"""Rooms that are evicted before one batch, at most."""
EVICTED_BYTES: Final = 4 << 20
"""Bytes of publications that are evicted before one batch, or little more."""
ROOMS_OF: Final = "SELECT id, name, tag, bytes FROM rooms WHERE spender = ? AND spender != 0 ORDER BY id"
"""The rooms of a spender, the oldest first.

Without the second condition SQLite would not use the index, which is of such rooms alone, and read the whole table.
"""


class Freed(NamedTuple):
    """Bytes that a room no longer has."""

    room: str
    spender: int
    bytes: int


class Shares:
    """The bytes of each spender, in the rooms in which it alone has published.

    A spender is a number, made of a name by `spender`; 0 is the server itself, and the rooms of several. Rooms of 0 are
    never evicted, and what is published by 0 is refused only when the file has no space at all.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        max_bytes: int,
        when_full: WhenFull,
        moments: Moments,
        occupied: Container[str],
    ) -> None:
        self._connection = connection
        self._max_bytes: Final = max_bytes
        self._when_full: Final = when_full
        self._moments = moments
        self._occupied = occupied
        self.evicted = 0
        self.spender: Final = lru_cache(maxsize=4_096)(self._number)
        self._bytes: Counter[int] = Counter(
            dict(connection.execute("SELECT spender, sum(bytes) FROM rooms WHERE spender != 0 GROUP BY spender"))
        )

    def _number(self, name: str | None) -> int:
        """Return the number of a spender. No address can be read from it; who has the file can try them all."""
        if name is None:
            return 0
        text = name.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(text, key=self._moments.epoch.encode(), digest_size=7).digest(), "big") or 1

    def used(self) -> int:
        """Return the bytes of the file that hold something."""
        execute = self._connection.execute
        (size,), (pages,), (free,) = (
            execute(f"PRAGMA {pragma}").fetchone() for pragma in ("page_size", "page_count", "freelist_count")
        )
        return int(size) * (int(pages) - int(free))

    def most(self) -> float:
        """Return the bytes that one spender may have now: as many as are free.

        One alone leaves half of the file to the others, and whoever comes next half of what is left.
        """
        if self._when_full is not WhenFull.REFUSE:
            return float("inf")
        return max(0, self._max_bytes - self.used())

    def of(self, spender: int) -> int:
        """Return the bytes that a spender has."""
        return self._bytes.get(spender, 0)

    def add(self, spender: int, size: int) -> None:
        """Take note that a spender has more, or, below 0, less."""
        if not spender:
            return
        total = self._bytes.get(spender, 0) + size
        if total > 0:
            self._bytes[spender] = total
        else:
            self._bytes.pop(spender, None)

    def make_space(self) -> list[str]:
        """Forget the oldest rooms of whoever has most, if little is free; the names of the rooms.

        Rooms that somebody is in are passed over. A step is bounded: there is another one before the next batch.
        """
        if self._when_full is not WhenFull.EVICT or self._max_bytes - self.used() >= self._max_bytes // RESERVE:
            return []
        for spender, _ in self._bytes.most_common(3):
            rooms = self._oldest(spender)
            if rooms:
                self._evict(spender, rooms)
                return [name for _, name, _, _ in rooms]
        return []

    def _oldest(self, spender: int) -> list[tuple[int, str, int, int]]:
        """Return the rooms of a spender that go first. Those that somebody is in are no more than there are clients."""
        chosen: list[tuple[int, str, int, int]] = []
        bytes_left = EVICTED_BYTES
        for room in self._connection.execute(ROOMS_OF, (spender,)):
            if room[1] in self._occupied:
                continue
            chosen.append(room)
            bytes_left -= room[3]
            if bytes_left <= 0 or len(chosen) >= EVICTED_ROOMS:
                break
        return chosen

    def _evict(self, spender: int, rooms: list[tuple[int, str, int, int]]) -> None:
        newest = max(tag for _, _, tag, _ in rooms)
        with Transaction(self._connection):
            for number, _, _, _ in rooms:
                for table, column in (("publications", "room"), ("keys", "room"), ("rooms", "id")):
                    self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (number,))  # noqa: S608 - ours
            self._connection.execute("UPDATE store SET forgotten = max(forgotten, ?)", (newest,))
        self._moments.forget(newest)
        self.evicted += len(rooms)
        self.add(spender, -sum(size for _, _, _, size in rooms))
