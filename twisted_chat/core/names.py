"""What a room name is, and how it stands in a URL."""

from __future__ import annotations

import unicodedata
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from twisted_chat.core.errors import ChatError, Reason

DEFAULT_ROOM: Final = "lobby"
LONGEST: Final = 128


def room_from_path(path: bytes) -> str:
    """The room that the rest of a URL's path names (after ``/chat``, before ``?``).

    Percent-decoded as UTF-8, normalised to NFC, outer slashes removed; empty means ``lobby``. Raises `ChatError`
    (`Reason.BAD_ROOM`) with what is wrong.
    """
    try:
        name = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("the room name in the URL is not percent-encoded UTF-8") from None
    return room_name(name)


def room_name(name: str) -> str:
    """The same for a name that is text already, as in a configuration or a command line."""
    name = unicodedata.normalize("NFC", name).strip("/")
    if not name:
        return DEFAULT_ROOM
    if len(name) > LONGEST:
        raise _bad(f"a room name may have {LONGEST} characters, this one has {len(name)}")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise _bad("a room name may not contain control characters")
    if any(segment in {"", ".", ".."} for segment in name.split("/")):
        # "." and ".." never reach a server from a browser: it resolves them first.
        raise _bad("no part of a room name between slashes may be empty, '.' or '..'")
    return name


def room_path(name: str) -> str:
    """The rest of the URL's path that leads to a room: the inverse of `room_from_path`."""
    return quote(name, safe="/")


def _bad(message: str) -> ChatError:
    return ChatError(Reason.BAD_ROOM, message)
