"""The metrics of several processes as those of one server.

What is counted is added up, and stays counted when a process ends: a sum that fell would look like a restart of
everything. What is measured (connections now, memory) has a label that says of which process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector, generate_latest

from twisted_chat.metrics import Families, families

_ADDED: Final = frozenset({"counter", "histogram", "summary"})
_SAME: Final = "_info"
"""The end of names that say what runs: the same in all processes."""

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


class SupervisorMetrics:
    """What the supervisor counts itself."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._running: Final = Gauge(
            "twisted_chat_processes", "Processes that run, without the supervisor.", registry=self._registry
        )
        self._ended: Final = Counter("twisted_chat_process_ends", "Processes that ended.", registry=self._registry)

    def running(self, count: int) -> None:
        self._running.set(count)

    def ended(self) -> None:
        self._ended.inc()

    def families(self) -> Families:
        return families(self._registry)


class Totals:
    """The last report of each process, and what those had counted that are gone."""

    def __init__(self) -> None:
        self._reports: Final[dict[int, Families]] = {}
        self._gone: Final = _Sum()

    def report(self, number: int, metrics: Families) -> None:
        """What a process says now."""
        self._reports[number] = metrics

    def ended(self, number: int) -> None:
        """It says no more."""
        self._gone.add([each for each in self._reports.pop(number, []) if each[1] in _ADDED], {})

    def render(self, supervisor: Families) -> bytes:
        """All of it, in the text format of Prometheus."""
        total = _Sum()
        for family in supervisor:
            # What it says of the processes is not about itself.
            total.add([family], {} if family[0].startswith("twisted_chat_") else {"process": "supervisor"})
        total.add(self._gone.families(), {})
        for number, reported in sorted(self._reports.items()):
            total.add(reported, {"process": str(number)})
        return generate_latest(total)


class _Sum:
    """Families of metrics, one with the other; `prometheus_client.generate_latest` reads it."""

    def __init__(self) -> None:
        self._families: Final[dict[str, tuple[str, str]]] = {}
        self._samples: Final[dict[str, dict[Series, float]]] = {}

    def add(self, reported: Families, own: Mapping[str, str]) -> None:
        """What is not added up gets the labels `own`."""
        for name, kind, documentation, samples in reported:
            self._families.setdefault(name, (kind, documentation))
            values = self._samples.setdefault(name, {})
            for sample, labels, value in samples:
                if kind in _ADDED:
                    series = (sample, _sorted(labels))
                    values[series] = values.get(series, 0.0) + value
                else:
                    values[sample, _sorted(labels if sample.endswith(_SAME) else {**own, **labels})] = value

    def families(self) -> Families:
        """The same as a report."""
        return [
            (name, kind, documentation, [(sample, dict(labels), value) for (sample, labels), value in samples.items()])
            for (name, (kind, documentation)), samples in zip(
                self._families.items(), self._samples.values(), strict=True
            )
        ]

    def collect(self) -> Iterator[Metric]:
        for name, kind, documentation, samples in self.families():
            metric = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, labels, value)
            yield metric


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
