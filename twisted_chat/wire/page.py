"""An answer from a room's history: at once as JSON, or piece by piece where it is long."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from twisted_chat.core.publication import Position, Publication
from twisted_chat.wire.room import message

_BEGIN: Final = b'{"messages":['


class Page(Struct, frozen=True, gc=False):
    """``{"messages": […], "position", "complete", "more"}``."""

    publications: tuple[Publication, ...]
    position: Position
    complete: bool
    more: bool

    def text(self) -> bytes:
        """Compose all of it."""
        return b"%b%b%b" % (_BEGIN, b",".join(map(message, self.publications)), self._end())

    def data_size(self) -> int:
        """Return how many bytes the publications have: nearly all of a page that is long."""
        return sum([len(publication.data) for publication in self.publications])

    def size(self) -> int:
        """Return how many bytes `text` has."""
        return (
            len(_BEGIN)
            + sum(_AROUND_DATA + len(str(publication.position)) for publication in self.publications)
            + self.data_size()
            + max(0, len(self.publications) - 1)
            + len(self._end())
        )

    def pieces(self, size: int) -> Iterator[bytes]:
        """Compose it piece by piece, each of at least `size` bytes but for the last one.

        A publication is let go of when its piece is made.
        """
        # A generator keeps its arguments, `self` among them, until it ends.
        return _pieces(deque(self.publications), self._end(), size)

    def _end(self) -> bytes:
        return b'],"position":"%b","complete":%b,"more":%b}' % (
            str(self.position).encode(),
            b"true" if self.complete else b"false",
            b"true" if self.more else b"false",
        )


def _pieces(publications: deque[Publication], end: bytes, size: int) -> Iterator[bytes]:
    parts, length = [_BEGIN], len(_BEGIN)
    while publications:
        parts.append(message(publications.popleft()))
        length += len(parts[-1])
        if publications:
            parts.append(b",")
            length += 1
        if length >= size:
            piece = b"".join(parts)
            parts, length = [], 0
            yield piece
            del piece
    parts.append(end)
    yield b"".join(parts)


_NOTHING: Final = Publication(Position("", 0, 0), 0, b"{}")

_AROUND_DATA: Final = len(message(_NOTHING)) - len(str(_NOTHING.position)) - len(_NOTHING.data)
"""Bytes that a message has beside the position and the data of its publication."""
