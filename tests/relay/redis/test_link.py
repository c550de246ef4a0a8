"""A link connects, greets, and comes back for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.relay.redis.conftest import Endpoint, Watch
from twisted_chat.relay.redis.errors import LinkDownError, UnusableError
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.link import ATTEMPT, Link
from twisted_chat.relay.redis.protocol import CommandProtocol

LIMITS = LinkLimits(first_retry=1.0, last_retry=8.0)


class Linked:
    """A link to `endpoint`, what it was told, and a greeting of one PING unless another is set."""

    def __init__(self, clock: Clock, endpoint: Endpoint) -> None:
        self.told: list[str] = []
        self.link: Link[CommandProtocol] = Link(
            clock,
            endpoint,
            lambda: CommandProtocol(clock, LIMITS),
            self._greet,
            name="here",
            limits=LIMITS,
            up=self._up,
            down=lambda: self.told.append("down"),
        )

    async def _greet(self, protocol: CommandProtocol) -> None:
        if await protocol.ping() != b"PONG":
            raise UnusableError("it does not play")

    def _up(self, protocol: CommandProtocol) -> None:
        assert self.link.protocol is protocol
        self.told.append("up")


@pytest.fixture
def linked(clock: Clock, endpoint: Endpoint) -> Iterator[Linked]:
    linked = Linked(clock, endpoint)
    yield linked
    linked.link.stop()
    clock.advance(0)


def accept(linked: Linked, endpoint: Endpoint) -> Any:
    peer = endpoint.accept()
    peer.say(b"+PONG\r\n")
    assert linked.link.protocol is peer.protocol
    peer.commands()
    return peer


def test_it_is_up_once_it_was_greeted(linked: Linked, endpoint: Endpoint, watch: Watch) -> None:
    assert isinstance(watch(linked.link.execute("GET", "x")).errors[0], LinkDownError)
    linked.link.start()
    peer = endpoint.accept()
    assert linked.told == []
    assert linked.link.protocol is None
    assert isinstance(watch(linked.link.execute("GET", "x")).errors[0], LinkDownError)
    assert peer.commands() == [[b"PING"]]
    peer.say(b"+PONG\r\n")
    assert linked.told == ["up"]
    assert linked.link.trouble is None
    outcome = watch(linked.link.execute("GET", "x"))
    peer.say(b":1\r\n")
    assert outcome.results == [1]


def test_it_comes_back(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    linked.link.start()
    for _ in range(5):
        accept(linked, endpoint).transport.lose()
        assert linked.told == ["up", "down"]
        assert linked.link.protocol is None
        linked.told.clear()
        clock.advance(LIMITS.last_retry)


def test_it_tries_for_ever_at_a_growing_distance(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    linked.link.start()
    distances = []
    for _ in range(40):
        endpoint.refuse(error.ConnectionRefusedError())
        assert endpoint.attempts == []
        began = clock.seconds()
        while not endpoint.attempts:
            clock.advance(0.01)
        distances.append(clock.seconds() - began)
    assert all(0.4 < distance < 1.02 for distance in distances[:1])
    assert all(distance < LIMITS.last_retry + 0.02 for distance in distances)
    assert all(distance > LIMITS.last_retry / 2 - 0.02 for distance in distances[5:])
    assert len({round(distance, 1) for distance in distances[5:]}) > 5, "there is no jitter"


@pytest.mark.parametrize(
    "answer", [b"-LOADING Redis is loading\r\n", b"+NO\r\n", b"-ERR max number of clients reached\r\n"]
)
def test_a_failed_greeting_is_tried_again_for_ever(
    linked: Linked, endpoint: Endpoint, clock: Clock, answer: bytes
) -> None:
    linked.link.start()
    for _ in range(20):
        peer = endpoint.accept()
        peer.say(answer)
        assert peer.transport.gone
        assert linked.link.trouble
        clock.advance(LIMITS.last_retry)
    accept(linked, endpoint)
    assert linked.told == ["up"]


def test_a_connection_that_breaks_at_once_again_and_again_is_made_ever_less_often(
    linked: Linked, endpoint: Endpoint, clock: Clock
) -> None:
    linked.link.start()
    for _ in range(8):
        accept(linked, endpoint).transport.lose()
        while not endpoint.attempts:
            clock.advance(0.1)
    accept(linked, endpoint).transport.lose()
    clock.advance(LIMITS.last_retry / 2 - 0.1)
    assert endpoint.attempts == []


def test_a_connection_that_lasted_is_made_again_soon(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    linked.link.start()
    for _ in range(8):
        endpoint.refuse(error.ConnectionRefusedError())
        clock.advance(LIMITS.last_retry)
    peer = accept(linked, endpoint)
    for _ in range(20):
        clock.advance(1)
        if peer.commands():
            peer.say(b"+PONG\r\n")
    peer.transport.lose()
    clock.advance(LIMITS.first_retry)
    assert len(endpoint.attempts) == 1


def test_a_greeting_that_is_never_answered_ends(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    linked.link.start()
    peer = endpoint.accept()
    clock.pump([0.5] * 20)
    assert peer.transport.gone


def test_an_attempt_that_never_ends_is_given_up(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    linked.link.start()
    endpoint.attempts.clear()
    clock.advance(ATTEMPT)
    assert endpoint.cancelled == 1
    clock.advance(LIMITS.first_retry)
    assert len(endpoint.attempts) == 1
    assert linked.link.trouble == "it did not answer in time"


def test_dropping_it_makes_another(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    linked.link.start()
    peer = accept(linked, endpoint)
    linked.link.drop("I do not like it")
    assert peer.transport.gone
    assert linked.link.trouble == "I do not like it"
    clock.advance(LIMITS.first_retry)
    accept(linked, endpoint)
    assert linked.told == ["up", "down", "up"]


def test_it_is_known_when_a_first_attempt_is_over(linked: Linked, endpoint: Endpoint, watch: Watch) -> None:
    tried = watch(linked.link.tried())
    linked.link.start()
    assert tried.pending
    endpoint.refuse(error.ConnectionRefusedError())
    assert tried.results == [None]


# Stopping


def stop(linked: Linked, clock: Clock, watch: Watch) -> None:
    stopped = watch(linked.link.stop())
    clock.advance(0)
    assert stopped.results == [None]
    assert clock.getDelayedCalls() == []


def test_stopping_before_it_started(linked: Linked, clock: Clock, watch: Watch) -> None:
    stop(linked, clock, watch)


def test_stopping_while_it_connects(linked: Linked, endpoint: Endpoint, clock: Clock, watch: Watch) -> None:
    linked.link.start()
    stop(linked, clock, watch)
    assert endpoint.cancelled == 1


def test_stopping_while_an_endpoint_has_its_own_way_to_be_cancelled(
    linked: Linked, endpoint: Endpoint, clock: Clock, watch: Watch
) -> None:
    linked.link.start()
    connecting: Deferred[Any] = endpoint.attempts[0][1]
    connecting._canceller = lambda d: d.errback(error.ConnectingCancelledError("somewhere"))
    stop(linked, clock, watch)


def test_stopping_while_it_greets(linked: Linked, endpoint: Endpoint, clock: Clock, watch: Watch) -> None:
    linked.link.start()
    peer = endpoint.accept()
    stop(linked, clock, watch)
    assert peer.transport.gone
    assert linked.told == []


def test_stopping_while_it_is_up(linked: Linked, endpoint: Endpoint, clock: Clock, watch: Watch) -> None:
    linked.link.start()
    peer = accept(linked, endpoint)
    asked = watch(linked.link.execute("GET", "x"))
    stop(linked, clock, watch)
    assert peer.transport.gone
    assert not asked.pending
    assert linked.told == ["up", "down"]


def test_stopping_while_it_waits(linked: Linked, endpoint: Endpoint, clock: Clock, watch: Watch) -> None:
    linked.link.start()
    endpoint.refuse(error.ConnectionRefusedError())
    stop(linked, clock, watch)
    assert endpoint.attempts == []


# The log


def test_a_reason_is_logged_once_until_it_changes(linked: Linked, endpoint: Endpoint, clock: Clock) -> None:
    with capturedLogs() as events:
        linked.link.start()
        for _ in range(5):
            endpoint.refuse(error.ConnectionRefusedError())
            clock.advance(LIMITS.last_retry)
        endpoint.accept().say(b"-LOADING Redis is loading\r\n")
        clock.advance(LIMITS.last_retry)
        accept(linked, endpoint)
    lines = [formatEvent(event) for event in events]
    assert len(lines) == 3
    assert "refused" in lines[0]
    assert "LOADING" in lines[1]
    assert lines[2] == "connected to here"
