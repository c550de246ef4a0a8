"""API keys: what other servers show to publish under any handle and to manage rooms."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from typing import Final

from twisted_chat.auth.files import KeyFile
from twisted_chat.core.errors import ChatError, Reason

SHORTEST: Final = 16
LONGEST: Final = 1_024
MOST: Final = 256


class ApiKeys:
    """The API keys of this server, kept as digests."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    def __repr__(self) -> str:
        return f"<ApiKeys: {len(self._digests)}>"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> ApiKeys:
        """The keys in the file at `path`: one a line, without blank lines and those that begin with ``#``.

        A key has 16 to 1024 characters of ASCII without white space, so that it can stand in a header. Raises
        `KeyFileError`.
        """
        file = KeyFile.read(path)
        keys = []
        for number, line in enumerate(file.content.splitlines(), 1):
            key = line.strip()
            if not key or key.startswith(b"#"):
                continue
            if problem := _problem(key):
                file.refuse(f"has {problem} in line {number}; make a key: openssl rand -hex 32")
            keys.append(key.decode("ascii"))
        if not keys:
            file.refuse("has no API key; make one: openssl rand -hex 32")
        if len(keys) > MOST:
            file.refuse(f"has {len(keys)} API keys, and {MOST} are the most")
        file.warn_if_exposed()
        return cls(keys)

    def check(self, presented: str | None) -> None:
        """Raise `ChatError` (`Reason.API_KEY_INVALID`) unless `presented` is one of the keys.

        The time it takes tells nothing about them: it compares digests, and always all of them.
        """
        if not presented:
            raise ChatError(Reason.API_KEY_INVALID, "this needs an API key, and none was given")
        digest = _digest(presented)
        known = False
        for key in self._digests:
            known |= hmac.compare_digest(key, digest)
        if not known:
            raise ChatError(Reason.API_KEY_INVALID, "the API key is not one of this server's")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _problem(key: bytes) -> str | None:
    if len(key) < SHORTEST:
        return f"an API key of {len(key)} characters (at least {SHORTEST})"
    if len(key) > LONGEST:
        return f"an API key of {len(key)} characters (at most {LONGEST})"
    if any(not 0x21 <= byte <= 0x7E for byte in key):
        # Also a comment behind a key: it would have become part of it.
        return "white space or characters other than ASCII inside an API key"
    return None
