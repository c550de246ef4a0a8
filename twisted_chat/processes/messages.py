"""What the supervisor and its processes say to each other: a JSON object on each line, by a pipe in each direction.

The supervisor orders, with a number: ``{"order": 3, "do": "report"}``. The process answers with the number and whatever
was asked for, ``{"order": 3, ...}``, and says by itself what happens to it: ``{"say": "ready"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

LONGEST: Final = 4 << 20
"""Bytes of a line; a report has some twenty thousand."""

Message = dict[str, Any]


class BadMessageError(Exception):
    """This is not from a process of ours."""


def encode(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Raises `BadMessageError`."""
    try:
        message = json.loads(line)
    except ValueError as error:
        raise BadMessageError(str(error)) from None
    if not isinstance(message, dict):
        raise BadMessageError("not an object")
    return message


class Lines:
    """Bytes as they come, cut into lines. One that is longer than `longest` is cut up."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest: Final = longest
        self._rest = b""

    def add(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from lines
        while len(self._rest) > self._longest:
            yield self._rest[: self._longest]
            self._rest = self._rest[self._longest :]
