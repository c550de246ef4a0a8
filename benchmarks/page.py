"""The tables of ``docs/performance.rst``, made from the results of a run.

    python -m benchmarks.page [RESULTS]

takes the results (``benchmarks/results/results.json``, where ``make bench`` leaves them) into ``docs/``, with a plot,
and writes the tables. A test fails where they are not as this makes them.
"""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Final

from benchmarks import connections, plot
from benchmarks.installation import HERE
from benchmarks.report import number, ratio
from benchmarks.results import Comparison, Results

DOCS: Final = HERE.parent / "docs"
PAGE: Final = DOCS / "performance.rst"
KEPT: Final = DOCS / "performance.json"
PLOT: Final = DOCS / "performance.svg"
BEGIN: Final = ".. {name}, made by benchmarks/page.py\n"
END: Final = ".. end of {name}\n"
WIDTH: Final = 113
_MARKUP: Final = re.compile(r"([*`|\\])")
_ESCAPED: Final = r"\\\1"


def replaced(text: str, results: Results) -> str:
    """`text` with its tables as they are to be. Raises `ValueError` where there is no place for one."""
    for name, made in (
        ("the machine", machine(results)),
        ("the ratios", ratios(results)),
        ("the sizing", sizing(results)),
    ):
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"where does it stand? {begin!r} or {end!r} is missing")
        text = f"{before}{begin}\n{made}\n{end}{after}"
    return text


def machine(results: Results) -> str:
    """Where it ran, and what."""
    facts = [["On", results.when.replace("T", " ").replace("+00:00", " UTC")]]
    facts += [[name.capitalize(), value] for name, value in results.machine.items()]
    facts += [[name, value] for name, value in results.versions.items()]
    return list_table(["", ""], facts, "25 75")


def ratios(results: Results) -> str:
    """A section for each topic, with a table of its comparisons."""
    sections = []
    for topic, comparisons in itertools.groupby(results.comparisons, key=lambda each: each.topic):
        rows = [row for comparison in comparisons for row in _rows(comparison)]
        heading = topic.capitalize()
        table = list_table(["What", "Who", "Figure", "Ratio"], rows, "40 25 25 10")
        sections.append(f"{heading}\n{'-' * len(heading)}\n\n{table}")
    return "\n".join(sections)


def _rows(comparison: Comparison) -> list[list[str]]:
    rows = [[row.name, f"{number(row.value)} {comparison.unit}", ratio(comparison, row)] for row in comparison.rows]
    rows += [
        [name, f"missing: {re.sub(_MARKUP, _ESCAPED, why)}", ""] for name, why in (comparison.missing or {}).items()
    ]
    return [[comparison.title if place == 0 else "", *row] for place, row in enumerate(rows)]


def sizing(results: Results) -> str:
    """What a million connections need, in a sentence."""
    derived = connections.sizing(results.comparisons)
    if derived is None:
        return "Not measured in this run.\n"
    text = (
        f"For {derived.connections:,} connections that are mostly silent, that comes to {derived.processes} processes, "
        f"{derived.memory:.0f} GiB of memory for all of them besides what the kernel keeps for their sockets, and "
        f"{number(derived.processors)} processors that are kept busy by asking who still lives. What is said comes on "
        "top: take the cost of a delivery above times deliveries a second."
    )
    return "\n".join(textwrap.wrap(text, 120)) + "\n"


def list_table(header: list[str], rows: list[list[str]], widths: str) -> str:
    """In reStructuredText; without a header line where the header is empty."""
    lines = [".. list-table::", f"   :widths: {widths}"]
    if any(header):
        lines.append("   :header-rows: 1")
        rows = [header, *rows]
    lines.append("")
    for row in rows:
        for place, cell in enumerate(row):
            first, *rest = textwrap.wrap(cell, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
            lines.append(f"   {'*' if place == 0 else ' '} - {first}".rstrip())
            lines += [f"       {line}" for line in rest]
    return "\n".join(lines) + "\n"


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results" / "results.json"
    results = Results.load(source)
    if source != KEPT:
        shutil.copy(source, KEPT)
    plot.draw(results, PLOT)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
