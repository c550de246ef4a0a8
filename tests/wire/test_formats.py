"""The same room in both formats."""

from __future__ import annotations

import json

import pytest

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Position, Publication
from twisted_chat.wire import room
from twisted_chat.wire.formats import EVENT_STREAM, TEXT_FRAMES, Format
from twisted_chat.wire.frames import text_frame

AT = Position("e", 1, 1_763_796_000_123_456)
PUBLICATION = Publication(AT, 0, room.compose("ann", "hi\nthere", None))


def test_frames_are_the_json_in_a_frame() -> None:
    error = ChatError(Reason.RATE_LIMITED, "slower")
    assert TEXT_FRAMES.publication(PUBLICATION) == text_frame(room.message(PUBLICATION))
    assert TEXT_FRAMES.event(room.joined("ann")) == text_frame(room.joined("ann"))
    assert TEXT_FRAMES.reset(AT) == text_frame(room.reset(AT))
    assert TEXT_FRAMES.error(error) == text_frame(room.error(error))


def test_a_page_that_shows_every_frame_sees_none_when_it_becomes_live() -> None:
    assert TEXT_FRAMES.start(AT) == b""


def test_an_event_stream_names_all_but_messages() -> None:
    assert EVENT_STREAM.publication(PUBLICATION).startswith(b"id: e-1-1763796000123456\ndata: {")
    assert EVENT_STREAM.event(room.joined("ann")).startswith(b"event: event\n")
    assert EVENT_STREAM.reset(AT).startswith(b"event: event\nid: e-1-1763796000123456\n")
    assert EVENT_STREAM.error(ChatError(Reason.GOING_AWAY, "bye")).startswith(b"event: refused\n")
    assert EVENT_STREAM.start(AT) == b"id: e-1-1763796000123456\n\n"


@pytest.mark.parametrize("form", [TEXT_FRAMES, EVENT_STREAM])
def test_a_line_break_in_a_message_is_no_line_break_of_the_stream(form: Format) -> None:
    encoded = form.publication(PUBLICATION)
    line = next(part for part in encoded.split(b"\n") if b"{" in part)
    assert json.loads(line[line.index(b"{") :])["message"] == "hi\nthere"
