"""Results as people read them."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.results import Comparison, Results, Row


def number(value: float) -> str:
    """Three digits that count: ``0.618``, ``12.3``, ``324``, ``12,300``."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    exponent = int(f"{value:.2e}".partition("e")[2]) if value else 2
    return f"{value:.{min(max(0, 2 - exponent), 6)}f}"


def ratio(comparison: Comparison, row: Row) -> str:
    """How many times better the base is than this row; nothing where that cannot be said."""
    if row.name == comparison.base:
        return "1"
    found = comparison.ratio(row)
    return "" if found is None else number(found)


def table(comparison: Comparison) -> Table:
    """One comparison; the last column is how many times better we are, and below 1 how much worse."""
    made = Table(title=f"{comparison.topic}: {comparison.title}", title_justify="left", box=SIMPLE_HEAD)
    made.add_column("", min_width=24)
    made.add_column(comparison.unit, justify="right")
    made.add_column("least", justify="right", style="dim")
    made.add_column("most", justify="right", style="dim")
    made.add_column("ratio", justify="right")
    for row in comparison.rows:
        cells = [number(row.value), number(row.least), number(row.most), ratio(comparison, row)]
        made.add_row(row.name, *cells, style="bold" if row.name == comparison.base else None)
    for name, why in (comparison.missing or {}).items():
        made.add_row(name, "missing", "", "", "", style="yellow")
        made.caption = f"{name}: {why}" if made.caption is None else f"{made.caption}\n{name}: {why}"
    return made


def conclude(results: Results, console: Console) -> None:
    """What stands below the tables: how to read them, and where it ran."""
    console.print("ratio: how many times better twisted_chat, or the first row, is; below 1 it is worse", style="bold")
    facts = [*results.machine.items(), *results.versions.items()]
    console.print(", ".join(f"{name} {value}" for name, value in facts), style="dim", highlight=False)
