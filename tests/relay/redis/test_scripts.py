"""Scripts that Redis has forgotten are loaded again, and nothing overtakes those that were refused."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from txredisapi import ResponseError

from tests.relay.redis.conftest import Watch
from twisted_chat.relay.redis.errors import LinkDownError, LinkLostError
from twisted_chat.relay.redis.scripts import HISTORY, PUBLISH, SCRIPTS, Call, ScriptCaller

NOSCRIPT = "NOSCRIPT No matching script. Please use EVAL."


class Commands:
    """What was executed, to be answered in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Any]] = []
        self.down = False

    def execute(self, *args: Any) -> Deferred[Any]:
        if self.down:
            return fail(LinkDownError())
        self.sent.append(args)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, reply: Any) -> None:
        waiting = self.waiting.pop(0)
        waiting.errback(reply) if isinstance(reply, Exception) else waiting.callback(reply)

    def take(self) -> list[Any]:
        """The last argument of each that was sent since."""
        sent, self.sent = self.sent, []
        return [args[-1] for args in sent]


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def caller(commands: Commands) -> ScriptCaller:
    return ScriptCaller(commands.execute)


def call(number: int) -> Call:
    return Call(PUBLISH, (b"key",), (number,))


def test_a_script_is_called_by_its_hash(commands: Commands, caller: ScriptCaller, watch: Watch) -> None:
    outcome = watch(caller.call(Call(HISTORY, (b"k", b"l"), (1, "x"))))
    assert commands.sent == [("EVALSHA", HISTORY.sha, 2, b"k", b"l", 1, "x")]
    commands.answer([b"reply"])
    assert outcome.results == [[b"reply"]]


def test_forgotten_scripts_are_loaded_and_calls_keep_their_order(
    commands: Commands, caller: ScriptCaller, watch: Watch
) -> None:
    outcomes = [watch(caller.call(call(number))) for number in range(3)]
    commands.take()
    commands.answer(ResponseError(NOSCRIPT))
    # One that is asked for now would overtake the two that are about to be refused.
    outcomes.append(watch(caller.call(call(3))))
    assert commands.take() == []
    commands.answer(ResponseError(NOSCRIPT))
    commands.answer(ResponseError(NOSCRIPT))
    assert commands.take() == [*[script.text for script in SCRIPTS], 0, 1, 2, 3]
    outcomes.append(watch(caller.call(call(4))))
    assert commands.take() == [4]
    for _ in SCRIPTS:
        commands.answer(b"sha")
    for number in range(5):
        assert outcomes[number].pending
        commands.answer(number)
        assert outcomes[number].results == [number]


def test_a_script_that_cannot_be_kept_fails_its_call(commands: Commands, caller: ScriptCaller, watch: Watch) -> None:
    outcome = watch(caller.call(call(0)))
    commands.answer(ResponseError(NOSCRIPT))
    for _ in SCRIPTS:
        commands.answer(ResponseError("OOM"))
    commands.answer(ResponseError(NOSCRIPT))
    assert str(outcome.errors[0]) == NOSCRIPT
    assert commands.waiting == []


def test_calls_that_wait_fail_with_the_link(commands: Commands, caller: ScriptCaller, watch: Watch) -> None:
    outcomes = [watch(caller.call(call(number))) for number in range(2)]
    commands.answer(ResponseError(NOSCRIPT))
    outcomes.append(watch(caller.call(call(2))))
    commands.down = True
    commands.answer(LinkLostError("a cable"))
    assert [type(outcome.errors[0]) for outcome in outcomes] == [LinkDownError, LinkLostError, LinkDownError]
    commands.down = False
    after = watch(caller.call(call(3)))
    commands.answer(3)
    assert after.results == [3]
