"""Publications in an SQLite database: plain calls that block, all of them from the thread that opened it."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Position, Publication, Published, Question
from twisted_chat.relay.answer import answer
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits, Usage, WhenFull
from twisted_chat.relay.position import Moments, following, horizon, microseconds
from twisted_chat.relay.sqlite.file import GoneError, Transaction, Whereabouts, open_file
from twisted_chat.relay.sqlite.rows import Row, insert, select
from twisted_chat.relay.sqlite.shares import ROW_BYTES, Shares
from twisted_chat.relay.sqlite.sweep import Sweep

MAX_BYTES: Final = 1 << 30
ROOMS_REMEMBERED: Final = 50_000
"""Rooms whose position is at hand, so that it need not be read."""
EMPTY_ROOMS: Final = 1_000
"""Rooms that somebody is, or was, in and that have no publications: beyond twice those who somebody is in, and so many
more, the others are forgotten at once, otherwise with the next sweep."""
TRIM_EVERY: Final = 32
"""Publications of a room between two deletions of what its count no longer allows."""
TRIM_ROWS: Final = 1_000
"""Rows of a room that one batch deletes at most; a sweep deletes the rest, so that no batch takes long."""
SPARE_BYTES: Final = 32_768
"""What must still fit for the database to be called ready."""


class Draft(NamedTuple):
    """Something to be published."""

    room: str
    data: bytes
    key: str | None = None
    spender: str | None = None


class ChatDatabase:
    """Rooms, publications and idempotency keys in one file.

    `now` is the time in seconds (Unix). Calls raise `ChatError`: `STORAGE_FULL` when there is no space, `TRY_AGAIN` for
    any other trouble with the disk; its ``__cause__`` is what SQLite said. Nothing is changed then.
    """

    def __init__(
        self,
        path: Path,
        history: HistoryLimits,
        max_bytes: int = MAX_BYTES,
        occupied: Container[str] = frozenset(),
        when_full: WhenFull = WhenFull.REFUSE,
        usage: Usage | None = None,
    ) -> None:
        """Open the file or make it. Raises `RelayError`, see `open_file`.

        `occupied`: rooms whose position must live on, although nothing of them is kept; looked into at any time.
        """
        self._connection = open_file(path, max_bytes)
        self._whereabouts = Whereabouts(path)
        self._history = history
        self._occupied = occupied
        self._moments = _moments(self._connection)
        self._shares = Shares(self._connection, max_bytes, when_full, self._moments, occupied)
        self._usage = usage or Usage()
        self._sweep = Sweep(self._connection, history, max_bytes, self._moments, occupied)
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._empty: dict[str, _Room] = {}
        self._most_empty = EMPTY_ROOMS
        # Of rooms that were forgotten too, while anything mentions them.
        (self._last_id,) = self._connection.execute(
            "SELECT max(coalesce((SELECT max(id) FROM rooms), 0), coalesce((SELECT max(room) FROM keys), 0))"
        ).fetchone()

    def store(self, drafts: Sequence[Draft], now: float) -> list[Published | ChatError]:
        """Make them durable, in this order, all or none but those of spenders that have more than their share.

        None is acknowledged that went to a file which nobody will find. One that is taken away in this very moment may
        have them, for the case that it comes back.
        """
        with _refusing():
            self._whereabouts.check()
            for name in self._shares.make_space():
                self._rooms.pop(name, None)
            batch = _Batch(self._load({draft.room for draft in drafts}), replace(self._moments), now)
            self._recall_keys(batch, drafts)
            shares, most = self._shares, self._shares.most()
            published: list[Published | ChatError] = []
            for draft in drafts:
                spender = shares.spender(draft.spender) if draft.spender is not None else 0
                published.append(batch.add(draft, spender, spender != 0 and shares.of(spender) > most))
            if batch.tops:
                with Transaction(self._connection):
                    self._write(batch)
            for name, top in batch.tops.items():
                room = self._rooms[name] = batch.rooms[name]
                room.top = top
                self._empty.pop(name, None)
                self._account(room, batch.spenders[name], batch.sizes[name])
            self._moments.newest = batch.moments.newest
            self._usage.bytes, self._usage.evicted = self._shares.used(), self._shares.evicted
            self._whereabouts.check()
            return published

    def history(self, room: str, question: Question, now: float) -> History:
        """Answer a question about a room's past."""
        with _refusing():
            here = self._load({room})[room]
            if not here.top.offset and room in self._occupied:
                # While somebody is there, nothing can be forgotten of the room, whatever happens to others.
                self._remember_empty(room, here)
            oldest = horizon(self._history, now)
            first_kept = self._first_kept(here.top)

            def read(first: int, last: int) -> Sequence[Publication]:
                rows = self._connection.execute(
                    "SELECT offset, tag, previous, data FROM publications"
                    " WHERE room = ? AND offset BETWEEN ? AND ? AND tag >= ? ORDER BY offset",
                    (here.id, max(first, first_kept), last, oldest),
                ).fetchall()
                return [here.publication(*row) for row in rows]

            return answer(question, here.top, read, here.oldest)

    def sweep(self, now: float) -> bool:
        """Delete some of what is over, in a short transaction. Whether there is more: call again."""
        with _refusing():
            forgotten, freed, more = self._sweep.step(now)
            self._usage.bytes = self._shares.used()
        for each in freed:
            self._shares.add(each.spender, -each.bytes)
            if each.room in self._rooms:
                self._rooms[each.room].size -= each.bytes
        for name in forgotten:
            self._rooms.pop(name, None)
        self._forget_empty()
        return more

    def probe(self, now: float) -> None:
        """Write something and make it durable: fails as a publication would."""
        with _refusing():
            self._whereabouts.check()
            with Transaction(self._connection):
                execute = self._connection.execute
                execute("INSERT OR REPLACE INTO probe VALUES (1, 0, zeroblob(?))", (SPARE_BYTES,))
                execute("DELETE FROM probe WHERE id = 1")
                execute("INSERT OR REPLACE INTO probe VALUES (0, ?, x'')", (microseconds(now),))

    def close(self) -> None:
        """Leave a single file behind, and let go of it. Raises `ChatError` if it could not be tidied; closed it is."""
        try:
            with _refusing():
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.close()

    def _load(self, names: Collection[str]) -> dict[str, _Room]:
        """What is known of these rooms. Those without a publication are remembered with their first."""
        known = self._rooms
        while len(known) > ROOMS_REMEMBERED:
            known.popitem(last=False)
        missing = [(name,) for name in names if name not in known]
        query = "SELECT name, id, epoch, offset, tag, spender, bytes FROM rooms WHERE name IN (VALUES {values})"
        for name, number, epoch, offset, tag, spender, size in select(self._connection, query, missing):
            known[name] = _Room(number, Position(epoch, offset, tag), self._moments.oldest(), spender, size)
        return {name: self._known(name) for name in names}

    def _known(self, name: str) -> _Room:
        room = self._rooms.get(name)
        if room is not None:
            self._rooms.move_to_end(name)
            return room
        if name in self._empty:
            return self._empty[name]
        self._last_id += 1
        return _Room(self._last_id, self._moments.empty(), self._moments.oldest())

    def _account(self, room: _Room, spender: int, size: int) -> None:
        """Charge what was stored in a room; one that another has published in is nobody's from now on."""
        if spender == room.spender or not room.size:
            self._shares.add(spender, size)
        else:
            self._shares.add(room.spender, -room.size)
        room.spender = spender
        room.size = max(room.size + size, 0)

    def _remember_empty(self, name: str, room: _Room) -> None:
        self._empty[name] = room
        if len(self._empty) > self._most_empty:
            self._forget_empty()
            self._most_empty = 2 * len(self._empty) + EMPTY_ROOMS

    def _forget_empty(self) -> None:
        for name in [name for name in self._empty if name not in self._occupied]:
            del self._empty[name]

    def _recall_keys(self, batch: _Batch, drafts: Sequence[Draft]) -> None:
        """Let the batch know what was stored under its keys lately."""
        wanted = [(batch.rooms[draft.room].id, _key(draft.key)) for draft in drafts if draft.key is not None]
        rooms = {room.id: room for room in batch.rooms.values()}
        # A join in this order finds each by the index; "(room, key) IN (VALUES …)" reads the whole table.
        query = (
            "WITH wanted (room, key) AS (VALUES {values})"
            " SELECT keys.room, keys.key, expires, offset, tag, previous, data"
            " FROM wanted CROSS JOIN keys ON keys.room = wanted.room AND keys.key = wanted.key"
        )
        for room, key, expires, *columns in select(self._connection, query, wanted):
            if expires > microseconds(batch.now):
                batch.known[room, key] = rooms[room].publication(*columns)

    def _write(self, batch: _Batch) -> None:
        """Every publication is inserted and only the oldest are deleted: what is there has no gap, whatever limits it
        was written under.
        """
        rooms: list[Row] = []
        for name, top in batch.tops.items():
            room = batch.rooms[name]
            # Before the new ones come, so that a full database with rooms at their count goes on.
            first_kept = self._first_kept(top)
            if first_kept > 1 and room.top.offset // TRIM_EVERY != top.offset // TRIM_EVERY:
                batch.sizes[name] -= self._trim(room.id, first_kept)
            size = max(room.size + batch.sizes[name], 0)
            if room.top.offset and room.spender != batch.spenders[name]:
                # Not with the others below: each would be written into the index of spenders again.
                self._connection.execute("UPDATE rooms SET spender = 0 WHERE id = ?", (room.id,))
            rooms.append((room.id, name, top.epoch, top.offset, top.tag, batch.spenders[name], size))
        insert(self._connection, "INSERT INTO publications (room, offset, tag, previous, data)", batch.publications)
        insert(
            self._connection,
            "INSERT OR REPLACE INTO keys (room, key, expires, offset, tag, previous, data)",
            batch.keys,
        )
        insert(
            self._connection,
            "INSERT INTO rooms (id, name, epoch, offset, tag, spender, bytes)",
            rooms,
            "ON CONFLICT (id) DO UPDATE SET offset = excluded.offset, tag = excluded.tag, bytes = excluded.bytes",
        )

    def _trim(self, room: int, first_kept: int) -> int:
        """Delete some of what the count no longer allows; the bytes thereby freed."""
        over = (
            "FROM publications WHERE room = ?1 AND offset < ?2"
            " AND offset < (SELECT min(offset) FROM publications WHERE room = ?1) + ?3"
        )
        bounds = (room, first_kept, TRIM_ROWS)
        query = f"SELECT coalesce(sum(length(data) + {ROW_BYTES}), 0) {over}"
        (freed,) = self._connection.execute(query, bounds).fetchone()
        self._connection.execute(f"DELETE {over}", bounds)
        return int(freed)

    def _first_kept(self, top: Position) -> int:
        """The offset of the oldest publication that the count allows; older rows may be there still."""
        return top.offset - self._history.count + 1


@dataclass(slots=True)
class _Room:
    id: int
    top: Position
    oldest: Position
    """See `answer`."""
    spender: int = 0
    size: int = 0
    """Bytes, see `Shares`."""

    def publication(self, offset: int, tag: int, previous: int, data: bytes) -> Publication:
        return Publication(Position(self.top.epoch, offset, tag), previous, data)


@dataclass(slots=True)
class _Batch:
    """What is written in one transaction. Rooms keep their old top until it is durable."""

    rooms: dict[str, _Room]
    moments: Moments
    now: float
    known: dict[tuple[int, bytes], Publication] = field(default_factory=dict)
    tops: dict[str, Position] = field(default_factory=dict)
    publications: list[Row] = field(default_factory=list)
    keys: list[Row] = field(default_factory=list)
    spenders: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, draft: Draft, spender: int, full: bool) -> Published | ChatError:
        room = self.rooms[draft.room]
        key = None if draft.key is None else _key(draft.key)
        if key is not None and (known := self.known.get((room.id, key))) is not None:
            return Published(known, duplicate=True)
        if full:
            return ChatError(
                Reason.STORAGE_FULL,
                "you have your share of the server's storage, which is nearly full; try again later",
            )
        top = self.tops.get(draft.room, room.top)
        name, size = draft.room, len(draft.data) + ROW_BYTES
        if name in self.sizes:
            self.sizes[name] += size
            if self.spenders[name] != spender:
                self.spenders[name] = 0
        else:
            self.sizes[name] = size
            self.spenders[name] = spender if not top.offset or room.spender == spender else 0
        if top.offset:
            position, previous = following(top, self.now), top.tag
        else:
            position, previous = self.moments.first(self.now), room.oldest.tag
        self.tops[draft.room] = position
        self.moments.newest = max(self.moments.newest, position.tag)
        publication = Publication(position, previous, draft.data)
        row = (position.offset, position.tag, previous, draft.data)
        self.publications.append((room.id, *row))
        if key is not None:
            self.known[room.id, key] = publication
            self.keys.append((room.id, key, microseconds(self.now + IDEMPOTENCY_SECONDS), *row))
        return Published(publication)


def _moments(connection: sqlite3.Connection) -> Moments:
    """Return what the file remembers of forgotten rooms."""
    (newest,) = connection.execute("SELECT coalesce(max(tag), 0) FROM rooms").fetchone()
    epoch, forgotten = connection.execute("SELECT epoch, forgotten FROM store").fetchone()
    return Moments(epoch, max(newest, forgotten), forgotten)


def _key(text: str) -> bytes:
    """Any text is a key, also one that is not valid Unicode: it must not fail the whole batch."""
    return text.encode("utf-8", "surrogatepass")


@contextmanager
def _refusing() -> Iterator[None]:
    """Trouble with the disk, said so that it can be passed on to clients."""
    try:
        yield
    except GoneError as error:
        raise ChatError(Reason.TRY_AGAIN, "the server's storage was taken away; try again later") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise ChatError(Reason.STORAGE_FULL, "the server's storage is full; try again later") from error
        raise ChatError(Reason.TRY_AGAIN, "the server's storage does not work right now; try again later") from error
