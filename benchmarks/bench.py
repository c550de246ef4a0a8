"""One run: how long and how often, who is measured side by side, and how far it has come.

A topic is a file with a function ``measure(bench)`` that takes figures and gives each comparison to `Bench.add`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.contenders import Contender
from benchmarks.installation import MissingError
from benchmarks.results import Better, Comparison, Row
from benchmarks.servers import BrokenError, Running, running

Measure = Callable[[Running], float]
"""Takes one figure of a server that was just started."""


class Progress(Protocol):
    """Who watches."""

    def doing(self, what: str) -> None:
        """This is measured now."""

    def done(self, comparison: Comparison) -> None:
        """This was measured."""


@dataclass(slots=True)
class Bench:
    """What a topic works with.

    quick
        a run of a minute, with what needs no installing
    seconds
        for which one figure is taken
    rounds
        how often each is taken, in turns: forth, back, forth
    """

    quick: bool
    seconds: float
    rounds: int
    progress: Progress
    comparisons: list[Comparison] = field(default_factory=list)

    def add(self, comparison: Comparison) -> None:
        """Keep what was measured."""
        self.comparisons.append(comparison)
        self.progress.done(comparison)

    def side_by_side(
        self,
        topic: str,
        title: str,
        unit: str,
        better: Better,
        contenders: Sequence[Contender],
        measure: Measure,
        *,
        processes: int = 1,
    ) -> Comparison:
        """Take the same figure of each, in turns, each time of a server just started in `processes` processes.

        A peer that is not there or fails is named as missing. Raises `BrokenError` when that is one of ours.
        """
        values: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        missing: dict[str, str] = {}
        for number in range(self.rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                if contender.name in missing:
                    continue
                self.progress.doing(f"{topic}: {title}: {contender.name}")
                try:
                    with running(contender, processes) as server:
                        values[contender.name].append(measure(server))
                except (MissingError, BrokenError) as error:
                    if contender.ours:
                        raise
                    missing[contender.name] = str(error).partition("\n")[0]
        rows = tuple(Row.of(name, taken) for name, taken in values.items() if taken and name not in missing)
        comparison = Comparison(topic, title, unit, better, rows, missing=missing)
        self.add(comparison)
        return comparison
