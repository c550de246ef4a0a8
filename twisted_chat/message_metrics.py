"""What is counted for each message, in plain numbers: the library's own counters would cost more than the message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, Literal

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

Source = Literal["websocket", "http", "api"]
"""Who said it: the label of messages that were accepted."""

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
    """A collector."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._publications = dict.fromkeys(sources, 0)
        self._deliveries = 0
        self._bytes_before = self._bytes_after = 0
        self._publish = Latency(
            "twisted_chat_publish_seconds", "From handing a message to the relay until it was stored."
        )
        self._lag = Latency("twisted_chat_relay_lag_seconds", "From storing a message until it reached this node.")
        self._delivery = Latency(
            "twisted_chat_delivery_seconds",
            "From storing a message until it was written to all live members of its room on this node.",
        )

    def published(self, source: Source, seconds: float) -> None:
        """The relay stored a message; it took it `seconds`."""
        self._publications[source] += 1
        self._publish.observe(seconds)

    def arrived(self, age: float) -> None:
        """A message that was stored `age` seconds ago reached this node."""
        self._lag.observe(age)

    def delivered(self, count: int, age: float | None) -> None:
        """`count` copies were written to clients, the first of them of a message stored `age` seconds ago."""
        self._deliveries += count
        if age is not None:
            self._delivery.observe(age)

    def compressed(self, before: int, after: int) -> None:
        """A frame for all clients that negotiated compression was made: its bytes."""
        self._bytes_before += before
        self._bytes_after += after

    def collect(self) -> list[Metric]:
        publications = CounterMetricFamily(
            "twisted_chat_publications", "Messages accepted into rooms.", labels=["source"]
        )
        for source, count in self._publications.items():
            publications.add_metric([source], count)
        deliveries = CounterMetricFamily("twisted_chat_deliveries", "Messages written to clients.", self._deliveries)
        compression = CounterMetricFamily(
            "twisted_chat_compression_bytes",
            "Bytes of frames made for clients with compression, before and after it.",
            labels=["stage"],
        )
        compression.add_metric(["before"], self._bytes_before)
        compression.add_metric(["after"], self._bytes_after)
        return [
            publications,
            deliveries,
            compression,
            *(each.family() for each in (self._publish, self._lag, self._delivery)),
        ]
