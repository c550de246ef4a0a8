"""The file of the SQLite relay: made, or opened after it was found sound and ours."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Final

from twisted_chat.relay.interface import RelayError

APPLICATION: Final = 0x74774368
"""``twCh``: says in the header of a database whose it is (``file chat.db`` shows it too)."""
SCHEMA: Final = 3
OLDEST_SQLITE: Final = (3, 24, 0)
"""The first with INSERT ... ON CONFLICT."""
CHECK_SECONDS: Final = 10.0

_SCHEMA_1: Final = (
    """CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        offset INTEGER NOT NULL,
        tag INTEGER NOT NULL)""",
    # It grows at its end alone: kept in the order of its index instead, a commit would touch a page for each room,
    # which was measured to halve the rate.
    """CREATE TABLE publications (
        id INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        previous INTEGER NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (room, offset))""",
    # In the order of age, with all that they answer: a publication may be trimmed before its key expires.
    """CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        key BLOB NOT NULL,
        expires INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        previous INTEGER NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (room, key))""",
    # Written to find out whether writing works.
    "CREATE TABLE probe (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, filler BLOB NOT NULL)",
)
_SCHEMA_2: Final = (
    # One row; see `relay.position.Moments`.
    "CREATE TABLE store (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, forgotten INTEGER NOT NULL)",
    "INSERT INTO store SELECT 0, lower(hex(randomblob(6))), coalesce(max(tag), 0) FROM rooms",
)
_SCHEMA_3: Final = (
    # See `relay.sqlite.shares`. What was there before is of no spender, and takes no part in this.
    "ALTER TABLE rooms ADD COLUMN spender INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE rooms ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX rooms_of_spender ON rooms (spender) WHERE spender != 0",
)
_MIGRATIONS: Final = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3)
"""What makes each schema of the one before it."""


def open_file(path: Path, max_bytes: int, check_seconds: float = CHECK_SECONDS) -> sqlite3.Connection:
    """A connection that owns the file until it is closed or the process ends, whichever way.

    The file will not grow above `max_bytes` (nor shrink below what it has). Raises `RelayError`.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise RelayError(f"the SQLite relay needs SQLite {oldest}; this Python has {sqlite3.sqlite_version}")
    check_place(path)
    _make_private(path)
    try:
        # A timeout of 0: who holds the file holds it for good.
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    except (sqlite3.Error, ValueError) as error:
        raise _explained(path, error) from error
    try:
        _prepare(connection, path)
        _check_soundness(connection, path, check_seconds)
        limit_size(connection, max_bytes)
        with Transaction(connection):
            connection.execute("INSERT OR REPLACE INTO probe VALUES (0, 0, x'')")
    except sqlite3.Error as error:
        connection.close()
        raise _explained(path, error) from error
    except RelayError:
        connection.close()
        raise
    return connection


class GoneError(Exception):
    """The files that are open are not those that the path leads to any more; the message says what to do."""


class Whereabouts:
    """Which files are open: whether what is written there will be found by who opens the path."""

    def __init__(self, path: Path) -> None:
        """`path` was opened by `open_file` just now."""
        self._path: Final = path
        absolute = os.path.abspath(path)  # noqa: PTH100 - a link stays one: it may be changed
        # SQLite puts its write-ahead log beside the file itself.
        log = os.path.realpath(path) + "-wal"
        self._files: Final = [(name, _identity(name)) for name in (absolute, log)]

    def check(self) -> None:
        """Raise `GoneError` when one of them was moved, deleted or replaced."""
        for name, identity in self._files:
            if _identity(name) != identity:
                raise GoneError(
                    f"{name} is gone, or another file has its name, so that nothing is stored: put the files of"
                    f" sqlite:{self._path} back where they were, or restart the server, which begins with what is there"
                )


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - four times in each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(path: Path) -> None:
    """A new file is for its owner only: rooms may be closed to others on this machine.

    The files that SQLite puts beside it get the same mode.
    """
    with suppress(OSError, ValueError):  # it is there, or SQLite will say why it cannot be
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def limit_size(connection: sqlite3.Connection, max_bytes: int) -> None:
    """From now on a write that would make the file larger than `max_bytes` fails with SQLITE_FULL."""
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA max_page_count = {max(max_bytes // page_size, 1)}").fetchone()


class Transaction:
    """Everything within becomes durable with its end, or nothing if it raises."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            # SQLite rolls back by itself after some errors, not after all.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def check_place(path: Path) -> None:
    """Raise `RelayError` for what SQLite would only call "unable to open database file"."""
    try:
        if path.is_dir():
            raise RelayError(f"sqlite:{path}: is a directory; name a file in it, as in sqlite:{path / 'chat.db'}")
        if not path.parent.is_dir():
            raise RelayError(f"sqlite:{path}: there is no directory {path.parent}; make it, or name another path")
        if path.exists() and not os.access(path, os.W_OK):
            raise _not_writable(path, "permission denied")
    except (OSError, ValueError) as error:
        raise _explained(path, error) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Take the file and see whose it is; nothing is written to one that is not ours."""
    # Before anything is read, so that a file in use is refused here. The lock goes with the process, even by kill -9,
    # and readers outside are kept out as well, which spares the shared memory that WAL needs otherwise.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
    connection.execute("PRAGMA temp_store = MEMORY")
    application, version, tables = (
        connection.execute(query).fetchone()[0]
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    new = application == version == tables == 0
    if not new and application != APPLICATION:
        raise RelayError(f"sqlite:{path}: is the database of another program; name another path")
    if version > SCHEMA:
        raise RelayError(
            f"sqlite:{path}: was written by a newer version of this program (schema {version}, this one knows"
            f" {SCHEMA}); install that version, or name another path"
        )
    if new:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise RelayError(f"sqlite:{path}: its file system cannot do write-ahead logging; name a path on a local disk")
    # What is committed is on the disk, also on macOS, where fsync alone does not say so.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA journal_size_limit = 16777216").fetchone()
    if version < SCHEMA:
        with Transaction(connection):
            for statements in _MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _check_soundness(connection: sqlite3.Connection, path: Path, seconds: float) -> None:
    """Look for damage, but not for longer: a start must not take minutes because the disk is slow.

    1 GiB takes about a second from the page cache, and as long as it takes to read it from a disk.
    """
    # Not a progress handler: before SQLite 3.42 that is not asked while the pages are read.
    end = Timer(seconds, connection.interrupt)
    end.start()
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        found = "ok"
    finally:
        end.cancel()
        end.join()
    if found != "ok":
        raise _damaged(path, found)


def _damaged(path: Path, how: object) -> RelayError:
    return RelayError(
        f"sqlite:{path}: is damaged ({' '.join(str(how).split())}); restore a backup, or move the file away to begin"
        " without history"
    )


def _not_writable(path: Path, why: object) -> RelayError:
    todo = f"let this user read and write the file and create files in {path.parent}"
    return RelayError(f"sqlite:{path}: cannot be written ({why}); {todo}")


def _explained(path: Path, error: Exception) -> RelayError:
    """The same error for who has to do something about it."""
    # Errors of the sqlite3 module itself have no code. The low byte is the primary one.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return RelayError(f"sqlite:{path}: is not an SQLite database; move it away, or name another path")
        case sqlite3.SQLITE_CORRUPT:
            return _damaged(path, error)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return RelayError(f"sqlite:{path}: is in use by another process; stop that one, or name another path")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return _not_writable(path, error)
        case sqlite3.SQLITE_FULL:
            return RelayError(f"sqlite:{path}: the disk is full; free some of it, or name a path elsewhere")
        case _:
            return RelayError(f"sqlite:{path}: cannot be used ({error}); name another path")
