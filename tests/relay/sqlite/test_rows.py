"""Many rows in few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from twisted_chat.relay.sqlite.rows import insert, select


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, square INTEGER)")
    yield connection
    connection.close()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 127, 200, 1_000])
def test_all_rows_are_inserted_in_order_and_found(connection: sqlite3.Connection, count: int) -> None:
    rows = [(number, number * number) for number in range(count)]
    insert(connection, "INSERT INTO numbers (id, square)", rows)
    assert connection.execute("SELECT * FROM numbers ORDER BY id").fetchall() == rows
    query = "SELECT id, square FROM numbers WHERE (id, square) IN (VALUES {values})"
    assert sorted(select(connection, query, rows)) == rows


def test_it_takes_few_statements_of_few_kinds(connection: sqlite3.Connection) -> None:
    executed: list[str] = []
    connection.set_trace_callback(executed.append)
    for count in range(1, 201):
        connection.execute("DELETE FROM numbers")
        executed.clear()
        insert(connection, "INSERT INTO numbers (square)", [(0,)] * count)
        assert len(executed) <= 9
        assert {statement.count("(0)") for statement in executed} <= {1, 2, 4, 8, 16, 32, 64}


def test_what_follows_the_rows_applies_to_each(connection: sqlite3.Connection) -> None:
    insert(connection, "INSERT INTO numbers", [(1, 1), (2, 4), (3, 9)])
    replace = "ON CONFLICT (id) DO UPDATE SET square = excluded.square"
    insert(connection, "INSERT INTO numbers", [(2, 0), (3, 0), (4, 0)], replace)
    assert connection.execute("SELECT square FROM numbers ORDER BY id").fetchall() == [(1,), (0,), (0,), (0,)]
