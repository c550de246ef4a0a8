"""When a worker looks for what is due; the scripts themselves are in `test_redis_scripts.py`."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.queue import QueueLimits
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.names import QueueNames
from twisted_chat.consumers.redis.posting import AT_ONCE, LOOK, Posting
from twisted_chat.consumers.redis.scripts import DELAY, DUE
from twisted_chat.relay.redis.scripts import Call

SHORTEST, LONGEST = LOOK
EVENT = Event("x", "asgi.delay", {})


class Link:
    """Redis as the test says: the answers to the looks, in order; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.has_room = True
        self.names = QueueNames()

    def call(self, call: Call) -> Deferred[Any]:
        self.calls.append(call)
        if call.script is not DUE:
            return succeed(int(self.has_room))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    @property
    def looks(self) -> int:
        return sum(call.script is DUE for call in self.calls)


def started(*answers: Any) -> tuple[Posting, Link, Clock]:
    clock, link = Clock(), Link(*answers)
    posting = Posting(clock, cast("QueueLink", link), QueueLimits())
    posting.start()
    clock.advance(0)
    return posting, link, clock


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        ([0, -1], LONGEST),
        ([3, -1], LONGEST),
        ([0, 300], 0.3),
        ([3, 90_000], LONGEST),
        ([0, 0], SHORTEST),
        (NotReadyError("away"), LONGEST),
    ],
)
def test_the_next_look(answer: Any, wait: float) -> None:
    posting, link, clock = started(answer, [0, -1])
    assert [call.getTime() for call in clock.getDelayedCalls()] == [wait]
    clock.advance(wait)
    assert link.looks == 2
    posting.stop()
    assert not clock.getDelayedCalls()


def test_when_there_may_be_more_it_looks_at_once() -> None:
    posting, link, clock = started([AT_ONCE, 0], [AT_ONCE, 0], [1, -1])
    assert link.looks == 3
    assert [call.getTime() for call in clock.getDelayedCalls()] == [LONGEST]
    posting.stop()


def test_what_is_due_sooner_is_looked_for_sooner() -> None:
    posting, link, clock = started([0, -1])
    posting.delay(EVENT, 60)
    posting.delay(EVENT, 0.25)
    posting.delay(EVENT, 0.5)
    assert [call.args[2] for call in link.calls if call.script is DELAY] == [60_000, 250, 500]
    clock.advance(0.25)
    assert link.looks == 2
    posting.stop()
    posting.delay(EVENT, 0.1)
    assert not clock.getDelayedCalls()


def test_where_no_more_may_wait_it_is_said() -> None:
    posting, link, _ = started([0, -1])
    link.has_room = False
    refused: list[Any] = []
    posting.delay(EVENT, 1).addErrback(refused.append)
    assert refused[0].check(NotReadyError)
    posting.stop()
