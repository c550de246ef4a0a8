"""Bytes that wait for flow control: pushed in any sizes, taken in frames."""

from __future__ import annotations

from collections import deque

from twisted_chat.server.http.http2.backlog import Backlog


class SendQueue:
    """First in, first out; each byte is copied once, however the pieces are cut.

    backlog
        of its connection, in which it counts
    """

    __slots__ = ("_backlog", "_pieces", "size", "taken")

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0
        self.taken = 0
        """Bytes that were taken out so far."""

    def push(self, data: bytes) -> None:
        self._pieces.append(data)
        self._grow(len(data))

    def take(self, most: int) -> bytes:
        """Remove and return the first bytes, up to `most`; small pieces are joined."""
        taken: list[bytes | memoryview] = []
        left = most
        while self._pieces and left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                view = memoryview(piece)
                self._pieces.appendleft(view[left:])
                piece = view[:left]
            taken.append(piece)
            left -= len(piece)
        self._grow(left - most)
        self.taken += most - left
        return b"".join(taken)

    def clear(self) -> None:
        self._pieces.clear()
        self._grow(-self.size)

    def _grow(self, by: int) -> None:
        self.size += by
        self._backlog.size += by
