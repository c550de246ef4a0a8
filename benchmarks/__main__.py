"""``python -m benchmarks``: measures, shows, saves.

    make bench          # all of it; about half an hour, and installs the peers first
    make bench-quick    # a minute

Ratios of one run mean something; figures of different runs do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import connections, delivery, handshakes, latency, machine, memory, relays, report, rooms, tls
from benchmarks.bench import Bench
from benchmarks.installation import HERE, MissingError, compile_native
from benchmarks.results import Comparison, Results
from benchmarks.servers import BrokenError

TOPICS: Final[dict[str, Callable[[Bench], None]]] = {
    "delivery": delivery.measure,
    "latency": latency.measure,
    "tls": tls.measure,
    "handshakes": handshakes.measure,
    "memory": memory.measure,
    "rooms": rooms.measure,
    "connections": connections.measure,
    "relays": relays.measure,
}
"""In the order in which they are measured."""

RESULTS: Final = HERE / "results"


class Bar:
    """How far it has come, on a line that stays where the output is a terminal."""

    def __init__(self, console: Console, topics: int) -> None:
        self._console = console
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=console)
        self._task = self.progress.add_task("", total=topics)

    def doing(self, what: str) -> None:
        self.progress.update(self._task, description=what)

    def done(self, comparison: Comparison) -> None:
        if self._console.is_terminal:
            self._console.print(report.table(comparison))

    def topic_done(self) -> None:
        self.progress.advance(self._task)


def run(topics: list[str], quick: bool, seconds: float, rounds: int, console: Console) -> Results:
    """Measure. Raises `MissingError` without a compiler, and `BrokenError`."""
    compile_native()
    bar = Bar(console, len(topics))
    bench = Bench(quick, seconds, rounds, bar)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with bar.progress:
        for topic in topics:
            TOPICS[topic](bench)
            bar.topic_done()
    return Results(when, quick, machine.facts(), machine.versions(), tuple(bench.comparisons))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; all without any")
    parser.add_argument("--quick", action="store_true", help="a minute, with what needs no installing")
    parser.add_argument("--seconds", type=float, help="for which one figure is taken")
    parser.add_argument("--rounds", type=int, help="how often each figure is taken")
    parser.add_argument("--save", type=Path, default=RESULTS, metavar="DIRECTORY", help="where results are written")
    options = parser.parse_args()
    for topic in options.topics:
        if topic not in TOPICS:
            parser.error(f"there is no topic {topic!r}; there are {', '.join(TOPICS)}")
    console = Console()
    try:
        results = run(
            options.topics or list(TOPICS),
            options.quick,
            options.seconds or (0.7 if options.quick else 3.0),
            options.rounds or (1 if options.quick else 3),
            console,
        )
    except (MissingError, BrokenError) as error:
        sys.exit(f"benchmarks: {error}")
    name = "quick" if options.quick else "results"
    results.save(options.save / f"{name}.json")
    report.show(results, console)


if __name__ == "__main__":
    main()
