"""What monitoring reads of consumers: what came of events, and how long it took."""

from __future__ import annotations

from typing import Final, Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from twisted_chat.consumers.events import CONNECT, DISCONNECT, RECEIVE
from twisted_chat.consumers.queue import Amounts, QueueLimits
from twisted_chat.metrics import Metrics

Result = Literal["done", "failed", "bad_frame", "unrouted", "handed_over", "set_aside"]
"""What came of an event: its consumer returned; it raised; the client had sent what it cannot take; there is none for
it; another worker runs it again; or workers died of it, and it is not run any more."""

RESULTS: Final[tuple[Result, ...]] = get_args(Result)

OTHER: Final = "other"
"""Stands for all channels of the application's own: their names are not bounded."""

_CHANNELS: Final = (CONNECT, RECEIVE, DISCONNECT, OTHER)
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class ConsumerMetrics:
    """Counts in `registry`, which is that of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        events = Counter(
            "twisted_chat_consumer_events", "Events, by what came of them.", ["channel", "result"], registry=registry
        )
        seconds = Histogram(
            "twisted_chat_consumer_seconds",
            "From calling a consumer until it returned.",
            ["channel"],
            buckets=_BUCKETS,
            registry=registry,
        )
        # All of them before they happen: a rate needs the zero that it rose from.
        self._events = {(name, result): events.labels(name, result) for name in _CHANNELS for result in RESULTS}
        self._seconds = {name: seconds.labels(name) for name in _CHANNELS}

    def ran(self, channel: str, seconds: float) -> None:
        """A consumer was called, and took so long."""
        self._seconds[_known(channel)].observe(seconds)

    def over(self, channel: str, result: Result) -> None:
        """An event is out of the queue; or, `handed_over`, out of our hands."""
        self._events[_known(channel), result].inc()


def _known(channel: str) -> str:
    return channel if channel in _CHANNELS else OTHER


class Clients(Protocol):
    """Those of this process; see `sockets.Sockets`."""

    @property
    def paused(self) -> int: ...
    @property
    def kept_bytes(self) -> int: ...


def watch_queue(metrics: Metrics, amounts: Amounts, limits: QueueLimits) -> None:
    """Have the metrics say how much is in a queue, and how much may be."""
    waiting, delayed = "twisted_chat_consumer_events_waiting", "twisted_chat_consumer_events_delayed"
    metrics.measure(waiting, "Events in the queue of consumers, running or not.", lambda: amounts.waiting)
    metrics.measure(f"{waiting}_bytes", "What these take.", lambda: amounts.waiting_bytes)
    metrics.measure(delayed, "Messages of consumers that wait for their time.", lambda: amounts.delayed)
    metrics.measure(f"{delayed}_bytes", "What these take.", lambda: amounts.delayed_bytes)
    metrics.measure("twisted_chat_consumer_events_set_aside", "Events that workers died of.", lambda: amounts.set_aside)
    metrics.measure(
        "twisted_chat_consumer_bytes_limit",
        "What may wait in the queue, be delayed, and wait for the queue in one process: each so much.",
        lambda: limits.bytes_in_all,
    )


def watch_clients(metrics: Metrics, clients: Clients) -> None:
    """Have the metrics say what waits here before it is in the queue."""
    metrics.measure(
        "twisted_chat_consumer_clients_paused",
        "Clients not read from, as the queue has no room.",
        lambda: clients.paused,
    )
    metrics.measure(
        "twisted_chat_consumer_inlet_bytes",
        "What clients sent that is not in the queue yet, as it is in memory.",
        lambda: clients.kept_bytes,
    )
