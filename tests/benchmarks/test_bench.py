"""Turns, rounds and who is missing; with servers that are only programs that listen."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benchmarks.bench import Bench, Figure
from benchmarks.contenders import OURS, Contender
from benchmarks.installation import MissingError
from benchmarks.results import Comparison
from benchmarks.servers import BrokenError, Running

LISTEN = "import signal, socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); signal.pause()"
VALUE: Figure[float] = Figure("ms", "less", float)


class Silence:
    def doing(self, what: str) -> None: ...
    def done(self, comparison: Comparison) -> None: ...


def listening(name: str, *, ours: bool = False) -> Contender:
    return Contender(name, lambda port: [sys.executable, "-c", LISTEN, str(port)], ours=ours)


def ending(name: str, *, ours: bool = False) -> Contender:
    return Contender(name, lambda _: [sys.executable, "-c", "raise SystemExit('no such thing')"], ours=ours)


def absent(port: int) -> list[str]:
    raise MissingError(f"nothing for port {port} is installed\nat all")


@pytest.fixture
def bench() -> Bench:
    return Bench(quick=True, seconds=0.1, rounds=2, progress=Silence())


def compare(
    bench: Bench, *contenders: Contender, values: Iterator[float] | None = None
) -> tuple[Comparison, list[str]]:
    order: list[str] = []

    def measure(server: Running) -> float:
        order.append(server.contender.name)
        return next(values) if values is not None else 1.0

    bench.side_by_side("topic", "title", [VALUE], contenders, measure)
    [comparison] = bench.comparisons
    return comparison, order


def test_contenders_take_turns_forth_and_back(bench: Bench) -> None:
    values = iter([1.0, 10.0, 20.0, 3.0])
    comparison, order = compare(bench, listening(OURS, ours=True), listening("peer"), values=values)
    assert order == [OURS, "peer", "peer", OURS]
    assert [row.value for row in comparison.rows] == [2.0, 15.0]
    assert comparison.missing == {}


def test_a_peer_that_is_missing_or_broken_is_named(bench: Bench) -> None:
    comparison, order = compare(bench, listening(OURS, ours=True), ending("broken"), Contender("absent", absent))
    assert [row.name for row in comparison.rows] == [OURS]
    assert order == [OURS, OURS]
    assert comparison.missing is not None
    assert comparison.missing["broken"] == "broken ended with status 1: no such thing"
    assert comparison.missing["absent"].startswith("nothing for port ")
    assert "\n" not in comparison.missing["absent"]


def test_a_benchmark_of_ours_that_is_broken_ends_the_run(bench: Bench) -> None:
    with pytest.raises(BrokenError, match="ended with status 1: no such thing"):
        compare(bench, ending(OURS, ours=True))


def test_sizes_are_set_against_the_first(bench: Bench) -> None:
    taken: list[str] = []

    def size(name: str, value: float) -> float:
        taken.append(name)
        return value

    bench.sizes("topic", "title", [VALUE], {"1": lambda: size("1", 1.0), "2": lambda: size("2", 4.0)})
    [comparison] = bench.comparisons
    assert taken == ["1", "2", "2", "1"]
    assert comparison.base == "1"
    assert [comparison.ratio(row) for row in comparison.rows] == [1.0, 4.0]
