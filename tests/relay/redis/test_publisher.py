"""Publications whose outcome is not known."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from txredisapi import ResponseError

from tests.relay.redis.conftest import Watch
from twisted_chat.core.publication import Position, Publication, Published
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.redis.errors import LinkDownError, LinkLostError
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.publications import Storage
from twisted_chat.relay.redis.publisher import PATIENCE, Publisher
from twisted_chat.relay.redis.scripts import Call


class Calls:
    """The data of publications that were sent, to be answered in order."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.waiting: list[Deferred[Any]] = []
        self.down = False

    def call(self, call: Call) -> Deferred[Any]:
        if self.down:
            return fail(LinkDownError())
        assert isinstance(call.args[0], bytes)
        self.sent.append(call.args[0])
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, reply: Any) -> None:
        waiting = self.waiting.pop(0)
        waiting.errback(reply) if isinstance(reply, Exception) else waiting.callback(reply)

    def lose(self) -> None:
        """The link, with all that is under way."""
        self.down = True
        while self.waiting:
            self.answer(LinkLostError("a cable"))

    def take(self) -> list[bytes]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def publisher(calls: Calls, clock: Clock) -> Publisher:
    return Publisher(clock, Storage(Names(), HistoryLimits()), calls.call)


def test_what_was_stored_is_answered_with_the_data_that_was_sent(
    publisher: Publisher, calls: Calls, watch: Watch
) -> None:
    outcome = watch(publisher.publish("r", b"data", None))
    calls.answer([0, b"7:100:99:E:"])
    assert outcome.results == [Published(Publication(Position("E", 7, 100), 99, b"data"))]


def test_a_known_key_is_answered_with_the_data_that_was_stored(
    publisher: Publisher, calls: Calls, watch: Watch
) -> None:
    outcome = watch(publisher.publish("r", b"other", "key"))
    calls.answer([1, b"7:100:99:E:a:b:c"])
    assert outcome.results == [Published(Publication(Position("E", 7, 100), 99, b"a:b:c"), duplicate=True)]


def test_those_with_a_key_are_sent_once_more_in_their_order(
    publisher: Publisher, calls: Calls, clock: Clock, watch: Watch
) -> None:
    outcomes = [watch(publisher.publish("r", b"%d" % n, None if n == 1 else f"key {n}")) for n in range(3)]
    calls.take()
    calls.lose()
    assert isinstance(outcomes[1].errors[0], LinkLostError), "nobody knows, and it must not be stored twice"
    assert outcomes[0].pending
    assert outcomes[2].pending
    assert isinstance(watch(publisher.publish("r", b"3", "key 3")).errors[0], LinkDownError)
    calls.down = False
    publisher.up()
    assert calls.take() == [b"0", b"2"]
    calls.answer([1, b"1:10:0:E:0"])
    calls.answer([0, b"2:11:10:E:"])
    assert outcomes[0].results[0].duplicate
    assert outcomes[2].results == [Published(Publication(Position("E", 2, 11), 10, b"2"))]
    assert clock.getDelayedCalls() == []


def test_once_more_is_once(publisher: Publisher, calls: Calls, clock: Clock, watch: Watch) -> None:
    outcome = watch(publisher.publish("r", b"0", "key"))
    calls.lose()
    calls.down = False
    publisher.up()
    calls.lose()
    assert isinstance(outcome.errors[0], LinkLostError)
    assert clock.getDelayedCalls() == []


def test_patience_ends(publisher: Publisher, calls: Calls, clock: Clock, watch: Watch) -> None:
    outcome = watch(publisher.publish("r", b"0", "key"))
    calls.take()
    calls.lose()
    clock.advance(PATIENCE)
    assert isinstance(outcome.errors[0], LinkLostError)
    calls.down = False
    publisher.up()
    assert calls.take() == []


def test_other_trouble_is_told_at_once(publisher: Publisher, calls: Calls, watch: Watch) -> None:
    outcome = watch(publisher.publish("r", b"0", "key"))
    calls.answer(ResponseError("OOM"))
    assert str(outcome.errors[0]) == "OOM"


def test_stopping_ends_patience(publisher: Publisher, calls: Calls, clock: Clock, watch: Watch) -> None:
    outcome = watch(publisher.publish("r", b"0", "key"))
    calls.lose()
    publisher.stop()
    assert isinstance(outcome.errors[0], LinkLostError)
    assert clock.getDelayedCalls() == []
