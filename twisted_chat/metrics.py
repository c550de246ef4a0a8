"""What monitoring reads: counters, gauges and histograms of one server, in the Prometheus text format.

Names follow https://prometheus.io/docs/practices/naming/: seconds, bytes, and ``_total`` on counters. Everything here
is called on the reactor's thread.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_chat.core.errors import Reason
from twisted_chat.core.incoming import IncomingLimit
from twisted_chat.message_metrics import MessageMetrics, Source

Transport = Literal["websocket", "event_stream"]

Samples = list[tuple[str, dict[str, str], float]]
"""Name, labels, value."""

Families = list[tuple[str, str, str, Samples]]
"""Name, type and documentation of metrics, and their samples."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What `Metrics.render` makes: the text format that every version of every scraper reads."""

MAX_REASONS: Final = 100
"""How many values a reason label may have; what comes after them is counted as ``other``."""

TICK: Final = 1.0
"""Seconds between two looks at how late the reactor runs."""

_TICK_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_PAUSE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """Everything that one server counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        # /proc is where memory, processor time and descriptors come from; elsewhere this one adds nothing.
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Info("twisted_chat_build", "Versions of what runs.", registry=self.registry).info(_versions())
        self._watched = _Watched()
        self.registry.register(self._watched)

        connections = Gauge("twisted_chat_connections", "Clients connected now.", ["transport"], registry=self.registry)
        opened = Counter(
            "twisted_chat_connections_opened", "Clients ever connected.", ["transport"], registry=self.registry
        )
        transports: tuple[Transport, ...] = ("websocket", "event_stream")
        self._connections = {name: connections.labels(name) for name in transports}
        self._opened = {name: opened.labels(name) for name in transports}
        self._disconnects = _ByReason(
            Counter("twisted_chat_disconnects", "Connections ended, by why.", ["reason"], registry=self.registry)
        )
        self._refusals = _ByReason(
            Counter("twisted_chat_refusals", "What was refused, by why.", ["reason"], registry=self.registry),
            known=[reason.code for reason in Reason],
        )

        self._throttles = _ByReason(
            Counter(
                "twisted_chat_websocket_throttles",
                "Times that a WebSocket was not read from for a while, by the limit that it was beyond.",
                ["limit"],
                registry=self.registry,
            ),
            known=[limit.value for limit in IncomingLimit],
        )
        self._tls_failures = _ByReason(
            Counter(
                "twisted_chat_tls_failures",
                "TLS handshakes that failed, by why.",
                ["reason"],
                registry=self.registry,
            )
        )

        sources: tuple[Source, ...] = ("websocket", "http", "api")
        messages = MessageMetrics(sources)
        self.registry.register(messages)
        # As they are: to pass each call on would cost as much as what they do.
        self.published: Final = messages.published
        self.arrived: Final = messages.arrived
        self.delivered: Final = messages.delivered
        self.compressed: Final = messages.compressed

        self._tick_seconds = Histogram(
            "twisted_chat_reactor_tick_seconds",
            "How late the reactor ran a call due each second.",
            buckets=_TICK_BUCKETS,
            registry=self.registry,
        )
        self._pause_seconds = Histogram(
            "twisted_chat_garbage_pause_seconds",
            "How long everything waited for a collection of garbage.",
            buckets=_PAUSE_BUCKETS,
            registry=self.registry,
        )
        self._ready = Gauge(
            "twisted_chat_ready",
            "1 while the server takes clients, or the worker events, else 0.",
            registry=self.registry,
        )
        self._partial = Gauge(
            "twisted_chat_ready_in_part",
            "1 while only a part of what it does works: some rooms, or reading and not writing; else 0.",
            registry=self.registry,
        )

    def connected(self, transport: Transport) -> None:
        self._connections[transport].inc()
        self._opened[transport].inc()

    def disconnected(self, transport: Transport, reason: str) -> None:
        self._connections[transport].dec()
        self._disconnects.count(reason)

    def refused(self, reason: str) -> None:
        """`reason` is a `Reason.code`, or another of a small fixed set: never anything that a client wrote."""
        self._refusals.count(reason)

    def throttled(self, limit: IncomingLimit) -> None:
        """A WebSocket is not read from for a while: it was beyond `limit`."""
        self._throttles.count(limit.value)

    def tls_failed(self, reason: str) -> None:
        """A client and we did not come to terms about TLS; `reason` is one of OpenSSL's."""
        self._tls_failures.count(reason)

    def ticked(self, late: float) -> None:
        """The reactor ran a call `late` seconds after it was due."""
        self._tick_seconds.observe(late)

    def paused(self, seconds: float) -> None:
        """Everything waited so long for a collection of garbage."""
        self._pause_seconds.observe(seconds)

    def ready(self, yes: bool, partial: bool = False) -> None:
        """Whether it takes clients, and whether only a part of what it does works."""
        self._ready.set(yes)
        self._partial.set(partial)

    def watch(
        self,
        *,
        rooms: Callable[[], int] | None = None,
        members: Callable[[], int] | None = None,
        outbox: Callable[[], int] | None = None,
        outbox_limit: Callable[[], int] | None = None,
        requests: Callable[[], int] | None = None,
        throttled: Callable[[], int] | None = None,
        certificates: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """Ask these each time that the metrics are read; what is left out stays as it was.

        rooms
            rooms with members on this node
        members
            memberships: a client that is in three rooms counts three times
        outbox
            bytes waiting for clients that read slowly, wherever they wait
        outbox_limit
            how many of them there may be
        requests
            HTTP requests waiting for their turn, or until the rate of their address allows them
        throttled
            WebSockets that are not read from now, for their clients are beyond a rate
        certificates
            the name of each certificate in use, and when it expires, in seconds since 1970
        """
        if rooms is not None:
            self._watched.number("twisted_chat_rooms", "Rooms with members on this node.", rooms)
        if members is not None:
            self._watched.number("twisted_chat_members", "Memberships in rooms on this node.", members)
        if outbox is not None:
            self._watched.number("twisted_chat_outbox_bytes", "Bytes waiting for clients that read slowly.", outbox)
        if outbox_limit is not None:
            self._watched.number("twisted_chat_outbox_bytes_limit", "How many of them may wait.", outbox_limit)
        if requests is not None:
            self._watched.number("twisted_chat_requests_waiting", "HTTP requests waiting for turn or rate.", requests)
        if throttled is not None:
            self._watched.number(
                "twisted_chat_websockets_throttled", "WebSockets not read from, as they send too much.", throttled
            )
        if certificates is not None:
            self._watched.certificates = certificates

    def measure(self, name: str, documentation: str, ask: Callable[[], int | None]) -> None:
        """Ask for one more number each time that the metrics are read; None: it is not known now, and left out."""
        self._watched.number(name, documentation, ask)

    def render(self) -> bytes:
        """All of it, as `CONTENT_TYPE`."""
        return generate_latest(_WithoutCreated(self.registry))

    def families(self) -> Families:
        """All of it, to be put together with that of other processes."""
        return families(self.registry)


def families(registry: CollectorRegistry) -> Families:
    """What a registry has collected, as values that JSON can say."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [(sample.name, dict(sample.labels), float(sample.value)) for sample in family.samples],
        )
        for family in _WithoutCreated(registry).collect()
    ]


class ReactorTick(Service):
    """Looks each second how late the reactor is, and tells `observe` in seconds.

    A reactor that was stuck for ten seconds is observed once, as ten seconds late.
    """

    def __init__(self, reactor: IReactorTime, observe: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._observe = observe
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._schedule()

    def stopService(self) -> None:
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _schedule(self) -> None:
        self._call = self._reactor.callLater(TICK, self._tick, self._reactor.seconds() + TICK)

    def _tick(self, due: float) -> None:
        # The wall clock drives the reactor, and may be set back.
        late = max(0.0, self._reactor.seconds() - due)
        self._schedule()
        self._observe(late)


class _ByReason:
    """A counter with one label, whose values are bounded."""

    def __init__(self, counter: Counter, known: Iterable[str] = ()) -> None:
        self._counter = counter
        # Named before they happen: a rate needs the zero that it rose from.
        self._children = {reason: counter.labels(reason) for reason in known}

    def count(self, reason: str) -> None:
        child = self._children.get(reason)
        if child is None:
            if len(self._children) >= MAX_REASONS:
                reason = "other"
            child = self._children[reason] = self._counter.labels(reason)
        child.inc()


class _Watched:
    """A collector of what others know, asked when the metrics are read."""

    _log = Logger()

    def __init__(self) -> None:
        self._numbers: dict[str, tuple[str, Callable[[], int | None]]] = {}
        self.certificates: Callable[[], Mapping[str, float]] = dict

    def number(self, name: str, documentation: str, ask: Callable[[], int | None]) -> None:
        self._numbers[name] = documentation, ask

    def collect(self) -> list[Metric]:
        families: list[Metric] = []
        for name, (documentation, ask) in self._numbers.items():
            # One broken number must not hide all others from the operator.
            with self._log.failuresHandled("{metric} cannot be read", metric=name):
                value = ask()
                if value is not None:
                    families.append(GaugeMetricFamily(name, documentation, value=value))
        name = "twisted_chat_certificate_expiry_timestamp_seconds"
        with self._log.failuresHandled("{metric} cannot be read", metric=name):
            expiry = GaugeMetricFamily(name, "When a certificate expires, in seconds since 1970.", labels=["name"])
            for certificate, timestamp in self.certificates().items():
                expiry.add_metric([certificate], timestamp)
            families.append(expiry)
        return families


class _WithoutCreated:
    """A registry without the ``_created`` series: they double the page and answer no question asked here.

    The library's own switch for them is global.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def _versions() -> dict[str, str]:
    return {
        "version": _version("twisted-chat"),
        "twisted": _version("twisted"),
        "autobahn": _version("autobahn"),
        "python": platform.python_version(),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        # Run from a source tree that is not installed.
        return "unknown"
