"""The query of a room URL: from where, how much, and what besides messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits
from twisted_chat.core.publication import Before, Newest, Position, Question, Since
from twisted_chat.core.text import clean_handle
from twisted_chat.wire.formats import Event

DEFAULT_PAGE: Final = 50

LAST_EVENT_ID: Final = ("lastEventId", "lastEventID", "last-event-id", "Last-Event-ID")
"""How the query names the last event: polyfills of EventSource, Mercure, and drafts of both."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client that connects asks for: ``since``, ``history``, ``events`` and ``handle``."""

    since: Position | None = None
    newest: int = 0
    events: frozenset[Event] = frozenset()
    handle: str | None = None


def wish(query: Mapping[str, str], limits: Limits, last_event_id: str | None = None) -> Wish:
    """From the query of a room socket or an event stream; raises `ChatError`.

    `last_event_id`, which a browser sends when it reconnects an event stream, is newer than the URL's ``since``. What
    cannot send header fields, such as a polyfill of EventSource or a client of Mercure, puts it into the query.
    """
    handle = query.get("handle")
    if not last_event_id:
        last_event_id = next((query[name] for name in LAST_EVENT_ID if query.get(name)), None)
    return Wish(
        since=_position("Last-Event-ID", last_event_id) or _position("since", query.get("since")),
        newest=_count("history", query.get("history", "0"), 0, limits.history_page),
        events=_events(query.get("events", "")),
        handle=None if handle is None else clean_handle(handle, limits.handle_characters),
    )


def question(query: Mapping[str, str], limits: Limits) -> Question:
    """From the query of a history request: ``since`` or ``before``, and ``limit``; raises `ChatError`."""
    limit = _count("limit", query.get("limit", str(DEFAULT_PAGE)), 1, limits.history_page)
    since = _position("since", query.get("since"))
    before = _position("before", query.get("before"))
    if since is not None and before is not None:
        raise ChatError(Reason.BAD_REQUEST, "give either since or before, not both")
    if since is not None:
        return Since(since, limit)
    return Newest(limit) if before is None else Before(before, limit)


def _position(name: str, text: str | None) -> Position | None:
    if not text:
        return None
    position = Position.parse(text)
    if position is None:
        raise ChatError(Reason.BAD_REQUEST, f"{name}={text[:80]!r} is not the id of a message")
    return position


def _count(name: str, text: str, least: int, most: int) -> int:
    """Whoever asks for more than `most` gets that many: a client need not know the server's settings."""
    if text.isascii() and text.isdigit():
        count = most if len(text) > 9 else int(text)
        if count >= least:
            return min(count, most)
    raise ChatError(Reason.BAD_REQUEST, f"{name}={text[:80]!r} is not a number from {least} up")


def _events(text: str) -> frozenset[Event]:
    try:
        return frozenset(Event(name.strip()) for name in text.split(",") if name.strip())
    except ValueError:
        known = ", ".join(event.value for event in Event)
        raise ChatError(Reason.BAD_REQUEST, f"events={text[:80]!r}: choose from {known}") from None
