"""The way of one client's events into the queue: in order, each once; at a full one the client waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.queue import Queue, QueueLimits, Taken

AT_ONCE: Final = 32
"""Events that are put into the queue together."""

AT_ONCE_BYTES: Final = 64 << 10
"""What they take in memory together, unless one alone takes more."""

RETRY: Final = 0.2
"""Seconds until a queue that could not be reached is tried again."""


class Kept:
    """What all clients of this process have sent that is not in the queue yet."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits: Final = limits
        self.bytes = 0
        """What it takes in memory."""

    @property
    def full(self) -> bool:
        return self.bytes >= self.limits.bytes_in_all


class Inlet:
    """What is not in the queue yet. The client waits while the queue has no room for it, or too much is here.

    Too much is `QueueLimits.bytes_per_connection` until half of that is in the queue, and anything at all while there
    is too much of all clients together. A client that was told to wait adds nothing more.

    kept
        what is here of all clients
    pause, resume
        stop and go on reading from the client
    lost
        the queue does not know this connection any more
    empty
        is called with it each time that everything has been taken
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        queue: Queue,
        connection: str,
        kept: Kept,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        lost: Callable[[], None],
        empty: Callable[[Inlet], None],
    ) -> None:
        self._reactor: Final = reactor
        self._queue: Final = queue
        self._connection: Final = connection
        self._kept: Final = kept
        self._pause: Final = pause
        self._resume: Final = resume
        self._lost: Final = lost
        self._empty: Final = empty
        self._events: deque[tuple[Event, int]] = deque()
        """Each with the bytes that it takes."""
        self._bytes = 0
        self._first = 0
        self._running: Deferred[None] | None = None
        self._until: Deferred[None] | None = None
        self._held = False
        self._ending = False
        self._closed = False

    @property
    def taken(self) -> int:
        """How many events are in the queue, or were."""
        return self._first

    @property
    def paused(self) -> bool:
        """Whether nothing more is read from the client, for want of room."""
        return self._held and not self._ending

    @property
    def next(self) -> int:
        """The number of the next event."""
        return self._first + len(self._events)

    def put(self, event: Event, *, last: bool = False) -> None:
        """The next one. After the last one the client is gone: what is left is not held back any more."""
        if self._closed:
            return
        size = event.kept_bytes()
        self._events.append((event, size))
        self._bytes += size
        self._kept.bytes += size
        if last:
            self._ending = True
            if self._until is not None:
                self._until.cancel()
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._failed).addBoth(self._ran)
        self._hold_or_not()

    def close(self) -> None:
        """Give up; what is not in the queue is lost."""
        self._give_up()
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while self._events and not self._closed:
            try:
                taken = await self._queue.enqueue(self._connection, self._first, self._some())
            except NotReadyError:
                await self._wait(deferLater(self._reactor, RETRY))
            else:
                await self._took(taken)

    def _some(self) -> list[Event]:
        """The first ones, as many as are put into the queue together."""
        some: list[Event] = []
        size = 0
        for event, each in islice(self._events, AT_ONCE):
            size += each
            if some and size > AT_ONCE_BYTES:
                break
            some.append(event)
        return some

    async def _took(self, taken: Taken) -> None:
        if not taken.known:
            self._give_up()
            self._lost()
            return
        for _ in range(min(taken.count, len(self._events))):
            self._first += 1
            self._forget(self._events.popleft()[1])
        if taken.count and self._ending:
            return
        if not taken.room:
            await self._wait(self._queue.room(self._connection))
        elif self._held:
            self._hold_or_not()

    # Holding the client back

    async def _wait(self, until: Deferred[None]) -> None:
        self._until = until
        self._hold_or_not()
        try:
            await until
        except CancelledError:
            if self._closed:
                raise
        finally:
            self._until = None
        self._hold_or_not()

    def _hold_or_not(self) -> None:
        hold = self._until is not None or self._too_much()
        if hold != self._held:
            self._held = hold
            (self._pause if hold else self._resume)()

    def _too_much(self) -> bool:
        most = self._kept.limits.bytes_per_connection
        if self._bytes > (most // 2 if self._held else most):
            return True
        return self._bytes > 0 and self._kept.full

    # The end

    def _give_up(self) -> None:
        self._closed = True
        self._events.clear()
        self._forget(self._bytes)

    def _forget(self, size: int) -> None:
        self._bytes -= size
        self._kept.bytes -= size

    def _ran(self, _: object) -> None:
        self._running = None
        self._empty(self)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the events of {connection} got stuck", failure, connection=self._connection)
            self._give_up()
            self._lost()
