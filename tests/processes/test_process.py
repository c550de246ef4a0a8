"""A process that is one of several: it does what the supervisor orders, and ends without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.testing import StringTransport

from tests.conftest import LoggedFailures
from tests.processes.conftest import Reactor
from twisted_chat.processes.process import Link


class Served:
    """What the orders do here."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.reporting: Deferred[dict[str, Any]] = Deferred()

    def report(self) -> Deferred[dict[str, Any]]:
        return self.reporting

    def reload(self) -> None:
        self.done.append("reload")

    def hurry(self) -> None:
        self.done.append("hurry")


class Linked:
    """A link whose other end is here."""

    def __init__(self, reactor: Reactor) -> None:
        self.transport = StringTransport()
        self.link = Link(reactor, lambda link: link.makeConnection(self.transport))
        self.served = Served()
        self.link.serve(self.served)

    def order(self, number: int, what: str) -> None:
        self.link.dataReceived(json.dumps({"order": number, "do": what}).encode() + b"\n")

    def said(self) -> list[dict[str, Any]]:
        messages = [json.loads(line) for line in self.transport.value().splitlines()]
        self.transport.clear()
        return messages


@pytest.fixture
def linked(reactor: Reactor) -> Linked:
    return Linked(reactor)


def test_it_says_what_happens_to_it(linked: Linked) -> None:
    linked.link.ready("serving")
    linked.link.reloading()
    linked.link.ready("serving")  # as before, which is nothing new
    linked.link.stopping(3.0)
    linked.link.failed("the relay cannot start: no")
    assert linked.said() == [
        {"say": "started"},
        {"say": "ready"},
        {"say": "stopping"},
        {"say": "failed", "message": "the relay cannot start: no"},
    ]


def test_it_obeys_and_answers(linked: Linked) -> None:
    linked.said()
    linked.order(1, "report")
    linked.order(2, "reload")
    linked.order(3, "hurry")
    assert linked.said() == [{"order": 2}, {"order": 3}]
    linked.served.reporting.callback({"nodes": 2})
    assert linked.said() == [{"order": 1, "nodes": 2}]
    assert linked.served.done == ["reload", "hurry"]


def test_it_stops_once(linked: Linked, reactor: Reactor) -> None:
    linked.order(1, "stop")
    linked.order(2, "stop")
    linked.link.connectionLost()
    assert reactor.events == ["stop"]


def test_without_the_supervisor_it_stops(linked: Linked, reactor: Reactor, said: Callable[[], list[str]]) -> None:
    linked.link.connectionLost()
    assert reactor.events == ["stop"]
    assert said() == ["the process that started this one is gone; this one stops too"]
    linked.link.stopping()  # nobody hears that


def test_an_order_that_fails_is_answered(linked: Linked, logged_failures: LoggedFailures) -> None:
    linked.said()
    linked.served.reporting = fail(ZeroDivisionError())
    linked.order(1, "report")
    assert linked.said() == [{"order": 1}]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
