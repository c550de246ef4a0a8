"""What was measured, as it is kept: comparisons of contenders, with ratios, as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.contenders import OURS

FORMAT: Final = 1
"""Of the file; another number means that the members below mean something else."""

Better = Literal["less", "more"]


@dataclass(frozen=True, slots=True)
class Row:
    """One contender, or one size: the median of its rounds, and the least and the most of them."""

    name: str
    value: float
    least: float
    most: float

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> Row:
        return cls(name, statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures that were taken side by side.

    topic
        the file that measures it: ``delivery``
    title
        what was done, without the figures: ``1000 members, 16 messages under way``
    unit
        of the values
    better
        whether a smaller or a larger value is better
    base
        the row that the others are set against
    missing
        who could not be measured, and why
    """

    topic: str
    title: str
    unit: str
    better: Better
    rows: tuple[Row, ...]
    base: str = OURS
    missing: Mapping[str, str] | None = None

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def ratio(self, row: Row) -> float | None:
        """How many times better the base is than this row; below 1 it is worse. None where there is nothing to say."""
        base = self.row(self.base)
        if base is None or row.value <= 0 or base.value <= 0:
            return None
        return row.value / base.value if self.better == "less" else base.value / row.value


@dataclass(frozen=True, slots=True)
class Results:
    """One run, with where it ran. `when` is UTC as ISO 8601 writes it."""

    when: str
    quick: bool
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    comparisons: tuple[Comparison, ...]

    def save(self, path: Path) -> None:
        """As JSON. The ratios are there too, for those who read it without this program."""
        document: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        for comparison, saved in zip(self.comparisons, document["comparisons"], strict=True):
            for row, saved_row in zip(comparison.rows, saved["rows"], strict=True):
                ratio = comparison.ratio(row)
                saved_row["ratio"] = None if ratio is None else round(ratio, 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """What `save` wrote. Raises `ValueError` for any other file."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            comparisons = tuple(_comparison(saved) for saved in document.pop("comparisons"))
            return cls(comparisons=comparisons, **document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no file of results: {error}") from None


def _comparison(saved: dict[str, Any]) -> Comparison:
    rows = tuple(Row(**{name: value for name, value in row.items() if name != "ratio"}) for row in saved.pop("rows"))
    return Comparison(rows=rows, **saved)
