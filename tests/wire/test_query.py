"""The query of a room URL."""

from __future__ import annotations

import pytest

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits
from twisted_chat.core.publication import Before, Newest, Position, Since
from twisted_chat.wire import query
from twisted_chat.wire.formats import Event

LIMITS = Limits()
ID = "kQ3x-17-1763796000123456"
POSITION = Position("kQ3x", 17, 1763796000123456)


def test_nothing_asked_for_is_live_messages_only() -> None:
    assert query.wish({}, LIMITS) == query.Wish()


def test_everything_at_once() -> None:
    wish = query.wish(
        {"since": ID, "history": "20", "events": "presence,typing,ready,heartbeat", "handle": " ann "}, LIMITS
    )
    assert wish == query.Wish(POSITION, 20, frozenset(Event), "ann")


def test_a_reconnecting_event_stream_knows_better_than_its_url() -> None:
    assert query.wish({"since": "old-1-1"}, LIMITS, last_event_id=ID).since == POSITION


@pytest.mark.parametrize("name", query.LAST_EVENT_ID)
def test_the_last_event_may_be_in_the_query(name: str) -> None:
    assert query.wish({"since": "old-1-1", name: ID}, LIMITS).since == POSITION
    assert query.wish({name: "old-1-1"}, LIMITS, last_event_id=ID).since == POSITION
    assert query.wish({"since": ID, name: ""}, LIMITS).since == POSITION
    with pytest.raises(ChatError):
        query.wish({name: "yesterday"}, LIMITS)


def test_an_empty_since_is_none() -> None:
    assert query.wish({"since": ""}, LIMITS, last_event_id="").since is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"since": "yesterday"}, "since='yesterday' is not the id of a message"),
        ({"history": "-1"}, "history='-1' is not a number from 0 up"),
        ({"history": "٣"}, "is not a number"),
        ({"events": "presence,music"}, "choose from presence, typing, ready, heartbeat"),
    ],
)
def test_a_wrong_wish_is_named(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(ChatError) as caught:
        query.wish(given, LIMITS)
    assert caught.value.reason is Reason.BAD_REQUEST
    assert complaint in caught.value.message


@pytest.mark.parametrize("many", ["201", "9" * 9, "1" * 10, "9" * 5000])
def test_more_than_a_page_is_a_page(many: str) -> None:
    assert query.wish({"history": many}, LIMITS).newest == LIMITS.history_page
    assert query.question({"limit": many}, LIMITS) == Newest(LIMITS.history_page)


def test_a_handle_is_checked() -> None:
    with pytest.raises(ChatError) as caught:
        query.wish({"handle": "a\nb"}, LIMITS)
    assert caught.value.reason is Reason.BAD_HANDLE


@pytest.mark.parametrize(
    ("given", "question"),
    [
        ({}, Newest(50)),
        ({"limit": "200"}, Newest(200)),
        ({"since": ID, "limit": "3"}, Since(POSITION, 3)),
        ({"before": ID}, Before(POSITION, 50)),
    ],
)
def test_questions(given: dict[str, str], question: object) -> None:
    assert query.question(given, LIMITS) == question


@pytest.mark.parametrize("given", [{"limit": "0"}, {"limit": "x"}, {"since": ID, "before": ID}, {"before": "?"}])
def test_wrong_questions(given: dict[str, str]) -> None:
    with pytest.raises(ChatError) as caught:
        query.question(given, LIMITS)
    assert caught.value.reason is Reason.BAD_REQUEST
