"""Whether the two links lead to one server."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.relay.redis.conftest import Outcome, Watch
from twisted_chat.relay.redis.errors import LinkDownError, LinkLostError, UnusableError
from twisted_chat.relay.redis.probe import Probe


class Commands:
    """What was sent, to be answered in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Any]] = []

    def execute(self, *args: Any) -> Deferred[Any]:
        self.sent.append(args)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, reply: Any = 1) -> None:
        self.waiting.pop(0).callback(reply)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def probe(clock: Clock, commands: Commands) -> Probe:
    return Probe(clock, commands.execute, b"node", b"inbox", deadline=2.0)


@pytest.fixture
def begin(probe: Probe, watch: Watch) -> Any:
    return lambda: watch(Deferred.fromCoroutine(probe.run()))


def published(commands: Commands) -> bytes:
    """The token of the newest probe."""
    verb, inbox, token = commands.sent[-1]
    assert (verb, inbox) == ("PUBLISH", b"inbox")
    assert isinstance(token, bytes)
    return token


def test_it_is_well_when_what_it_publishes_is_heard(probe: Probe, commands: Commands, begin: Any, clock: Clock) -> None:
    outcome: Outcome = begin()
    commands.answer()
    commands.answer()
    assert outcome.pending
    probe.heard(published(commands))
    assert outcome.results == [None]
    assert not clock.getDelayedCalls()


def test_it_may_be_heard_before_it_is_known_to_be_published(probe: Probe, commands: Commands, begin: Any) -> None:
    outcome: Outcome = begin()
    commands.answer()
    probe.heard(published(commands))
    probe.heard(published(commands))
    commands.answer()
    assert outcome.results == [None]


def test_what_another_said_does_not_count(probe: Probe, commands: Commands, begin: Any, clock: Clock) -> None:
    outcome: Outcome = begin()
    commands.answer()
    commands.answer()
    probe.heard(b"another's")
    clock.advance(1.9)
    assert outcome.pending
    clock.advance(0.2)
    (error,) = outcome.errors
    assert isinstance(error, UnusableError)
    assert "was not heard for 2 seconds" in str(error)


@pytest.mark.parametrize("answered", [1, 2])
def test_stopping_ends_what_waits_to_be_heard(
    probe: Probe, commands: Commands, begin: Any, clock: Clock, answered: int
) -> None:
    outcome: Outcome = begin()
    for _ in range(answered):
        commands.answer()
    probe.stop()
    probe.stop()
    for waiting in commands.waiting:
        waiting.errback(LinkLostError("it was stopped"))
    (error,) = outcome.errors
    assert isinstance(error, (LinkDownError, LinkLostError))
    assert not clock.getDelayedCalls()


def test_one_that_was_heard_is_well_whatever_stops_then(probe: Probe, commands: Commands, begin: Any) -> None:
    outcome: Outcome = begin()
    commands.answer()
    probe.heard(published(commands))
    probe.stop()
    commands.answer()
    assert outcome.results == [None]
