"""Deletes what is over from an SQLite database, a little at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Container
from typing import Final

from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.position import Moments, forgettable, horizon, microseconds
from twisted_chat.relay.sqlite.file import Transaction, limit_size
from twisted_chat.relay.sqlite.shares import ROW_BYTES, Freed

ROWS: Final = 1_000
"""Rows of one kind that a step deletes at most, or only a little more."""
ROOMS: Final = 200
"""Rooms that a step looks at."""
PAGES: Final = 500
"""Free pages that a step gives back to the file system, when more than a quarter of the file is free."""


class Sweep:
    """A way through all rooms, that goes on where the last step ended.

    Publications too old or beyond the count, idempotency keys that expired, and rooms of which nothing is left: their
    next publication begins a new history, so a returning client learns that its position is lost.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        history: HistoryLimits,
        max_bytes: int,
        moments: Moments,
        occupied: Container[str],
    ) -> None:
        self._connection = connection
        self._moments = moments
        self._occupied = occupied
        self._history = history
        self._max_bytes = max_bytes
        self._after = 0

    def step(self, now: float) -> tuple[list[str], list[Freed], bool]:
        """The rooms that were forgotten, none of them occupied; what was freed; and whether there is more to do."""
        with Transaction(self._connection):
            more_keys = self._expire_keys(now)
            freed: list[Freed] = []
            forgotten, newest, after = self._expire_rooms(now, freed)
            if forgotten:
                self._connection.execute("UPDATE store SET forgotten = max(forgotten, ?)", (newest,))
        self._moments.forget(newest)
        self._after = after or 0
        return forgotten, freed, self._give_back() or more_keys or after is not None

    def _expire_keys(self, now: float) -> bool:
        # By age, so that a step need not look at those which live.
        expired = self._connection.execute(
            "DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id LIMIT ?) AND expires <= ?",
            (ROWS, microseconds(now)),
        )
        return expired.rowcount == ROWS

    def _expire_rooms(self, now: float, freed: list[Freed]) -> tuple[list[str], int, int | None]:
        """The rooms that were forgotten, the newest tag of them, and after which one to go on; None at the end."""
        oldest, over = horizon(self._history, now), forgettable(self._history, now)
        rooms = self._connection.execute(
            "SELECT id, name, offset, tag, spender, bytes FROM rooms WHERE id > ? ORDER BY id LIMIT ?",
            (self._after, ROOMS),
        ).fetchall()
        forgotten: list[str] = []
        newest = deleted = 0
        for number, name, offset, tag, spender, size in rooms:
            rows, gone = self._expire(number, offset - self._history.count + 1, oldest)
            deleted += rows
            gone = min(gone, size)
            if gone:
                self._connection.execute("UPDATE rooms SET bytes = bytes - ? WHERE id = ?", (gone, number))
                freed.append(Freed(name, spender, gone))
            if deleted >= ROWS:
                return forgotten, newest, number - 1
            if tag < over and name not in self._occupied:
                self._connection.execute("DELETE FROM rooms WHERE id = ?", (number,))
                forgotten.append(name)
                freed.append(Freed(name, spender, size - gone))
                newest = max(newest, tag)
        return forgotten, newest, rooms[-1][0] if len(rooms) == ROOMS else None

    def _expire(self, room: int, first_kept: int, oldest: int) -> tuple[int, int]:
        """How many of the room's publications were deleted, at most `ROWS`, and their bytes."""
        execute = self._connection.execute
        first = execute(
            "SELECT offset, tag FROM publications WHERE room = ? ORDER BY offset LIMIT 1", (room,)
        ).fetchone()
        if first is None or (first[0] >= first_kept and first[1] >= oldest):
            return 0, 0
        end = first[0] + ROWS
        kept = execute(
            "SELECT offset FROM publications WHERE room = ? AND offset >= ? AND offset < ? AND tag >= ?"
            " ORDER BY offset LIMIT 1",
            (room, first_kept, end, oldest),
        ).fetchone()
        bounds = (room, end if kept is None else kept[0])
        query = f"SELECT coalesce(sum(length(data) + {ROW_BYTES}), 0) FROM publications WHERE room = ? AND offset < ?"  # noqa: S608 - ours
        (freed,) = execute(query, bounds).fetchone()
        return execute("DELETE FROM publications WHERE room = ? AND offset < ?", bounds).rowcount, int(freed)

    def _give_back(self) -> bool:
        """Shrink a file that is mostly free by some pages; whether it still is."""
        if not self._mostly_free():
            return False
        # It frees a page each time that it is asked for a row.
        self._connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
        limit_size(self._connection, self._max_bytes)
        return self._mostly_free()

    def _mostly_free(self) -> bool:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(free) > max(int(pages) // 4, PAGES)
