"""How often the log says what Redis refuses."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from txredisapi import ResponseError

from tests.conftest import LoggedFailures
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.relay.redis.errors import LinkDownError, LinkFullError, LinkLostError
from twisted_chat.relay.redis.refusals import EVERY, PUBLISHING, READING, Refusals

DENIED = ResponseError("NOPERM this user may not\nevalsha")
FULL = ResponseError("OOM command not allowed")


@pytest.fixture
def refusals(clock: Clock) -> Refusals:
    return Refusals("redis://h", clock.seconds)


def test_one_line_a_minute_for_each_kind(refusals: Refusals, clock: Clock) -> None:
    with capturedLogs() as events:
        for _ in range(1_000):
            refusals.refused(PUBLISHING, Failure(DENIED))
            refusals.refused(READING, Failure(DENIED))
            refusals.refused(PUBLISHING, Failure(FULL))
            clock.advance(EVERY / 1_000)
        refusals.refused(PUBLISHING, Failure(DENIED))
    lines = [formatEvent(event) for event in events]
    assert len(lines) == 4
    assert {event["log_level"] for event in events} == {LogLevel.error}
    for line, work in zip(lines, (PUBLISHING, READING, PUBLISHING, PUBLISHING), strict=True):
        assert work.fails in line
        assert "\n" not in line
    assert "NOPERM this user may not evalsha" in lines[0]
    assert "999 more" in lines[3]


def test_its_end_is_said_once_and_no_more_often_than_its_beginning(refusals: Refusals, clock: Clock) -> None:
    with capturedLogs() as events:
        refusals.worked(PUBLISHING)
        for _ in range(10):
            refusals.refused(PUBLISHING, Failure(FULL))
            refusals.worked(READING)
            refusals.worked(PUBLISHING)
            refusals.worked(PUBLISHING)
    assert len(events) == 2
    assert PUBLISHING.works in str(formatEvent(events[1]))
    with capturedLogs() as events:
        clock.advance(EVERY)
        refusals.refused(PUBLISHING, Failure(FULL))
        refusals.worked(PUBLISHING)
    assert len(events) == 2


@pytest.mark.parametrize(
    "error", [LinkDownError(), LinkLostError("gone"), CancelledError(), ChatError(Reason.TRY_AGAIN, "not now")]
)
def test_what_was_said_elsewhere_is_not_said_here(refusals: Refusals, error: Exception) -> None:
    with capturedLogs() as events:
        refusals.refused(PUBLISHING, Failure(error))
        refusals.worked(PUBLISHING)
    assert events == []


def test_a_link_that_is_full_is_a_kind_of_its_own(refusals: Refusals) -> None:
    with capturedLogs() as events:
        for _ in range(3):
            refusals.refused(PUBLISHING, Failure(LinkFullError()))
    assert len(events) == 1


@pytest.mark.parametrize("error", [ValueError("x"), ResponseError("ERR Error compiling script")])
def test_a_mistake_of_ours_has_its_traceback_as_seldom(
    refusals: Refusals, error: Exception, logged_failures: LoggedFailures
) -> None:
    for _ in range(3):
        refusals.refused(PUBLISHING, Failure(error))
    assert len(logged_failures.flush(type(error))) == 1
