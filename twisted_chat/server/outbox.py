"""What is written to one connection: in order, bounded, and cut off with a reason when its client does not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from twisted_chat.direct import SocketTransport

HANDED_BYTES: Final = 64 * 1024
"""Bytes that are joined for a transport that takes some again: as many as it holds before it calls itself full."""


class Owner(Protocol):
    """What an outbox asks and tells."""

    def held_bytes(self) -> int:
        """Return the bytes that the transport has been given and still holds."""

    def grew(self, size: int) -> None:
        """More bytes wait than before, by at most `size`."""

    def too_slow(self) -> None:
        """More than may wait has waited. All of it is dropped, and nothing more taken."""

    def drained(self) -> None:
        """A transport that was full takes bytes again, and nothing waits."""


class _Nobody:
    """In place of the owner of an outbox that is closed."""

    def held_bytes(self) -> int:
        return 0

    def grew(self, size: int) -> None:
        """Nothing waits here."""

    def too_slow(self) -> None:
        """Nobody is to be sent away."""

    def drained(self) -> None:
        """Nobody has more to write."""


_NOBODY: Final = _Nobody()


@implementer(IPushProducer)
class Outbox:
    """Passes bytes on while the transport takes them, and keeps them while it does not.

    A `direct.Outlet`: set `direct` where bytes need not pass here while the transport holds none; `close` unsets it.

    Register it with the transport as a streaming producer. What waits here and in the transport together may be
    `limit` bytes; beyond that everything waiting is dropped, nothing more is taken, and the owner's `too_slow` is
    called once, in another turn of the reactor. Whatever is written at once counts only when the transport is full: a
    frame of any size has its place where nothing waits. Frames are passed on whole.
    """

    __slots__ = ("_closed", "_full", "_limit", "_owner", "_reactor", "_waiting", "_write", "backlog", "direct")

    def __init__(self, reactor: IReactorTime, write: Callable[[bytes], object], limit: int, owner: Owner) -> None:
        self._reactor: Final = reactor
        self._write = write
        self._limit: Final = limit
        self._owner = owner
        self._full = False
        self._closed = False
        self._waiting: deque[bytes] | None = None  # most never need one
        self.direct: SocketTransport | None = None
        self.backlog = 0
        """Bytes that wait here, behind those that the transport holds."""

    def write(self, data: bytes) -> None:
        """Send `data` after what was written before."""
        if self._closed:
            return
        if not self._full:
            self._write(data)
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(data)
        self.backlog += len(data)
        if self.backlog + self._owner.held_bytes() > self._limit:
            self.give_up()
        else:
            self._owner.grew(len(data))

    def writable(self) -> bool:
        """Whether the transport takes bytes now."""
        return not self._full and not self._closed

    def flush(self) -> None:
        """Hand everything that waits to the transport, full or not: the end of the connection follows."""
        waiting, self._waiting, self.backlog = self._waiting, None, 0
        if waiting:
            self._write(b"".join(waiting))

    def give_up(self) -> None:
        """Forget what waits, take nothing more, and have the client sent away."""
        if not self._closed:
            self._reactor.callLater(0, self._owner.too_slow)
            self.close()

    def close(self) -> None:
        """Take nothing more, forget what waits."""
        self._closed = True
        self.direct = None
        self._waiting = None
        self.backlog = 0
        # Those who are told have this outbox: what refers back would outlive the connection.
        self._write = _ignore
        self._owner = _NOBODY

    def pauseProducing(self) -> None:
        self._full = True
        self._owner.grew(self._owner.held_bytes())

    def resumeProducing(self) -> None:
        if not self._full:
            return
        self._full = False
        self._hand_on()
        if self.writable():
            self._owner.drained()

    def _hand_on(self) -> None:
        """Give the transport what waits until it is full again."""
        while self._waiting and not self._full:
            size, frames = 0, []
            while self._waiting and size < HANDED_BYTES:
                frames.append(self._waiting.popleft())
                size += len(frames[-1])
            self.backlog -= size
            self._write(b"".join(frames))
        if not self._waiting:
            self._waiting = None

    def stopProducing(self) -> None:
        self.close()


def _ignore(_: bytes) -> None:
    """Write to nowhere: the outbox is closed."""
