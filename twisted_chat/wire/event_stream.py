"""Server-sent events, as in the HTML standard, section 9.2 "Server-sent events"."""

from __future__ import annotations

from typing import Final

COMMENT: Final = b":\n\n"
"""An empty comment: keeps a silent connection open through whatever stands between."""


def event(data: bytes, *, name: bytes = b"", position: bytes = b"") -> bytes:
    """One event. `data` is JSON on one line; `name` is empty for what reaches ``onmessage``; `position` becomes the
    client's ``Last-Event-ID``. None of them contains a line break."""
    head = b""
    if name:
        head += b"event: %b\n" % name
    if position:
        head += b"id: %b\n" % position
    return b"%bdata: %b\n\n" % (head, data)


def bookmark(position: bytes) -> bytes:
    """Sets the client's ``Last-Event-ID`` without an event: it can come back to here before anything was said."""
    return b"id: %b\n\n" % position


def retry(seconds: float) -> bytes:
    """How long the client is to wait before it comes back."""
    return b"retry: %d\n\n" % round(seconds * 1000)
