"""The claims of a token (RFC 7519) as an `Identity`.

sub
    the user, 1 to 128 characters; required
exp
    when it expires; without it, never
nbf, iat
    not before, issued at: 30 seconds ahead of our clock are let pass, as clocks differ
aud
    must be, or contain, the audience of this server, if it has one; else the token may not have one either
info
    an object; its `handle` is what the user publishes under. Without it, `sub`, if that is a handle
rooms
    ``{"read": [patterns], "write": [patterns]}``. Without it, every room may be read and written. With it, what is not
    listed is not allowed: writing does not include reading
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.permissions import EVERY_ROOM, Identity, Patterns
from twisted_chat.core.text import clean_handle

LONGEST_USER: Final = 128
CLOCK_SKEW: Final = 30.0
"""Seconds by which `nbf` and `iat` may lie ahead. `exp` gets none: it is when sessions end, too."""

_YEAR_10000: Final = 253_402_300_800
_NOT_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Claims = Mapping[str, object]


def identity(claims: Claims, now: float, audience: str | None = None) -> Identity:
    """Who these claims are about, at `now` (Unix seconds).

    Raises `ChatError` (`Reason.TOKEN_INVALID` or `Reason.TOKEN_EXPIRED`) that names the claim.
    """
    expires = _times(claims, now)
    _check_audience(claims, audience)
    user = _user(claims)
    read, write = _rooms(claims)
    return Identity(user=user, handle=_handle(claims, user), expires=expires, read=read, write=write)


def invalid(message: str) -> ChatError:
    """The refusal of a token."""
    return ChatError(Reason.TOKEN_INVALID, message)


def _wrong(claim: str, right: str) -> ChatError:
    return invalid(f"the claim {claim} of the token must be {right}")


def _times(claims: Claims, now: float) -> float | None:
    for claim in ("nbf", "iat"):
        begins = _time(claims, claim)
        if begins is not None and begins > now + CLOCK_SKEW:
            raise invalid(f"the token is not valid yet: its claim {claim} is {begins - now:.0f} seconds in the future")
    expires = _time(claims, "exp")
    if expires is not None and expires <= now:
        raise ChatError(Reason.TOKEN_EXPIRED, f"the token expired {now - expires:.0f} seconds ago; get a new one")
    return expires


def _time(claims: Claims, claim: str) -> float | None:
    if claim not in claims:
        return None
    value = claims[claim]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _YEAR_10000:
        raise _wrong(claim, "a number of seconds (not milliseconds) since 1970")
    return float(value)


def _check_audience(claims: Claims, audience: str | None) -> None:
    if "aud" not in claims:
        if audience is not None:
            raise invalid("the token has no claim aud, which must name this server")
        return
    value = claims["aud"]
    named = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in named):
        raise _wrong("aud", "text or a list of texts")
    if audience is None or audience not in named:
        # RFC 7519 section 4.1.3: who is not named must refuse it.
        raise invalid("the token is for another audience: its claim aud does not name this server")


def _user(claims: Claims) -> str:
    user = claims.get("sub")
    if not isinstance(user, str) or not 0 < len(user) <= LONGEST_USER or _NOT_TEXT.search(user):
        raise _wrong("sub", f"text of 1 to {LONGEST_USER} characters without control characters")
    return user


def _handle(claims: Claims, user: str) -> str | None:
    info = claims.get("info", {})
    if not isinstance(info, dict):
        raise _wrong("info", "an object")
    if "handle" not in info:
        try:
            return clean_handle(user)
        except ChatError:
            return None
    handle = info["handle"]
    if not isinstance(handle, str):
        raise _wrong("info.handle", "text")
    try:
        return clean_handle(handle)
    except ChatError as error:
        raise invalid(f"the claim info.handle of the token is no handle: {error.message}") from None


def _rooms(claims: Claims) -> tuple[Patterns, Patterns]:
    if "rooms" not in claims:
        return EVERY_ROOM, EVERY_ROOM
    rooms = claims["rooms"]
    if not isinstance(rooms, dict):
        raise _wrong("rooms", 'an object: {"read": [...], "write": [...]}')
    return _patterns(rooms, "read"), _patterns(rooms, "write")


def _patterns(rooms: dict[str, object], what: str) -> Patterns:
    texts = rooms.get(what, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _wrong(f"rooms.{what}", "a list of room patterns")
    try:
        return Patterns(texts)
    except ValueError as error:
        raise invalid(f"the claim rooms.{what} of the token is wrong: {error}") from None
