"""Replies of Redis, cut out of a stream of bytes.

RESP 2: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

LONGEST_LINE: Final = 64 << 10
LONGEST_STRING: Final = 512 << 20
"""What Redis itself allows (``proto-max-bulk-len``)."""
DEEPEST: Final = 16
"""Arrays in arrays."""

_ERROR, _STATUS, _INTEGER, _STRING, _ARRAY = b"-+:$*"


class ReplyReader:
    """What ``hiredis.Reader`` does, for where that is not installed: `feed` it bytes, and take replies with `gets`.

    Strings and statuses are `bytes`, integers `int`, null is None, arrays are lists; errors, also those in arrays, are
    what `error` makes of their text. It goes through every byte once, however they are split.
    """

    def __init__(self, error: Callable[[str], Exception], broken: Callable[[str], Exception]) -> None:
        self._error = error
        self._broken = broken
        self._buffer = b""
        self._at = 0
        self._chunks: list[bytes] = []
        self._missing = 0
        self._open: list[tuple[list[Any], int]] = []

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._missing -= len(data)

    def gets(self) -> Any:
        """The next reply, or False when it has not come whole. Raises what `broken` makes of what is wrong."""
        if self._missing > 0:
            return False
        if self._chunks:
            self._buffer = b"".join((self._buffer[self._at :], *self._chunks))
            self._chunks.clear()
            self._at = 0
        try:
            return self._next()
        except ValueError:
            raise self._broken("what should be a number is none") from None

    def _next(self) -> Any:
        buffer, at, arrays = self._buffer, self._at, self._open
        while (end := buffer.find(b"\r\n", at)) >= 0:
            kind, line, after = buffer[at], buffer[at + 1 : end], end + 2
            value: Any
            if kind == _STRING:
                size = int(line)
                if size >= 0:
                    stop = after + size
                    if not buffer.startswith(b"\r\n", stop):
                        if len(buffer) >= stop + 2 or size > LONGEST_STRING:
                            raise self._broken(f"a string of {size} bytes does not end there")
                        return self._incomplete(at, stop + 2 - len(buffer))
                    value, after = buffer[after:stop], stop + 2
                else:
                    value = None
            elif kind == _ARRAY:
                size = int(line)
                if size > 0:
                    if len(arrays) == DEEPEST:
                        raise self._broken("arrays are nested too deep")
                    arrays.append(([], size))
                    at = after
                    continue
                value = [] if size == 0 else None
            elif kind == _INTEGER:
                value = int(line)
            elif kind == _STATUS:
                value = line
            elif kind == _ERROR:
                value = self._error(line.decode("utf-8", "replace"))
            else:
                raise self._broken(f"a reply begins with {bytes([kind])!r}")
            at = after
            while arrays:
                items, size = arrays[-1]
                items.append(value)
                if len(items) < size:
                    break
                arrays.pop()
                value = items
            else:
                self._at = at
                return value
        if len(buffer) - at > LONGEST_LINE:
            raise self._broken("a line does not end")
        return self._incomplete(at, 1)

    def _incomplete(self, at: int, missing: int) -> bool:
        self._at = at
        self._missing = missing
        return False
