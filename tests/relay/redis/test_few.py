from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail

from twisted_chat.relay.redis.few import FewAtOnce


class Calls:
    def __init__(self) -> None:
        self.few = FewAtOnce(2)
        self.made: list[str] = []
        self.answers: dict[str, Deferred[str]] = {}
        self.got: list[Any] = []

    def run(self, name: str) -> Deferred[Any]:
        def call() -> Deferred[str]:
            self.made.append(name)
            self.answers[name] = Deferred()
            return self.answers[name]

        return self.few.run(call).addBoth(self.got.append)


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_others_follow_in_their_order(calls: Calls) -> None:
    for name in "abcde":
        calls.run(name)
    assert calls.made == ["a", "b"]
    for name in "bacde":
        calls.answers[name].callback(name)
    assert calls.made == list("abcde")
    assert calls.got == list("bacde")


def test_a_failure_makes_place_as_well(calls: Calls) -> None:
    for name in "abc":
        calls.run(name)
    calls.answers["a"].errback(ValueError())
    assert calls.made == ["a", "b", "c"]
    assert calls.got[0].check(ValueError)


def test_what_is_cancelled_is_not_called(calls: Calls) -> None:
    waiting = [calls.run(name) for name in "abcd"]
    waiting[2].cancel()
    assert calls.got[0].check(CancelledError)
    calls.answers["a"].callback("a")
    assert calls.made == ["a", "b", "d"]


def test_a_lost_link_that_fails_all_of_them_takes_no_stack(calls: Calls) -> None:
    calls.run("a")
    calls.run("b")
    failed: list[Any] = []
    for _ in range(5_000):
        calls.few.run(lambda: fail(ValueError())).addErrback(failed.append)
    assert failed == []
    calls.answers["a"].errback(ValueError())
    assert len(failed) == 5_000
    calls.answers["b"].callback("b")
    calls.run("c")
    assert calls.made == ["a", "b", "c"]
