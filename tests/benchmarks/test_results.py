"""Ratios, and files of results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results import Comparison, Results, Row


def ratios(comparison: Comparison) -> list[float | None]:
    return [comparison.ratio(row) for row in comparison.rows]


def test_a_row_is_the_median_with_its_bounds() -> None:
    assert Row.of("ours", [3.0, 1.0, 2.5]) == Row("ours", value=2.5, least=1.0, most=3.0)


def test_less_cost_than_another_is_better(costs: Comparison) -> None:
    assert ratios(costs) == [1.0, 0.25, 2.5]


def test_a_higher_rate_than_another_is_better(rates: Comparison) -> None:
    assert ratios(rates) == [1.0, 10.0]


def test_nothing_is_said_of_nothing(costs: Comparison) -> None:
    assert ratios(replace(costs, base="somebody else")) == [None] * 3
    assert costs.ratio(Row("unmeasured", 0.0, 0.0, 0.0)) is None


def test_what_is_saved_can_be_loaded(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    results.save(path)
    assert Results.load(path) == results


def test_the_file_has_the_ratios_too(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    saved = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["ratio"] for row in saved["comparisons"][0]["rows"]] == [1.0, 0.25, 2.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", "Expecting value"),
        ("[]", "format is not 1"),
        ('{"format": 0}', "format is not 1"),
        ('{"format": 1, "comparisons": [{}]}', "rows"),
        ('{"format": 1, "comparisons": [], "colour": "red"}', "colour"),
    ],
)
def test_another_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"other\.json is no file of results: .*{said}"):
        Results.load(path)
