"""What is counted for each message, in plain numbers: the library's own counters would cost more than the message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, at most."""


class Latency:
    """A histogram of seconds. What is below zero, by clocks that disagree, counts as zero."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self._sum = 0.0
        self._counts = [0] * (len(BUCKETS) + 1)

    def observe(self, seconds: float) -> None:
        if seconds > 0.0:
            self._sum += seconds
        self._counts[bisect_left(BUCKETS, seconds)] += 1

    def family(self) -> Metric:
        at_most = [*map(str, BUCKETS), "+Inf"]
        buckets = list(zip(at_most, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class MessageMetrics:
    """A collector; see `metrics.Metrics` for who calls what."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.publications = dict.fromkeys(sources, 0)
        self.deliveries = 0
        self.bytes_before = self.bytes_after = 0
        self.publish = Latency(
            "twisted_chat_publish_seconds", "From handing a message to the relay until it was stored."
        )
        self.lag = Latency("twisted_chat_relay_lag_seconds", "From storing a message until it reached this node.")
        self.delivery = Latency(
            "twisted_chat_delivery_seconds",
            "From storing a message until it was written to all live members of its room on this node.",
        )

    def collect(self) -> list[Metric]:
        publications = CounterMetricFamily(
            "twisted_chat_publications", "Messages accepted into rooms.", labels=["source"]
        )
        for source, count in self.publications.items():
            publications.add_metric([source], count)
        deliveries = CounterMetricFamily("twisted_chat_deliveries", "Messages written to clients.", self.deliveries)
        compression = CounterMetricFamily(
            "twisted_chat_compression_bytes",
            "Bytes of frames made for clients with compression, before and after it.",
            labels=["stage"],
        )
        compression.add_metric(["before"], self.bytes_before)
        compression.add_metric(["after"], self.bytes_after)
        return [
            publications,
            deliveries,
            compression,
            *(each.family() for each in (self.publish, self.lag, self.delivery)),
        ]
