"""How often one address may ask, and what becomes of what is beyond: refused, held, cut off."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_chat.core.limits import Rate
from twisted_chat.server.http.fairness import FairTurns
from twisted_chat.server.http.request_rates import REFUSED_PART, RequestRates, Verdict
from twisted_chat.server.http.rotation import Work

RATE = Rate(2.0, 20)
REFUSALS = RATE.burst // REFUSED_PART
"""How many are refused at once."""


class Clients:
    """Requests are their addresses here; servers' are upper case."""

    def __init__(self, *, proxied: bool) -> None:
        self.proxied = proxied

    def address(self, request: Any) -> str | None:
        raise AssertionError("the address is given")

    def is_server(self, request: Any) -> bool:
        return isinstance(request, str) and request.isupper()


class Desk:
    """Asks, and notes which work was done."""

    def __init__(self, rate: Rate = RATE, *, proxied: bool = False) -> None:
        self.clock = Clock()
        self.turns = FairTurns(self.clock)
        self.rates = RequestRates(self.clock, rate, self.turns, Clients(proxied=proxied))
        self.done: list[str] = []

    def ask(self, address: str | None, times: int = 1) -> list[Verdict]:
        request: Any = address
        return [self.rates.judge(request, address) for _ in range(times)]

    def hold(self, name: str, address: str = "a") -> Work | None:
        work = Work(address, name, lambda: self.done.append(name))
        return work if self.rates.hold(work) else None

    def spend(self, address: str = "a") -> None:
        """Use up what it may ask, and its refusals."""
        self.ask(address, RATE.burst + REFUSALS)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_beyond_the_rate_some_are_refused_and_others_held(desk: Desk) -> None:
    verdicts = desk.ask("a", RATE.burst + REFUSALS + 3)
    assert verdicts == [Verdict.SERVE] * RATE.burst + [Verdict.REFUSE] * REFUSALS + [Verdict.HOLD] * 3
    assert desk.ask("b") == [Verdict.SERVE]
    desk.clock.advance(1)
    assert desk.ask("a", 3) == [Verdict.SERVE] * 2 + [Verdict.HOLD]


def test_servers_and_local_sockets_have_no_rate(desk: Desk) -> None:
    desk.spend("a")
    assert desk.ask("A", 5 * RATE.burst) == [Verdict.SERVE] * 5 * RATE.burst
    assert desk.ask(None, 5 * RATE.burst) == [Verdict.SERVE] * 5 * RATE.burst


def test_what_is_held_is_done_as_the_rate_allows_it_in_turns(desk: Desk) -> None:
    desk.spend()
    for name in ("1", "1", "1", "2"):
        assert desk.hold(name)
    assert len(desk.rates) == 4
    for done in (["1"], ["1", "2"], ["1", "2", "1"], ["1", "2", "1", "1"]):
        # Nobody is served meanwhile who comes later.
        assert desk.ask("a")[0] is not Verdict.SERVE
        desk.clock.advance(0.5)
        desk.clock.advance(0)
        assert desk.done == done
    assert len(desk.rates) == 0
    assert desk.clock.getDelayedCalls() == []
    desk.clock.advance(0.5)
    assert desk.ask("a") == [Verdict.SERVE]


def test_after_a_stall_no_more_than_the_rate_is_released(desk: Desk) -> None:
    desk.spend()
    for number in range(15):
        assert desk.hold(str(number))
    desk.clock.rightNow += 2.0
    desk.clock.advance(0)
    assert len(desk.rates) == 11


def test_so_much_is_held_and_what_comes_then_is_cut_off() -> None:
    desk = Desk(Rate(0.3, 1))
    assert desk.ask("a", 2) == [Verdict.SERVE, Verdict.REFUSE]
    for number in range(3):
        assert desk.ask("a") == [Verdict.HOLD]
        assert desk.hold(str(number))
    assert desk.ask("a") == [Verdict.CUT_OFF]
    assert desk.hold("one too many") is None
    assert desk.ask("b") == [Verdict.SERVE]


def test_forgotten_work_is_not_done_wherever_it_waits(desk: Desk) -> None:
    desk.spend()
    first, second, third = (desk.hold(name) for name in ("1", "2", "3"))
    assert first
    assert second
    assert third
    desk.rates.forget(second)
    desk.clock.rightNow += 0.5
    (call,) = desk.clock.getDelayedCalls()
    desk.rates._release("a")  # as the call will do
    call.cancel()
    assert (len(desk.rates), len(desk.turns)) == (1, 1)
    desk.rates.forget(first)
    desk.rates.forget(third)
    assert (len(desk.rates), len(desk.turns)) == (0, 0)
    desk.clock.advance(10)
    assert desk.done == []


def test_how_long_to_wait(desk: Desk) -> None:
    assert desk.rates.wait("a") == 0.0
    assert not desk.rates.exhausted("a")
    desk.spend()
    assert desk.rates.wait("a") == pytest.approx(0.5)
    assert desk.rates.exhausted("a")
    works = [desk.hold("1"), desk.hold("2")]
    assert desk.rates.wait("a") == pytest.approx(1.5)
    for work in works:
        assert work
        desk.rates.forget(work)
    desk.clock.advance(0.5)
    assert not desk.rates.exhausted("a")


def test_behind_a_proxy_nothing_is_held() -> None:
    desk = Desk(proxied=True)
    assert desk.ask("a", RATE.burst + 100) == [Verdict.SERVE] * RATE.burst + [Verdict.REFUSE] * 100
