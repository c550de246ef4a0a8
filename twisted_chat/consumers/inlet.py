"""The way of one client's events into the queue: in order, each once; at a full one the client waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.queue import Queue, Taken

AT_ONCE: Final = 32
"""Events that are put into the queue together."""

RETRY: Final = 0.2
"""Seconds until a queue that could not be reached is tried again."""


class Inlet:
    """What is not in the queue yet: bounded by what the transport had read when it was paused.

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
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        lost: Callable[[], None],
        empty: Callable[[Inlet], None],
    ) -> None:
        self._reactor: Final = reactor
        self._queue: Final = queue
        self._connection: Final = connection
        self._pause: Final = pause
        self._resume: Final = resume
        self._lost: Final = lost
        self._empty: Final = empty
        self._events: deque[Event] = deque()
        self._first = 0
        self._running: Deferred[None] | None = None
        self._until: Deferred[None] | None = None
        self._ending = False
        self._closed = False

    @property
    def taken(self) -> int:
        """How many events are in the queue, or were."""
        return self._first

    @property
    def paused(self) -> bool:
        """Whether nothing more is read from the client, for want of room."""
        return self._until is not None and not self._ending

    @property
    def next(self) -> int:
        """The number of the next event."""
        return self._first + len(self._events)

    def put(self, event: Event, *, last: bool = False) -> None:
        """The next one. After the last one the client is gone: what is left is not held back any more."""
        if self._closed:
            return
        self._events.append(event)
        if last:
            self._ending = True
            if self._until is not None:
                self._until.cancel()
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._failed).addBoth(self._ran)

    def close(self) -> None:
        """Give up; what is not in the queue is lost."""
        self._closed = True
        self._events.clear()
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while self._events and not self._closed:
            some = [self._events[i] for i in range(min(AT_ONCE, len(self._events)))]
            try:
                taken = await self._queue.enqueue(self._connection, self._first, some)
            except NotReadyError:
                await self._paused(deferLater(self._reactor, RETRY))
            else:
                await self._took(taken)

    async def _took(self, taken: Taken) -> None:
        if not taken.known:
            self._closed = True
            self._events.clear()
            self._lost()
            return
        for _ in range(min(taken.count, len(self._events))):
            self._events.popleft()
            self._first += 1
        if taken.count and self._ending:
            return
        if not taken.room:
            await self._paused(self._queue.room(self._connection))

    async def _paused(self, until: Deferred[None]) -> None:
        self._pause()
        self._until = until
        try:
            await until
        except CancelledError:
            if self._closed:
                raise
        finally:
            self._until = None
        self._resume()

    def _ran(self, _: object) -> None:
        self._running = None
        self._empty(self)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the events of {connection} got stuck", failure, connection=self._connection)
            self._closed = True
            self._events.clear()
            self._lost()
