"""What is written to one connection: in order, bounded, and cut off with a reason when its client does not read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from twisted_chat.direct import SocketTransport


@implementer(IPushProducer)
class Outbox:
    """Passes bytes on while the transport takes them, and keeps up to `limit` bytes while it does not.

    A `direct.Outlet`: set `direct` where bytes need not pass here while the transport holds none; `close` unsets it.

    Register it with the transport as a streaming producer. Beyond `limit` everything waiting is dropped, nothing more
    is taken, and `too_slow` is called once, in another turn of the reactor; `drained` is called when a transport that
    was full takes bytes again.
    """

    __slots__ = (
        "_closed",
        "_drained",
        "_full",
        "_limit",
        "_reactor",
        "_too_slow",
        "_waiting",
        "_write",
        "backlog",
        "direct",
    )

    def __init__(
        self,
        reactor: IReactorTime,
        write: Callable[[bytes], object],
        limit: int,
        *,
        too_slow: Callable[[], None],
        drained: Callable[[], None],
    ) -> None:
        self._reactor: Final = reactor
        self._write = write
        self._limit: Final = limit
        self._too_slow = too_slow
        self._drained = drained
        self._full = False
        self._closed = False
        self._waiting: list[bytes] = []
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
        self._waiting.append(data)
        self.backlog += len(data)
        if self.backlog > self._limit:
            self._reactor.callLater(0, self._too_slow)
            self.close()

    def writable(self) -> bool:
        """Whether the transport takes bytes now."""
        return not self._full and not self._closed

    def flush(self) -> None:
        """Hand everything that waits to the transport, full or not: the end of the connection follows."""
        waiting, self._waiting, self.backlog = self._waiting, [], 0
        if waiting:
            self._write(b"".join(waiting))

    def close(self) -> None:
        """Take nothing more, forget what waits."""
        self._closed = True
        self.direct = None
        self._waiting = []
        self.backlog = 0
        # Those who are told have this outbox: what refers back would outlive the connection.
        self._write = self._too_slow = self._drained = _nobody

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        if not self._full:
            return
        self._full = False
        self.flush()
        if self.writable():
            self._drained()

    def stopProducing(self) -> None:
        self.close()


def _nobody(*_: object) -> None:
    """Who is told by an outbox that is closed."""
