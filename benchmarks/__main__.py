"""``python -m benchmarks``: measures, shows, saves.

    make bench          # all of it; about three quarters of an hour, and installs the peers first
    make bench-quick    # a minute

Ratios of one run mean something; figures of different runs do not.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    connections,
    consumers,
    delivery,
    growth,
    handshakes,
    http2,
    latency,
    machine,
    memory,
    plot,
    relays,
    report,
    rooms,
    tls,
)
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
    "growth": growth.measure,
    "rooms": rooms.measure,
    "connections": connections.measure,
    "http2": http2.measure,
    "relays": relays.measure,
    "consumers": consumers.measure,
}
"""In the order in which they are measured."""

RESULTS: Final = HERE / "results"


class Bar:
    """How far it has come: a table for each comparison, and below them a bar where the output is a terminal."""

    def __init__(self, console: Console, topics: int) -> None:
        self._console = console
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=console)
        self._task = self.progress.add_task("", total=topics)

    def doing(self, what: str) -> None:
        self.progress.update(self._task, description=what)

    def done(self, comparison: Comparison) -> None:
        self._console.print(report.table(comparison))

    def topic_done(self) -> None:
        self.progress.advance(self._task)


def run(topics: list[str], bench: Bench, bar: Bar, save: Path) -> Results:
    """Measure, and save after each topic what there is by then. Raises `BrokenError`."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    facts, versions = machine.facts(), machine.versions()
    with bar.progress:
        for topic in topics:
            TOPICS[topic](bench)
            bar.topic_done()
            results = Results(when, bench.quick, facts, versions, tuple(bench.comparisons))
            results.save(save)
    return results


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
    topics = options.topics or list(TOPICS)
    save = options.save / ("quick.json" if options.quick else "results.json")
    console = Console()
    bar = Bar(console, len(topics))
    seconds = options.seconds or (0.5 if options.quick else 3.0)
    rounds = options.rounds or (1 if options.quick else 3)
    # Ended from outside it ends its servers, as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("benchmarks: terminated"))
    try:
        compile_native()
        results = run(topics, Bench(options.quick, seconds, rounds, bar), bar, save)
    except MissingError as error:
        # Only what every benchmark needs gets here: a peer that is missing is named in the tables.
        console.print(f"No benchmark: {error}", markup=False)
        sys.exit(0 if options.quick else 1)
    except BrokenError as error:
        sys.exit(f"benchmarks: {error}")
    plot.draw(results, save.with_suffix(".svg"))
    report.conclude(results, console)
    console.print(f"Written: {save} and {save.with_suffix('.svg').name}", highlight=False)


if __name__ == "__main__":
    main()
