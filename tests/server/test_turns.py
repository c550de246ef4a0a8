from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.turns import Turns


class Calls:
    """What was called, and is answered by hand."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.made: list[str] = []
        self.answers: dict[str, Deferred[str]] = {}
        self.got: list[Any] = []

    def ask(self, address: str | None, name: str, wanted: Callable[[], bool] = lambda: True) -> None:
        def call() -> Deferred[str]:
            self.made.append(name)
            self.answers[name] = Deferred()
            return self.answers[name]

        self.turns.take(address, call, wanted).addBoth(self.got.append)

    def answer(self, name: str) -> None:
        self.answers.pop(name).callback(name)


@pytest.fixture
def calls() -> Calls:
    return Calls(Turns(2, 3))


def test_calls_are_made_at_once_while_there_are_few(calls: Calls) -> None:
    calls.ask("a", "one")
    calls.ask("a", "two")
    assert calls.made == ["one", "two"]
    calls.answer("two")
    calls.ask("a", "three")
    assert (calls.made, calls.got) == (["one", "two", "three"], ["two"])


def test_others_wait_and_addresses_take_turns(calls: Calls) -> None:
    for name in ("a1", "a2", "a3", "a4", "a5"):
        calls.ask("a", name)
    calls.ask("b", "b1")
    calls.ask(None, "n1")
    calls.ask("b", "b2")
    assert calls.made == ["a1", "a2"]
    for name in ("a1", "a2", "a3", "b1", "n1", "a4", "b2", "a5"):
        calls.answer(name)
    assert calls.made == ["a1", "a2", "a3", "b1", "n1", "a4", "b2", "a5"]
    assert calls.got == calls.made


def test_so_many_of_an_address_wait_and_no_more(calls: Calls) -> None:
    for number in range(6):
        calls.ask("a", f"a{number}")
    (refused,) = calls.got
    assert isinstance(refused.value, ChatError)
    assert refused.value.reason is Reason.RATE_LIMITED
    assert str(refused.value) == "3 questions from this address wait already"
    calls.ask("b", "b0")
    calls.answer("a0")
    calls.answer("a1")
    assert calls.made == ["a0", "a1", "a2", "b0"]


def test_what_nobody_wants_any_more_is_not_called(calls: Calls) -> None:
    gone = False
    calls.ask("a", "one")
    calls.ask("a", "two")
    calls.ask("a", "three", lambda: not gone)
    calls.ask("a", "four")
    gone = True
    calls.answer("one")
    assert calls.made == ["one", "two", "four"]


def test_a_failure_makes_place_as_well(calls: Calls) -> None:
    calls.ask("a", "one")
    calls.ask("a", "two")
    calls.ask("a", "three")
    calls.answers["one"].errback(ChatError(Reason.TRY_AGAIN, "no"))
    assert calls.made == ["one", "two", "three"]
    assert calls.got[0].check(ChatError)


def test_many_that_are_answered_at_once_take_no_more_stack(calls: Calls) -> None:
    turns = Turns(1, 10_000)
    first: Deferred[int] = Deferred()
    got: list[int] = []
    turns.take("a", lambda: first, lambda: True)
    for number in range(5_000):
        turns.take("a", lambda number=number: succeed(number), lambda: True).addCallback(got.append)  # type: ignore[misc]  # a default is what binds it
    first.callback(0)
    assert got == list(range(5_000))


def test_a_call_that_raises_is_a_failure(calls: Calls) -> None:
    def broken() -> Deferred[None]:
        raise RuntimeError

    for _ in range(3):
        failed: list[Any] = []
        calls.turns.take("a", broken, lambda: True).addErrback(failed.append)
        assert failed[0].check(RuntimeError)
    failed = []
    calls.turns.take("a", lambda: fail(RuntimeError()), lambda: True).addErrback(failed.append)
    assert failed
