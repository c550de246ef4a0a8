"""`twisted_chat.signals`: what a hang-up means."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.memory_reactor import Reactor
from twisted_chat import signals
from twisted_chat.signals import is_terminal, on_hangup, stop_on_hangup

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of the standard input."""
    master, slave = os.openpty()
    monkeypatch.setattr(signals, "TERMINAL", slave)
    yield master
    os.close(slave)


def hang_up() -> None:
    signal.raise_signal(signal.SIGHUP)


@pytest.mark.parametrize("attended", [True, False])
def test_the_end_of_a_terminal_is_that_of_the_process(terminal: int, attended: bool) -> None:
    reactor, reloads = Reactor(), list[str]()
    on_hangup(reactor, lambda: reloads.append("reload"), at_end_of_terminal=attended)
    reactor.run()
    hang_up()
    assert (reloads, reactor.events) == (["reload"], [])
    assert is_terminal(signals.TERMINAL)
    os.close(terminal)
    hang_up()
    hang_up()  # from the shell, and from the system
    if attended:
        assert (reloads, reactor.events) == (["reload"], ["stop"])
    else:
        assert (reloads, reactor.events) == (["reload"] * 3, [])


def test_without_a_terminal_it_is_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "TERMINAL", -1)
    reactor, reloads = Reactor(), list[str]()
    on_hangup(reactor, lambda: reloads.append("reload"), at_end_of_terminal=True)
    reactor.run()
    hang_up()
    assert (reloads, reactor.events) == (["reload"], [])


def test_what_reads_nothing_again_stops_in_order() -> None:
    reactor = Reactor()
    stop_on_hangup(reactor)
    reactor.run()
    hang_up()
    hang_up()
    assert reactor.events == ["stop"]


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    reactor = Reactor()
    stop_on_hangup(reactor)
    reactor.run()
    hang_up()
    assert reactor.events == []
