"""What operators are told of several processes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from tests.processes.conftest import Reactor, Spawned
from twisted_chat.metrics import Metrics
from twisted_chat.processes.child import Child
from twisted_chat.processes.overview import PATIENCE, Overview
from twisted_chat.server.admin import DRAINING, Obstacle

RELAY = ("relay", "no connection to redis://127.0.0.1", False)


class Deaf:
    """Hears nothing."""

    def ready(self, child: Child) -> None:
        """Not asked here."""

    stopping = ready

    def failed(self, child: Child, why: str) -> None:
        """Not asked here."""

    def ended(self, child: Child, end: object) -> None:
        """Not asked here."""


class Watched:
    """Two processes, and who looks at them."""

    def __init__(self, reactor: Reactor) -> None:
        self.processes: list[Spawned] = []
        self.children: dict[int, Child | None] = {}
        for number in (1, 2):
            child = self.children[number] = Child(number, reactor, Deaf(), lambda _: None)
            self.processes.append(reactor.spawnProcess(child, "x", ["x"], {}, childFDs={}))
        self.overview = Overview(reactor, self.children)

    def begin(self) -> None:
        for process in self.processes:
            process.begin()

    def check(self) -> list[tuple[Obstacle, ...]]:
        """The answer, when it is there."""
        answers: list[tuple[Obstacle, ...]] = []
        self.overview.check().addCallback(answers.append)
        return answers


@pytest.fixture
def watched(reactor: Reactor) -> Watched:
    return Watched(reactor)


def report(nodes: int | None = 2, obstacles: Any = (), metrics: Metrics | None = None) -> dict[str, Any]:
    return {"obstacles": obstacles, "nodes": nodes, "metrics": (metrics or Metrics()).families()}


def test_ready_is_who_is_ready_everywhere(watched: Watched) -> None:
    watched.begin()
    answers = watched.check()
    watched.processes[0].answer(**report(nodes=None))
    assert answers == []
    watched.processes[1].answer(**report(nodes=3))
    assert (answers, watched.overview.nodes) == ([()], 3)


def test_what_is_in_the_way_of_all_is_said_once(watched: Watched) -> None:
    watched.begin()
    answers = watched.check()
    for process in watched.processes:
        process.answer(**report(obstacles=[RELAY]))
    assert answers == [(Obstacle(*RELAY),)]


def test_what_is_in_the_way_of_some_is_a_part_of_all(watched: Watched) -> None:
    watched.begin()
    answers = watched.check()
    watched.processes[0].answer(**report(obstacles=[["rooms", "some rooms do not work", True]]))
    watched.processes[1].answer(**report(obstacles=[RELAY, ["rooms", "some rooms do not work", True]]))
    assert answers == [(Obstacle("rooms", "some rooms do not work", partial=True), Obstacle(*RELAY[:2], partial=True))]


def test_who_is_away_is_named(watched: Watched) -> None:
    watched.processes[0].begin()
    answers = watched.check()
    watched.processes[0].answer(**report())
    assert answers == [(Obstacle("process", "process 2 is starting", partial=True),)]
    watched.children[2] = None
    answers = watched.check()
    watched.processes[0].end(1)
    assert answers == [tuple(Obstacle("process", f"process {number} is starting") for number in (1, 2))]


def test_who_does_not_answer_is_named(watched: Watched, reactor: Reactor) -> None:
    watched.begin()
    answers = watched.check()
    watched.processes[1].answer(**report())
    reactor.advance(PATIENCE)
    assert answers == [(Obstacle("process", "process 1 did not answer within 3 seconds", partial=True),)]


def test_many_who_ask_are_one_question(watched: Watched) -> None:
    watched.begin()
    first, second = watched.check(), watched.check()
    gone = watched.overview.check()
    gone.addErrback(lambda failure: failure.trap(CancelledError))
    gone.cancel()
    for process in watched.processes:
        assert process.told() == ["report"]
        process.answer(**report())
    assert first == second == [()]
    watched.check()
    assert watched.processes[0].told() == ["report", "report"]


def test_at_the_end_there_are_still_metrics(watched: Watched) -> None:
    watched.begin()
    watched.overview.draining()
    metrics = Metrics()
    metrics.delivered(3, None)
    answers = watched.check()
    watched.processes[0].answer(**report(metrics=metrics))
    watched.processes[1].answer(**report(metrics=metrics))
    assert answers == [(DRAINING,)]
    text = watched.overview.render().decode()
    assert "twisted_chat_deliveries_total 6.0" in text
    assert "twisted_chat_processes 2.0" in text
    watched.overview.ended(1)
    assert "twisted_chat_process_ends_total 1.0" in watched.overview.render().decode()
