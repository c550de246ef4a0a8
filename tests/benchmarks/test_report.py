"""Numbers, tables and the plot."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from benchmarks import plot, report
from benchmarks.results import Comparison, Results


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.06184, "0.0618"),
        (0.6184, "0.618"),
        (0.9996, "1.00"),
        (12.345, "12.3"),
        (324.4, "324"),
        (12_345.0, "12,300"),
        (999.9, "1000"),
    ],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert report.number(value) == text


def shown(results: Results) -> str:
    file = io.StringIO()
    console = Console(file=file, width=120)
    for comparison in results.comparisons:
        console.print(report.table(comparison))
    report.conclude(results, console)
    return file.getvalue()


def test_a_table_has_figures_ratios_and_who_is_missing(results: Results) -> None:
    text = shown(results)
    lines = {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}
    assert lines["twisted_chat"] == ["2.00", "2.00", "2.00", "1"]
    assert lines["C"] == ["0.500", "0.500", "0.500", "0.250"]
    assert lines["node"][-1] == "2.50"
    assert lines["daphne"] == ["missing"] or "daphne: there is no *daphne*" in text
    assert "processors 2" in text


def test_the_plot_has_a_bar_for_each_peer(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    plot.draw(results, path)
    text = path.read_text(encoding="utf-8")
    ET.fromstring(text)
    assert all(each in text for each in ("delivery: 100 members", ">C<", ">node<", "2.50", "0.250"))


def test_the_same_results_make_the_same_plot(results: Results, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        plot.draw(results, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_there_is_no_plot_of_nothing(results: Results, rates: Comparison, tmp_path: Path) -> None:
    plot.draw(replace(results, comparisons=(rates,)), tmp_path / "plot.svg")
    assert not (tmp_path / "plot.svg").exists()
