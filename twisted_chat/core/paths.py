"""The canonical form of a URL's path: one spelling of each, so that a rule of a proxy sees what the server sees."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_PLAIN: Final = re.compile(rb"/|(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
"""Almost all paths that are asked for. They are canonical, and this says so in a microsecond."""

_AS_IT_IS: Final = "/!$&'()*+,;=:@"
"""RFC 3986 section 3.3: what may stand in a path without encoding, besides letters, digits and ``-._~``."""

_EITHER: Final = re.compile(rb"%(?:2[1246-9A-C]|3[A-E]|40|5[BDE]|60|7[B-D])")
"""Encodings of ASCII signs that some clients encode and others do not, as ``:``: ``encodeURIComponent`` does it, and a
browser's address bar does not. Not among them: ``/``, ``\\``, ``%``, ``?``, ``#``, and what nobody has to encode."""


def other_spelling(path: bytes) -> bytes | None:
    """Return the canonical form of `path`, which begins with a slash, if `path` is another spelling of it, else None.

    In a canonical path only the last segment may be empty, and percent-encodings are of UTF-8 in NFC, in upper case,
    and of characters that need one. Signs such as ``:`` may be encoded or not. Raises `ValueError` for a path that has
    no such form: one with dot segments, control characters, or what is no UTF-8.
    """
    if _PLAIN.fullmatch(path):
        return None
    canonical = _canonical(path)
    return None if _decoded(path) == _decoded(canonical) else canonical


def is_canonical(path: bytes) -> bool:
    """Return whether `path` is spelled as `other_spelling` has it."""
    try:
        return other_spelling(path) is None
    except ValueError:
        return False


def _canonical(path: bytes) -> bytes:
    text = unicodedata.normalize("NFC", unquote_to_bytes(path).decode("utf-8"))
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("a path may not contain control characters")
    *segments, last = text.split("/")
    segments = [segment for segment in segments if segment]
    if {".", ".."} & {*segments, last}:
        raise ValueError("no part of a path between slashes may be '.' or '..'")
    return quote("/".join(["", *segments, last]), safe=_AS_IT_IS).encode("ascii")


def _decoded(path: bytes) -> bytes:
    return _EITHER.sub(lambda match: unquote_to_bytes(match[0]), path)
