"""One run: how long and how often, who is measured side by side, and how far it has come.

A topic is a file with a function ``measure(bench)`` that takes figures and gives each comparison to `Bench.add`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from benchmarks.contenders import Contender
from benchmarks.installation import MissingError
from benchmarks.load import Load
from benchmarks.results import Better, Comparison, Row
from benchmarks.servers import BrokenError, Running, running

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure(Generic[T]):
    """One figure of what was measured: its unit, which direction is better, how it is found."""

    unit: str
    better: Better
    of: Callable[[T], float]


COST: Final[Figure[Load]] = Figure("µs CPU/delivery", "less", lambda load: load.delivery_cpu)
HANDSHAKES: Final[Figure[Load]] = Figure("handshakes/s", "more", lambda load: load.handshakes)
HANDSHAKE_COST: Final[Figure[Load]] = Figure("µs CPU/handshake", "less", lambda load: load.handshake_cpu)
MEMORY: Final[Figure[Load]] = Figure("KiB/connection", "less", lambda load: load.memory)
P50: Final[Figure[Load]] = Figure("ms, median", "less", lambda load: load.p50 / 1000)
P99: Final[Figure[Load]] = Figure("ms, p99", "less", lambda load: load.p99 / 1000)


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
        figures: Sequence[Figure[T]],
        contenders: Sequence[Contender],
        measure: Callable[[Running], T],
        *,
        processes: int = 1,
    ) -> None:
        """Measure each in turns, each time a server just started in `processes` processes; a comparison per figure.

        A peer that is not there or fails is named as missing. Raises `BrokenError` when that is one of ours.
        """
        taken: dict[str, list[T]] = {contender.name: [] for contender in contenders}
        missing: dict[str, str] = {}
        for number in range(self.rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                if contender.name in missing:
                    continue
                self.progress.doing(f"{topic}: {title}: {contender.name}")
                try:
                    with running(contender, processes) as server:
                        taken[contender.name].append(measure(server))
                except (MissingError, BrokenError) as error:
                    if contender.ours:
                        raise
                    missing[contender.name] = str(error).partition("\n")[0]
        for name in missing:
            del taken[name]
        for figure in figures:
            rows = [Row.of(name, [figure.of(each) for each in values]) for name, values in taken.items()]
            self.add(Comparison(topic, title, figure.unit, figure.better, tuple(rows), missing=missing))

    def sizes(
        self,
        topic: str,
        title: str,
        figures: Sequence[Figure[T]],
        measures: Mapping[str, Callable[[], T]],
        *,
        rounds: int | None = None,
    ) -> None:
        """Measure the same at several sizes, by their names, in turns; the first is the base."""
        taken: dict[str, list[T]] = {name: [] for name in measures}
        for number in range(rounds or self.rounds):
            for name in measures if number % 2 == 0 else reversed(list(measures)):
                self.progress.doing(f"{topic}: {title}: {name}")
                taken[name].append(measures[name]())
        base = next(iter(measures))
        for figure in figures:
            rows = [Row.of(name, [figure.of(each) for each in values]) for name, values in taken.items()]
            self.add(Comparison(topic, title, figure.unit, figure.better, tuple(rows), base=base))
