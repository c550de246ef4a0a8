"""`twisted_chat.clock`: the reactor's time is one that nobody sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.python import runtime

from twisted_chat.clock import use_monotonic_clock


class WallClock:
    """The time of day, as Twisted reads it."""

    def __init__(self) -> None:
        self.step = 0.0

    def __call__(self) -> float:
        return time.time() + self.step


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """What reactors that are made from now on count by, until they are told otherwise."""
    clock = WallClock()
    monkeypatch.setattr(runtime, "seconds", clock)
    return clock


def asyncio_reactor() -> Any:
    import asyncio

    return AsyncioSelectorReactor(asyncio.SelectorEventLoop())


REACTORS: list[Callable[[], Any]] = [SelectReactor, PollReactor, asyncio_reactor]


def turn(reactor: Any, called: list[str], seconds: float = 5.0) -> None:
    """Let it turn until something was called."""
    end = time.monotonic() + seconds
    while not called and time.monotonic() < end:
        reactor.iterate(0.01)


@pytest.mark.parametrize("make", REACTORS)
def test_timers_go_on_when_the_clock_is_set_back(make: Callable[[], Any], wall_clock: WallClock) -> None:
    reactor = make()
    reactor.seconds = wall_clock
    use_monotonic_clock(reactor)
    called: list[str] = []
    reactor.callLater(0.05, called.append, "later")
    wall_clock.step = -3_600.0
    turn(reactor, called)
    assert called == ["later"]


@pytest.mark.parametrize("make", REACTORS)
def test_what_was_scheduled_before_stays_due(make: Callable[[], Any], wall_clock: WallClock) -> None:
    reactor = make()
    reactor.seconds = wall_clock
    called: list[str] = []
    late = reactor.callLater(100.0, called.append, "late")
    reactor.callLater(0.05, called.append, "soon")
    use_monotonic_clock(reactor)
    assert 99.0 < late.getTime() - reactor.seconds() <= 100.0
    wall_clock.step = -3_600.0
    turn(reactor, called)
    assert called == ["soon"]
    late.reset(0)
    called.clear()
    turn(reactor, called)
    assert called == ["late"]


def test_it_is_done_once(wall_clock: WallClock) -> None:
    reactor = SelectReactor()
    reactor.seconds = wall_clock
    call = reactor.callLater(100.0, print)
    use_monotonic_clock(reactor)
    due = call.getTime()
    use_monotonic_clock(reactor)
    assert call.getTime() == due


def test_another_clock_is_left_alone() -> None:
    clock = Clock()
    clock.advance(7.0)
    use_monotonic_clock(clock)
    assert clock.seconds() == 7.0
