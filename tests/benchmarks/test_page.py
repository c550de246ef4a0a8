"""The tables of docs/performance.rst."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import connections, page
from benchmarks.__main__ import TOPICS
from benchmarks.results import Comparison, Results


def test_the_page_has_the_figures_that_are_kept_beside_it() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.replaced(text, Results.load(page.KEPT)), "run: python -m benchmarks.page docs/performance.json"


def test_every_topic_is_explained() -> None:
    explained = page.PAGE.read_text(encoding="utf-8").partition("What is measured")[2].partition("How to read it")[0]
    assert [line for line in explained.splitlines() if line.isalnum() and line.islower()] == list(TOPICS)


def test_a_text_without_a_place_for_them_is_told_so(results: Results) -> None:
    with pytest.raises(ValueError, match="the machine, made by"):
        page.replaced("no marks here", results)


def test_each_topic_has_a_table(results: Results) -> None:
    text = page.ratios(results)
    assert [line for line in text.splitlines() if line.isalpha()] == ["Delivery", "Relays", "Connections"]
    assert "   * - 100 members\n     - twisted_chat\n     - 2.00 µs\n     - 1\n" in text
    assert "   * -\n     - node\n     - 5.00 µs\n     - 2.50\n" in text
    assert "   * -\n     - daphne\n     - missing: there is no \\*daphne\\*\n     -\n" in text


def test_a_million_is_derived_from_the_largest_size(held: list[Comparison]) -> None:
    derived = connections.sizing(tuple(held))
    assert derived is not None
    assert derived.processes == 50
    assert derived.memory == pytest.approx(10e6 / 1024**2)
    assert derived.processors == pytest.approx(1.0)


def test_nothing_is_derived_from_nothing(results: Results, costs: Comparison) -> None:
    assert connections.sizing((costs,)) is None
    assert page.sizing(replace(results, comparisons=(costs,))) == "Not measured in this run.\n"
