"""Many rows in few statements.

The sqlite3 module gives up and retakes the interpreter's lock for each row of an ``executemany``, and while the
reactor's thread is busy it may wait a switch interval (5 ms) each time. With that thread always busy, 80 rows a second
were measured one by one, 2,800 in batches of 100 written like this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

Row = tuple[Any, ...]

LARGEST: Final = 64


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Row], otherwise: str = "") -> None:
    """``{into} VALUES (?, …), … {otherwise}`` for all rows."""
    for chunk in _chunks(rows):
        connection.execute(f"{into} VALUES {_placeholders(chunk)} {otherwise}", tuple(chain.from_iterable(chunk)))


def select(connection: sqlite3.Connection, query: str, wanted: Sequence[Row]) -> Iterator[Row]:
    """What `query` finds with ``{values}`` in it standing for all that is wanted: ``… IN (VALUES {values})``."""
    for chunk in _chunks(wanted):
        yield from connection.execute(
            query.format(values=_placeholders(chunk)), tuple(chain.from_iterable(chunk))
        ).fetchall()


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Powers of two, the largest first: so few statements exist that each is prepared once."""
    begin, size = 0, LARGEST
    while begin < len(rows):
        while size > len(rows) - begin:
            size //= 2
        yield rows[begin : begin + size]
        begin += size


def _placeholders(rows: Sequence[Row]) -> str:
    return ",".join([f"({','.join('?' * len(rows[0]))})"] * len(rows))
