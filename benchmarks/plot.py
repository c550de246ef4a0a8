"""The ratios as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.contenders import OURS
from benchmarks.report import number
from benchmarks.results import Comparison, Results

BAR: Final = 0.26
"""Inches."""

BETTER: Final = "#2a7f62"
WORSE: Final = "#c0552f"


def draw(results: Results, path: Path) -> None:
    """An SVG of how many times better twisted_chat is than each of the others; without any, there is none."""
    shown = [each for each in results.comparisons if each.base == OURS and len(each.rows) > 1]
    bars = sum(len(each.rows) for each in shown)
    if not shown:
        return
    # The same results make the same file.
    with mpl.rc_context({"svg.hashsalt": OURS, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, BAR * (bars + len(shown)) + 1))
        axes = figure.subplots()
        axes.set_xscale("log")
        at, labels = 0.0, {}
        for comparison in shown:
            _heading(axes, at, f"{comparison.topic}: {comparison.title} ({comparison.unit})")
            for name, ratio in others(comparison):
                at += 1
                labels[at] = name
                axes.barh(at, ratio - 1, left=1, height=0.7, color=BETTER if ratio >= 1 else WORSE)
                axes.annotate(f" {number(ratio)} ", (ratio, at), va="center", ha="left" if ratio >= 1 else "right")
            at += 1.5
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(list(labels), list(labels.values()))
        axes.set_ylim(at, -1)
        axes.margins(x=0.15)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(f"how many times better {OURS} is; left of 1 it is worse")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})


def _heading(axes: Axes, at: float, text: str) -> None:
    axes.annotate(
        text,
        (0, at),
        (2, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=8,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def others(comparison: Comparison) -> list[tuple[str, float]]:
    """Who is set against the base, and how many times better that is."""
    ratios = [(row.name, comparison.ratio(row)) for row in comparison.rows if row.name != comparison.base]
    return [(name, ratio) for name, ratio in ratios if ratio is not None]
