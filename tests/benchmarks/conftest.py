"""Results that were never measured."""

from __future__ import annotations

import pytest

from benchmarks import connections
from benchmarks.contenders import OURS
from benchmarks.results import Comparison, Results, Row


def row(name: str, value: float) -> Row:
    return Row(name, value, value, value)


@pytest.fixture
def costs() -> Comparison:
    """Ours in the middle, and somebody who did not come."""
    rows = (row(OURS, 2.0), row("C", 0.5), row("node", 5.0))
    return Comparison("delivery", "100 members", "µs", "less", rows, missing={"daphne": "there is no *daphne*"})


@pytest.fixture
def rates() -> Comparison:
    return Comparison("relays", "SQLite", "messages/s", "more", (row("all", 1000.0), row("one", 100.0)), base="all")


@pytest.fixture
def held() -> list[Comparison]:
    """Of two sizes."""
    rows = {connections.MEMORY: (20.0, 10.0), connections.SILENT: (2.0, 1.0)}
    return [
        Comparison("connections", "of one process", unit, "less", (row("1,000", a), row("20,000", b)), base="1,000")
        for unit, (a, b) in rows.items()
    ]


@pytest.fixture
def results(costs: Comparison, rates: Comparison, held: list[Comparison]) -> Results:
    return Results(
        when="2026-11-25T12:00:00+00:00",
        quick=False,
        machine={"processors": "2"},
        versions={"Python": "3.11"},
        comparisons=(costs, rates, *held),
    )
