from __future__ import annotations

import copy
import pickle
import re
from http import HTTPStatus

import pytest

from twisted_chat.core.errors import ChatError, Reason

REASONS = pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)


@REASONS
def test_a_code_is_the_name_in_lower_case(reason: Reason) -> None:
    assert reason.code == reason.name.lower()
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason.code)


@REASONS
def test_a_reason_is_found_by_its_code(reason: Reason) -> None:
    assert Reason(reason.code) is reason  # type: ignore[call-arg]  # mypy takes it for __new__
    assert pickle.loads(pickle.dumps(reason)) is reason


def test_no_reason_is_another_name_of_another() -> None:
    assert len(Reason) == len(Reason.__members__)


@REASONS
def test_a_close_code_may_stand_in_a_close_frame(reason: Reason) -> None:
    # 1004 to 1006 and 1015 must not be sent (RFC 6455 section 7.4.1); 1012 to 1014 were registered later.
    assert reason.close in {1001, 1003, 1007, 1008, 1009, 1011, 1013} or 3000 <= reason.close <= 4999


@REASONS
def test_a_status_says_that_something_was_refused(reason: Reason) -> None:
    assert HTTPStatus(reason.http) >= 400


@REASONS
def test_coming_back_unchanged_helps_against_limits_and_the_servers_own_troubles(reason: Reason) -> None:
    expected = reason.http == 429 or (reason.http >= 500)
    assert reason.reconnect is expected


def test_an_error_has_a_reason_and_a_message() -> None:
    error = ChatError(Reason.BAD_ROOM, "no such name")
    assert error.reason is Reason.BAD_ROOM
    assert error.message == str(error) == "no such name"


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_can_be_copied_and_sent_to_another_process(again: object) -> None:
    assert callable(again)
    error = again(ChatError(Reason.TOO_SLOW, "too slow"))
    assert isinstance(error, ChatError)
    assert (error.reason, error.message, str(error)) == (Reason.TOO_SLOW, "too slow", "too slow")
