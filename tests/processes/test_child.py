"""A process as its supervisor sees it: what it says and answers, and what happens when it does not."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from twisted.internet.defer import TimeoutError as DeferredTimeout

from tests.processes.conftest import Reactor, Spawned
from twisted_chat.processes.child import MOST_ORDERS, PATIENCE, START, Child, GoneError, ProcessEnd
from twisted_chat.processes.process import TO_SUPERVISOR


class Events:
    def __init__(self) -> None:
        self.happened: list[str] = []

    def ready(self, child: Child) -> None:
        self.happened.append("ready")

    def stopping(self, child: Child) -> None:
        self.happened.append("stopping")

    def failed(self, child: Child, why: str) -> None:
        self.happened.append(f"failed: {why}")

    def ended(self, child: Child, end: ProcessEnd) -> None:
        self.happened.append(f"ended {end.exitCode} {end.signal}")


class Known:
    """A child, what it tells, and its output."""

    def __init__(self, reactor: Reactor) -> None:
        self.events = Events()
        self.output: list[bytes] = []
        self.child = Child(2, reactor, self.events, self.output.append)
        self.process: Spawned = reactor.spawnProcess(self.child, "x", ["x"], {}, childFDs={})


@pytest.fixture
def known(reactor: Reactor) -> Known:
    return Known(reactor)


def test_a_life(known: Known) -> None:
    child, process = known.child, known.process
    assert (child.started, child.is_ready, child.pid) == (False, False, 4711)
    process.say("started")
    assert (child.started, child.is_ready) == (True, False)
    process.say("ready")
    assert child.is_ready
    child.stop()
    assert (child.is_ready, process.told(), process.signals) == (False, ["stop"], [])
    process.say("stopping")
    assert child.is_stopping
    process.end()
    assert known.events.happened == ["ready", "stopping", "ended 0 None"]
    assert (child.pid, child.was_ready) == (None, True)
    child.kill()
    child.tell("hurry")
    assert process.told() == ["stop"]


def test_one_that_does_not_listen_yet_is_killed(known: Known) -> None:
    known.child.stop()
    assert (known.process.signals, known.process.orders) == ([signal.SIGKILL], [])


def test_answers_find_their_orders(known: Known, reactor: Reactor) -> None:
    known.process.say("started")
    answers: list[object] = []
    first, second = (known.child.order("report", 3.0) for _ in range(2))
    first.addCallback(answers.append)
    second.addCallback(answers.append)
    known.process.answer(nodes=2)
    known.process.hear({"order": 1, "nodes": 1})
    known.process.hear({"order": 1, "nodes": 1})
    assert answers == [{"order": 2, "nodes": 2}, {"order": 1, "nodes": 1}]
    assert not reactor.getDelayedCalls()


def test_who_asks_does_not_wait_for_ever(known: Known, reactor: Reactor) -> None:
    failures: list[type[BaseException] | None] = []
    late, lost = known.child.order("report", 3.0), known.child.order("report")
    for each in (late, lost):
        each.addErrback(lambda failure: failures.append(failure.type))
    reactor.advance(3.1)
    known.process.hear({"order": 1})
    known.process.end(number=signal.SIGKILL)
    known.child.order("report").addErrback(lambda failure: failures.append(failure.type))
    assert failures == [DeferredTimeout, GoneError, GoneError]


def test_orders_have_a_bound(known: Known) -> None:
    for _ in range(MOST_ORDERS + 50):
        known.child.tell("reload")
    assert len(known.process.orders) == MOST_ORDERS


def test_one_that_hangs_is_killed(known: Known, said: Callable[[], list[str]]) -> None:
    known.process.begin()
    for _ in range(3 * PATIENCE):
        known.child.beat()
        known.process.give_sign()
    for _ in range(PATIENCE):
        known.child.beat()
    assert (known.process.signals, known.child.is_stuck) == ([], False)
    known.child.beat()
    assert (known.process.signals, known.child.is_stuck) == ([signal.SIGABRT], True)
    known.child.beat()
    known.child.beat()
    assert known.process.signals == [signal.SIGABRT, signal.SIGKILL, signal.SIGKILL]
    assert said()[0] == "process 2 gives no sign of life, and is killed"


def test_one_that_starts_has_more_time(known: Known) -> None:
    for _ in range(START):
        known.child.beat()
    assert not known.child.is_stuck
    known.process.say("started")
    known.child.beat()
    assert (known.process.signals, known.child.is_stuck) == ([], False)


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"neither": 1}\n', b'{"say": "failed"}\n'])
def test_one_that_cannot_be_understood_is_killed(known: Known, line: bytes, said: Callable[[], list[str]]) -> None:
    known.child.childDataReceived(TO_SUPERVISOR, line)
    assert known.process.signals == [signal.SIGKILL]
    assert said() == ["process 2 says what cannot be understood; it is killed"]


def test_what_a_later_version_says_is_passed_over(known: Known) -> None:
    known.process.say("hungry")
    assert (known.process.signals, known.events.happened) == ([], [])


def test_output_comes_by_lines(known: Known) -> None:
    known.child.childDataReceived(1, b"one\ntw")
    known.child.childDataReceived(2, b"error\n")
    known.child.childDataReceived(1, b"o\n")
    assert known.output == [b"one\n", b"error\n", b"two\n"]
