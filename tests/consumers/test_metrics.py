"""What is counted of consumers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from twisted_chat.consumers import JsonWebsocketConsumer, route, route_class
from twisted_chat.consumers.delivery import Delivery
from twisted_chat.consumers.events import CONNECT, DISCONNECT, RECEIVE, Event
from twisted_chat.consumers.local import LocalQueue
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.metrics import OTHER, RESULTS, ConsumerMetrics
from twisted_chat.consumers.routing import Router
from twisted_chat.consumers.runner import Runner
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay

CHANNELS = (CONNECT, RECEIVE, DISCONNECT, OTHER)


class Thread:
    """The only one: it calls what waits when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def call(self, function: Callable[[], Any]) -> Deferred[Any]:
        self.waiting.append((function, Deferred()))
        return self.waiting[-1][1]

    def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        begin()

    def go_on(self) -> None:
        function, done = self.waiting.pop(0)
        try:
            result = function()
        except Exception:  # noqa: BLE001 - as a thread does it
            done.errback()
        else:
            done.callback(result)


class Fixture:
    def __init__(self, routing: object) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.thread = Thread()
        metrics = ConsumerMetrics(self.registry)
        runner = Runner(Router(routing), self.thread, failed=lambda *_: None, metrics=metrics, clock=self.clock.seconds)
        self.queue = LocalQueue(self.clock, runner)
        relay = MemoryRelay(self.clock, HistoryLimits(), wall_clock=self.clock.seconds)
        self.queue.layer = Delivery(relay, lambda *_: succeed(None), self.queue.post, self.queue.delay)

    def put(self, channel: str, **content: Any) -> None:
        if channel == CONNECT:
            self.queue.enqueue("a-1", 0, [Event("a-1.0", channel, {"reply_channel": "websocket.send!a-1"})])
        else:
            self.queue.post(Event(f"{channel}-{content}", channel, content), None)

    def counted(self) -> dict[tuple[str, str], float]:
        """What is not zero."""
        name = "twisted_chat_consumer_events_total"
        values = {
            (channel, result): self.registry.get_sample_value(name, {"channel": channel, "result": result})
            for channel in CHANNELS
            for result in RESULTS
        }
        return {labels: value for labels, value in values.items() if value}

    def seconds(self, channel: str) -> float | None:
        return self.registry.get_sample_value("twisted_chat_consumer_seconds_sum", {"channel": channel})


def fine(message: Message) -> None:
    pass


def failing(message: Message) -> None:
    raise LookupError("told to")


def test_all_is_there_before_it_happens() -> None:
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    name = "twisted_chat_consumer_events_total"
    for channel in CHANNELS:
        for result in RESULTS:
            assert registry.get_sample_value(name, {"channel": channel, "result": result}) == 0
            metrics.over(channel, result)
            assert registry.get_sample_value(name, {"channel": channel, "result": result}) == 1


def test_channels_of_the_application_have_one_name_together() -> None:
    one = Fixture([route(f"mine-{number}", fine) for number in range(3)])
    for number in range(3):
        one.put(f"mine-{number}")
        one.thread.go_on()
    assert one.counted() == {(OTHER, "done"): 3}
    labels = {sample.labels["channel"] for family in one.registry.collect() for sample in family.samples}
    assert labels == set(CHANNELS)


def test_what_became_of_events() -> None:
    one = Fixture([route(CONNECT, failing), JsonWebsocketConsumer.as_route(), route("mine", fine)])
    one.put(CONNECT)
    one.put(RECEIVE, text="{")
    one.put(RECEIVE, text="{}")
    one.put("nobody's")
    assert one.queue.waiting == 3, "what nobody is for is over"
    while one.thread.waiting:
        one.thread.go_on()
    assert one.counted() == {
        (CONNECT, "failed"): 1,
        (RECEIVE, "bad_frame"): 1,
        (RECEIVE, "done"): 1,
        (OTHER, "unrouted"): 1,
    }
    assert one.queue.waiting == 0


def test_time_is_that_of_the_consumer_not_of_waiting_for_a_thread() -> None:
    def takes_two(message: Message) -> None:
        one.clock.advance(2)

    one = Fixture([route(RECEIVE, takes_two), route("mine", failing)])
    one.put(RECEIVE)
    one.clock.advance(5)
    assert one.seconds(RECEIVE) == 0
    one.thread.go_on()
    assert one.seconds(RECEIVE) == 2
    one.put("mine")
    one.thread.go_on()
    buckets = "twisted_chat_consumer_seconds_bucket"
    assert one.registry.get_sample_value(buckets, {"channel": OTHER, "le": "0.001"}) == 1, "it failed, but it ran"
    assert one.registry.get_sample_value(buckets, {"channel": RECEIVE, "le": "1.0"}) == 0
    assert one.registry.get_sample_value(buckets, {"channel": RECEIVE, "le": "2.5"}) == 1


def test_the_time_of_a_coroutine_ends_with_it() -> None:
    until: Deferred[None] = Deferred()

    async def waits(message: Message) -> None:
        await until

    one = Fixture([route(RECEIVE, waits)])
    one.put(RECEIVE)
    one.clock.advance(3)
    assert one.counted() == {}
    until.callback(None)
    assert one.seconds(RECEIVE) == 3
    assert one.counted() == {(RECEIVE, "done"): 1}


@pytest.mark.parametrize("text", ["", "no json", "[" * 100_000])
def test_a_mistake_in_the_consumer_itself_is_no_bad_frame(text: str) -> None:
    class Strict(JsonWebsocketConsumer):
        def receive(self, content: Any = None, **kwargs: Any) -> None:  # type: ignore[override]  # as in Channels
            raise ValueError("its own")

    one = Fixture([route_class(Strict)])
    one.put(RECEIVE, text=text)
    one.put(RECEIVE, text="1")
    one.put(RECEIVE, bytes=b"1")
    while one.thread.waiting:
        one.thread.go_on()
    assert one.counted() == {(RECEIVE, "bad_frame"): 2, (RECEIVE, "failed"): 1}
