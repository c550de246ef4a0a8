"""Whether the two links lead to one server."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.relay.redis.conftest import Outcome, Watch
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.redis.errors import LinkDownError, LinkLostError, UnusableError
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.probe import Probe
from twisted_chat.relay.redis.publications import Storage
from twisted_chat.relay.redis.scripts import HISTORY, PUBLISH, Call


class Commands:
    """The scripts that were called, to be answered in order."""

    def __init__(self) -> None:
        self.sent: list[Call] = []
        self.waiting: list[Deferred[Any]] = []

    def call(self, call: Call) -> Deferred[Any]:
        self.sent.append(call)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, reply: Any = 1) -> None:
        self.waiting.pop(0).callback(reply)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def probe(clock: Clock, commands: Commands) -> Probe:
    return Probe(clock, Names(3), "node", commands.call, deadline=2.0)


@pytest.fixture
def begin(probe: Probe, watch: Watch) -> Any:
    return lambda: watch(Deferred.fromCoroutine(probe.write()))


def published(commands: Commands) -> bytes:
    """The newest probe, as it is heard."""
    call = commands.sent[-1]
    assert call.script is PUBLISH
    assert isinstance(call.args[0], bytes)
    return b"p1:2:0:epoch:" + call.args[0]


def test_it_goes_the_way_of_a_publication_and_is_kept_for_seconds(probe: Probe, commands: Commands, begin: Any) -> None:
    begin()
    room = "\x00probe/node"
    [call] = commands.sent
    as_others = Storage(Names(3), HistoryLimits(count=1, age=10.0, keys=10.0)).publish(room, b"1", "1")
    assert call.keys == as_others.keys
    assert [each for each in call.args if each != call.args[1]] == [
        each for each in as_others.args if each != as_others.args[1]
    ]  # but for the epoch, which is made up
    assert probe.channel == Names(3).channel(room)
    assert probe.channel in call.args
    probe.stop()
    commands.answer()


def test_reading_is_asked_for_in_the_way_of_a_history(probe: Probe, commands: Commands, watch: Watch) -> None:
    outcome = watch(Deferred.fromCoroutine(probe.read()))
    assert commands.sent[0].script is HISTORY
    commands.answer()
    assert outcome.results == [None]


def test_it_is_well_when_what_it_publishes_is_heard(probe: Probe, commands: Commands, begin: Any, clock: Clock) -> None:
    outcome: Outcome = begin()
    commands.answer()
    assert outcome.pending
    probe.heard(published(commands))
    assert outcome.results == [None]
    assert not clock.getDelayedCalls()


def test_it_may_be_heard_before_it_is_known_to_be_published(probe: Probe, commands: Commands, begin: Any) -> None:
    outcome: Outcome = begin()
    probe.heard(published(commands))
    probe.heard(published(commands))
    commands.answer()
    assert outcome.results == [None]


def test_what_another_said_does_not_count(probe: Probe, commands: Commands, begin: Any, clock: Clock) -> None:
    outcome: Outcome = begin()
    commands.answer()
    probe.heard(b"another's")
    clock.advance(1.9)
    assert outcome.pending
    clock.advance(0.2)
    (error,) = outcome.errors
    assert isinstance(error, UnusableError)
    assert "was not heard for 2 seconds" in str(error)


@pytest.mark.parametrize("answered", [0, 1])
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
    probe.heard(published(commands))
    probe.stop()
    commands.answer()
    assert outcome.results == [None]
