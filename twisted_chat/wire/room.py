"""The room protocol: JSON text, in frames or server-sent events.

A client sends ``{"handle", "message"[, "key"]}`` or ``{"handle", "typing": true}``. The server sends messages
``{"id", "timestamp", "handle", "message"[, "key"]}``, events ``{"event": …}`` to those that asked for them, and errors
``{"error": {"code", "message"[, "key"]}}``. ``docs/protocol.rst`` is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits
from twisted_chat.core.publication import Position, Publication
from twisted_chat.core.skeletons import unlike_itself
from twisted_chat.core.text import clean_handle, clean_key, clean_message
from twisted_chat.wire.json_object import JSON_TYPES, read_object

BACKSLASH: Final = ord("\\")
"""As a number: to look for one byte is a tenth of looking for bytes."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Publish(msgspec.Struct, frozen=True, gc=False):
    """A client says something. `handle` is None where it left that to its token."""

    handle: str | None
    message: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Typing:
    """A client's user is typing."""

    handle: str | None
    key: None = None


Command = Publish | Typing


class _Fields(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message as almost all are written."""

    message: str
    handle: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET


_read_fields: Final = msgspec.json.Decoder(_Fields).decode


def decode(text: bytes, limits: Limits) -> Command:
    """What a client sent. Raises `ChatError` that says what is wrong with it, with its key where that is readable."""
    try:
        return _quickly(text, limits)
    except (msgspec.MsgspecError, UnicodeDecodeError, ChatError):
        return _slowly(text, limits)


def _quickly(text: bytes, limits: Limits) -> Publish:
    """A message that is right. Whatever is raised, `_slowly` takes it, or says what is wrong with it."""
    fields = _read_fields(text)
    handle = None if fields.handle is msgspec.UNSET else clean_handle(fields.handle, limits.handle_characters)
    key = None if fields.key is msgspec.UNSET else clean_key(fields.key, limits.key_characters)
    # Of two members with one name the decoder takes the last. They show in the quotes: four for each member.
    quotes = text.count(b'"')
    if BACKSLASH in text:
        quotes = 0 if b"\\\\" in text else quotes - text.count(b'\\"')
    if quotes != 4 * (1 + (handle is not None) + (key is not None)):
        raise msgspec.ValidationError
    return Publish(handle, clean_message(fields.message, limits.message_characters), key)


def _slowly(text: bytes, limits: Limits) -> Command:
    fields = read_object(text)
    key = fields.get("key")
    try:
        return _command(fields, limits)
    except ChatError as error:
        if isinstance(key, str) and len(key) <= limits.key_characters and key.isprintable():
            error.key = key
        raise


def _command(fields: dict[str, Any], limits: Limits) -> Command:
    handle = _text(fields, "handle", Reason.BAD_HANDLE, required=False)
    if handle is not None:
        handle = clean_handle(handle, limits.handle_characters)
    if "message" not in fields and fields.get("typing") is True:
        return Typing(handle)
    message = _text(fields, "message", Reason.BAD_MESSAGE, required=True)
    assert message is not None
    message = clean_message(message, limits.message_characters)
    key = _text(fields, "key", Reason.BAD_KEY, required=False)
    return Publish(handle, message, None if key is None else clean_key(key, limits.key_characters))


def _text(fields: dict[str, Any], name: str, reason: Reason, *, required: bool) -> str | None:
    value = fields.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        what = f"is a {JSON_TYPES[type(value)]}" if name in fields else "is missing"
        raise ChatError(reason, f'"{name}" {what}; send {{"handle": "ann", "message": "hi"}}')
    return value


# What is stored


def compose(handle: str, message: str, key: str | None) -> bytes:
    """The JSON object of a publication's `data`."""
    fields = {"handle": handle, "message": message}
    if key is not None:
        fields["key"] = key
    return _json(fields)


# What is sent


def message(publication: Publication) -> bytes:
    """A publication as every member sees it."""
    at = publication.position
    return f'{{"id":"{at!s}","timestamp":"{timestamp(at.tag)}",'.encode() + publication.data[1:]


def timestamp(microseconds: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    return f"{_second(microseconds // 1_000_000)}.{str(microseconds % 1_000_000).zfill(6)}Z"


@lru_cache(maxsize=16)  # most messages are of this second
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def joined(handle: str) -> bytes:
    """Compose the event that `handle` came, with its skeleton where clients could not tell that themselves."""
    fields = {"event": "join", "handle": handle}
    if (found := unlike_itself(handle)) is not None:
        fields["skeleton"] = found
    return _json(fields)


def left(handle: str) -> bytes:
    """Someone left."""
    return _json({"event": "leave", "handle": handle})


def typing(handle: str) -> bytes:
    """Someone is typing."""
    return _json({"event": "typing", "handle": handle})


def presence(handles: Iterable[str]) -> bytes:
    """Compose the event that says who is here, with the skeletons that clients could not tell themselves."""
    members = list(handles)
    fields: dict[str, object] = {"event": "presence", "members": members}
    if skeletons := {handle: found for handle in members if (found := unlike_itself(handle)) is not None}:
        fields["skeletons"] = skeletons
    return _json(fields)


def ready(position: Position, handle: str | None, *, writable: bool, limits: Limits) -> bytes:
    """Compose the event that history is through, with what a client has to know of itself and of the server."""
    fields = {
        "event": "ready",
        "position": str(position),
        "handle": handle,
        "writable": writable,
        "limits": {name: getattr(limits, name) for name in TOLD_LIMITS},
    }
    return _json(fields)


TOLD_LIMITS: Final = ("history_page", "message_characters", "handle_characters", "key_characters")
"""Those of `Limits` that a client needs: how many messages come at once, and how long texts may be."""


def heartbeat(seconds: float) -> bytes:
    """The connection lives; so long after this another one follows. Scripts in a browser do not see pings."""
    return _json({"event": "heartbeat", "seconds": seconds})


def reset(position: Position) -> bytes:
    """Something may be missing before `position`."""
    return _json({"event": "reset", "position": str(position)})


def error(refused: ChatError) -> bytes:
    """Why something was refused."""
    fields = {"code": refused.reason.code, "message": refused.message}
    if refused.key is not None:
        fields["key"] = refused.key
    return _json({"error": fields})


_json: Final = msgspec.json.Encoder().encode
