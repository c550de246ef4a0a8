"""Bytes that wait for flow control: pushed in any sizes, taken in frames."""

from __future__ import annotations

from collections import deque


class SendQueue:
    """First in, first out; each byte is copied once, however the pieces are cut."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0

    def push(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)

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
        self.size -= most - left
        return b"".join(taken)

    def clear(self) -> None:
        self._pieces.clear()
        self.size = 0
