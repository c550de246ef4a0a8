"""The queue of a server that runs its consumers itself: order, bounds, ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import CONNECT, DISCONNECT, RECEIVE, Effect, Event, Failed, Instruction, Unrouted
from twisted_chat.consumers.local import RETRY, LocalQueue
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.names import DELAY
from twisted_chat.consumers.queue import QueueLimits, Taken
from twisted_chat.consumers.routing import Router
from twisted_chat.consumers.runner import Runner

LIMITS = QueueLimits(per_connection=4, in_all=6, delayed=3)


class Threads:
    """One waits in line until the test lets it go on."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def call(self, function: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((function, done))
        return done

    def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        begin()

    def go_on(self) -> None:
        function, done = self.waiting.pop(0)
        done.callback(function())


class Recorder:
    """A layer that writes down what it is asked for, and fails as often as it was told to."""

    def __init__(self) -> None:
        self.failures = 0
        self.log: list[tuple[str, Any]] = []

    def carry_out(self, effects: Sequence[Effect], key: str) -> Deferred[None]:
        if self.failures:
            self.failures -= 1
            return fail(NotReadyError("not now"))
        self.log.append((key, [effect.content for effect in effects]))
        return succeed(None)

    def tell(self, connection: str, instruction: Instruction, key: str) -> Deferred[None]:
        self.log.append((connection, instruction))
        return succeed(None)

    def add(self, group: str, channel: str) -> Deferred[None]:
        raise NotImplementedError

    def discard(self, group: str, channel: str) -> Deferred[None]:
        raise NotImplementedError


class Fixture:
    def __init__(self, routing: object, limits: QueueLimits = LIMITS) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.layer = Recorder()
        self.queue = LocalQueue(self.clock, Runner(Router(routing), self.threads, failed=lambda *_: None), limits)
        self.queue.layer = self.layer

    def enqueue(self, connection: str, first: int, *channels: str, text: str = "") -> Taken:
        content = {"reply_channel": f"websocket.send!{connection}", "text": text}
        events = [Event(f"{connection}.{number}", channel, content) for number, channel in enumerate(channels, first)]
        taken: list[Taken] = []
        self.queue.enqueue(connection, first, events).addCallback(taken.append)
        return taken[0]


def say(message: Message) -> None:
    message.reply_channel.send({"text": message.channel.name})  # type: ignore[union-attr]


@pytest.fixture
def one() -> Fixture:
    return Fixture({CONNECT: say, RECEIVE: say, DISCONNECT: say})


def test_one_connection_after_the_other_event_connections_side_by_side(one: Fixture) -> None:
    one.enqueue("a-1", 0, CONNECT, RECEIVE)
    one.enqueue("a-2", 0, CONNECT)
    assert len(one.threads.waiting) == 2
    one.threads.go_on()
    assert [key for key, _ in one.layer.log] == ["a-1.0"]
    assert len(one.threads.waiting) == 2
    one.threads.go_on()
    one.threads.go_on()
    assert [key for key, _ in one.layer.log] == ["a-1.0", "a-2.0", "a-1.1"]
    assert one.queue.idle().called


def test_nothing_is_taken_of_a_connection_that_never_began_or_has_ended(one: Fixture) -> None:
    assert one.enqueue("a-1", 1, RECEIVE) == Taken(0, known=False)
    one.enqueue("a-1", 0, CONNECT, DISCONNECT)
    one.threads.go_on()
    one.threads.go_on()
    assert one.enqueue("a-1", 2, RECEIVE) == Taken(0, known=False)


def test_a_full_mailbox_has_room_when_half_of_it_is_done(one: Fixture) -> None:
    assert one.enqueue("a-1", 0, CONNECT, RECEIVE, RECEIVE).room
    assert not one.enqueue("a-1", 3, RECEIVE).room
    room = one.queue.room("a-1")
    one.threads.go_on()
    assert not room.called
    one.threads.go_on()
    assert room.called
    assert one.queue.room("a-1").called


def test_a_full_queue_takes_nothing_but_ends(one: Fixture) -> None:
    for number in range(2):
        assert one.enqueue(f"a-{number}", 0, CONNECT, RECEIVE, RECEIVE).count == 3
    assert one.enqueue("a-0", 3, RECEIVE, RECEIVE) == Taken(0, room=False)
    assert one.enqueue("a-3", 0, CONNECT) == Taken(0, room=False)
    assert one.enqueue("a-0", 3, DISCONNECT).count == 1
    room = one.queue.room("a-1")
    refused: list[Any] = []
    one.queue.post(Event("x", RECEIVE, {}), None).addErrback(refused.append)
    assert refused[0].check(NotReadyError)
    while not room.called:
        one.threads.go_on()
    assert one.enqueue("a-3", 0, CONNECT).count == 1


def test_what_cannot_be_carried_out_is_tried_again_before_the_next_event(one: Fixture) -> None:
    one.layer.failures = 2
    one.enqueue("a-1", 0, CONNECT, RECEIVE)
    one.threads.go_on()
    assert not one.layer.log
    one.clock.advance(RETRY)
    one.clock.advance(RETRY)
    one.threads.go_on()
    assert [key for key, _ in one.layer.log] == ["a-1.0", "a-1.1"]


def test_a_handshake_without_a_consumer_is_told_so_and_forgotten() -> None:
    one = Fixture({"mine": say})
    one.enqueue("a-1", 0, CONNECT)
    assert one.layer.log == [("a-1", Unrouted())]
    assert not one.enqueue("a-1", 1, RECEIVE).known


def test_a_handshake_whose_consumer_fails_is_told_so() -> None:
    def failing(message: Message) -> None:
        raise LookupError("told to")

    one = Fixture({CONNECT: failing, RECEIVE: failing})
    one.enqueue("a-1", 0, CONNECT, RECEIVE)
    for _ in range(2):
        function, done = one.threads.waiting.pop(0)
        with pytest.raises(LookupError) as error:
            function()
        done.errback(error.value)
    assert one.layer.log == [("a-1", Failed())]


def test_a_posted_event_runs_before_the_end_of_its_client(one: Fixture) -> None:
    one.enqueue("a-1", 0, CONNECT, RECEIVE, DISCONNECT)
    for name in ("x", "y"):
        one.queue.post(Event(name, RECEIVE, {"reply_channel": "websocket.send!a-1"}), "a-1")
    for _ in range(4):
        one.threads.go_on()
    # The end has begun: what comes now is of nobody.
    one.queue.post(Event("late", RECEIVE, {"reply_channel": "websocket.send!a-1"}), "a-1")
    while one.threads.waiting:
        one.threads.go_on()
    assert [key for key, _ in one.layer.log] == ["a-1.0", "a-1.1", "x", "y", "a-1.2", "late"]
    assert one.queue.idle().called


def test_a_posted_event_runs_behind_those_of_its_client(one: Fixture) -> None:
    one.enqueue("a-1", 0, CONNECT)
    one.queue.post(Event("x", RECEIVE, {"reply_channel": "websocket.send!a-1"}), "a-1")
    one.queue.post(Event("y", RECEIVE, {"reply_channel": "websocket.send!b-1"}), "b-1")
    assert len(one.threads.waiting) == 2, "y, whose client is gone, waits for nobody"
    while one.threads.waiting:
        one.threads.go_on()
    assert [key for key, _ in one.layer.log] == ["a-1.0", "y", "x"]
    assert one.queue.idle().called


def delayed(name: str) -> Event:
    return Event(name, DELAY, {"channel": "mine", "content": {"name": name}, "delay": 0})


def test_what_is_delayed_is_sent_when_its_time_has_come(one: Fixture) -> None:
    for name, seconds in (("x", 5.0), ("y", 2.0)):
        one.queue.delay(delayed(name), seconds)
    assert (one.queue.delayed, one.queue.waiting) == (2, 0)
    one.clock.advance(1.9)
    assert not one.layer.log
    one.clock.advance(0.1)
    assert one.layer.log == [("y", [{"name": "y"}])]
    one.clock.advance(3)
    assert one.layer.log[1:] == [("x", [{"name": "x"}])]
    assert one.queue.waiting == 0


def test_so_much_may_be_delayed(one: Fixture) -> None:
    refused: list[Any] = []
    for name in "abcd":
        one.queue.delay(delayed(name), 1).addErrback(refused.append)
    assert len(refused) == 1
    assert refused[0].check(NotReadyError)
    one.clock.advance(1)
    one.queue.delay(delayed("e"), 1)
    one.clock.advance(1)
    assert [name for name, _ in one.layer.log] == ["a", "b", "c", "e"]


def test_what_is_delayed_waits_for_room(one: Fixture) -> None:
    one.queue.delay(delayed("x"), 1)
    for number in range(2):
        one.enqueue(f"a-{number}", 0, CONNECT, RECEIVE, RECEIVE)
    one.clock.advance(1)
    one.clock.advance(RETRY)
    assert not one.layer.log
    one.threads.go_on()
    one.clock.advance(RETRY)
    assert [name for name, _ in one.layer.log] == ["a-0.0", "x"]
    while one.threads.waiting:
        one.threads.go_on()


def test_what_is_delayed_is_lost_at_the_end_and_that_is_said(one: Fixture) -> None:
    one.queue.delay(delayed("x"), 1)
    with capturedLogs() as logs:
        one.queue.close()
        one.queue.close()
    assert [log["count"] for log in logs] == [1]
    assert not one.clock.getDelayedCalls()


def test_what_is_delayed_again_while_it_waits_is_the_same(one: Fixture) -> None:
    for _ in range(2):
        one.queue.delay(delayed("x"), 1)
    assert one.queue.delayed == 1
    one.clock.advance(1)
    assert one.layer.log == [("x", [{"name": "x"}])]
    assert one.clock.getDelayedCalls() == []


def test_so_many_bytes_of_one_connection_are_taken() -> None:
    one = Fixture({CONNECT: say, RECEIVE: say, DISCONNECT: say}, QueueLimits(bytes_per_connection=5_000))
    assert one.enqueue("a-1", 0, CONNECT, RECEIVE, text=2_000 * "x") == Taken(2)
    assert one.enqueue("a-1", 2, RECEIVE, RECEIVE, text=2_000 * "x") == Taken(0, room=False)
    assert one.enqueue("a-2", 0, CONNECT, text=20_000 * "x").count == 1, "others have a room of their own"
    assert one.enqueue("a-2", 1, DISCONNECT, text=2_000 * "x").count == 1
    room = one.queue.room("a-1")
    assert not room.called
    one.threads.go_on()
    assert room.called
    assert one.enqueue("a-1", 2, RECEIVE, text=20_000 * "x").count == 1, "where half is done, one of any size is taken"
    while one.threads.waiting:
        one.threads.go_on()
    assert one.queue.waiting_bytes == 0


def test_so_many_bytes_are_taken_in_all() -> None:
    one = Fixture({CONNECT: say, RECEIVE: say, DISCONNECT: say}, QueueLimits(bytes_in_all=10_000))
    for number in range(2):
        assert one.enqueue(f"a-{number}", 0, CONNECT, text=6_000 * "x").count == 1
    assert one.enqueue("a-2", 0, CONNECT) == Taken(0, room=False)
    assert one.enqueue("a-0", 1, DISCONNECT).count == 1
    refused: list[Any] = []
    one.queue.post(Event("x", RECEIVE, {}), None).addErrback(refused.append)
    for name in ("y", "z"):
        one.queue.delay(Event(name, DELAY, {"channel": "mine", "content": 10_000 * "x"}), 1).addErrback(refused.append)
    assert len(refused) == 2
    assert one.queue.delayed_bytes > 10_000
    room = one.queue.room("a-1")
    while one.threads.waiting:
        one.threads.go_on()
    assert room.called
    one.clock.advance(1)
    assert (one.queue.waiting_bytes, one.queue.delayed_bytes) == (0, 0)
