"""Server-sent events, read back by the rules of the HTML standard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.wire import event_stream

LINE = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029")).map(str.encode)


def read(stream: bytes) -> list[tuple[str, str, str]]:
    """Events as (type, data, last event id): the standard's "interpreting an event stream"."""
    events: list[tuple[str, str, str]] = []
    data: list[str] = []
    last_id = name = ""
    for line in stream.decode().split("\n"):
        if not line:
            if data:
                events.append((name or "message", "\n".join(data), last_id))
            name = ""
            data.clear()
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
    if last_id and not events:
        events.append(("", "", last_id))
    return events


@given(LINE.filter(bool), LINE)
def test_a_reader_finds_data_and_position(data: bytes, position: bytes) -> None:
    assert read(event_stream.event(data, position=position)) == [("message", data.decode(), position.decode())]


def test_a_named_event_has_its_name() -> None:
    assert read(event_stream.event(b"{}", name=b"event")) == [("event", "{}", "")]


def test_a_bookmark_sets_the_position_without_an_event() -> None:
    assert read(event_stream.bookmark(b"e-1-2")) == [("", "", "e-1-2")]
    assert b"data" not in event_stream.bookmark(b"e-1-2")


def test_comments_are_no_events() -> None:
    assert read(event_stream.COMMENT) == []


def test_retry_is_in_milliseconds() -> None:
    assert event_stream.retry(1.25) == b"retry: 1250\n\n"
