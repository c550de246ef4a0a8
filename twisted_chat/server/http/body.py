"""The body of a request, in memory and bounded."""

from __future__ import annotations

import io
from typing import Any, Final

from twisted_chat.server.http.limits import HttpLimits, Refused, body_too_large

PIECES: Final = 64
"""Pieces that are kept until they are joined: small ones take more memory than what is in them."""

PIECE_BYTES: Final = 64
"""Bytes that a short piece takes besides what is in it."""


class BodyBuffer(io.BytesIO):
    """Where Twisted puts a body; a write past the limit raises `Refused`. `seek` before anything is read.

    What comes is kept in pieces and joined at the end: `BytesIO` would move it all for each eighth by which it grows.
    """

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__()
        self._limits = limits
        self._size = 0
        self._pieces: list[bytes] = []

    def write(self, data: Any, /) -> int:
        self._size += len(data)
        if self._size > self._limits.body_bytes:
            raise Refused(body_too_large(self._limits))
        self._pieces.append(data)
        if len(self._pieces) == PIECES:
            self._pieces = [b"".join(self._pieces)]
        return len(data)

    @property
    def held(self) -> int:
        """Bytes of memory that what has come takes."""
        return self._size + PIECE_BYTES * len(self._pieces)

    def take(self) -> bytes:
        """Return the whole body and let go of it: an answer may take long, and needs the memory no more."""
        if self._pieces:
            self.seek(0)  # which joins them
        body = self.getvalue()
        self.close()
        return body

    def tell(self) -> int:
        return self._size if self._pieces else super().tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if self._pieces:
            super().__init__(b"".join(self._pieces))
            self._pieces.clear()
        return super().seek(offset, whence)
