"""A relay within one process whose publications outlive it, in an SQLite database."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Published, Question
from twisted_chat.relay.interface import HistoryLimits, RelayError, RelayEvents, Trouble, Troubles, Usage, WhenFull
from twisted_chat.relay.presence import NOT_RUNNING, LocalPresence, refused
from twisted_chat.relay.sqlite.database import MAX_BYTES, ChatDatabase, Draft
from twisted_chat.relay.sqlite.thread import DatabaseThread, IRelayReactor, QueueLimits

SWEEP_SECONDS: Final = 60.0
READY_SECONDS: Final = 5.0


class SqliteRelay(LocalPresence):
    """See `relay.interface.Relay`. It runs once: after `stop` make another.

    Its file is at most `max_bytes` large, its write-ahead log some 16 MiB beside it. When publications do not fit they
    are refused with `STORAGE_FULL`, those of whoever has most of it long before the others' (`Shares`). What is kept is
    not sacrificed for them, unless `when_full` says so. It goes on as soon as something expires.
    """

    durable = True

    def __init__(
        self,
        reactor: IRelayReactor,
        path: Path,
        history: HistoryLimits,
        *,
        max_bytes: int = MAX_BYTES,
        when_full: WhenFull = WhenFull.REFUSE,
        queue: QueueLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._usage: Final = Usage(bound=max_bytes)
        self._make = lambda: ChatDatabase(path, history, max_bytes, self._subscribed, when_full, self._usage)
        self._thread = DatabaseThread(reactor, queue or QueueLimits(), self._deliver, wall_clock)
        self._lifecycle = DeferredLock()
        self._stopped = False
        self._sweeper: LoopingCall | None = None

    def start(self, events: RelayEvents) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start(events))

    def stop(self) -> Deferred[None]:
        self._accepting = False
        self._stopped = True
        return Deferred.fromCoroutine(self._stop())

    def time(self, room: str) -> float:
        return self._wall_clock()

    def usage(self) -> Usage:
        return self._usage

    def ready(self) -> Deferred[Troubles]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        # A disk that hangs says nothing at all.
        return self._thread.ask(_probe).addTimeout(READY_SECONDS, self._reactor, _hangs)

    def publish(
        self, room: str, data: bytes, key: str | None = None, spender: str | None = None
    ) -> Deferred[Published]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        return self._thread.store(Draft(room, data, key, spender))

    def history(self, room: str, question: Question) -> Deferred[History]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        return self._thread.ask(lambda database, now: database.history(room, question, now))

    async def _start(self, events: RelayEvents) -> None:
        async with self._lifecycle:
            if self._stopped:
                raise RelayError("the relay was stopped before it had started")
            await self._thread.open(self._make)
            if self._stopped:
                raise RelayError("the relay was stopped while it was starting")
            self._open(events)
            self._sweeper = LoopingCall(self._thread.sweep)
            self._sweeper.clock = self._reactor
            self._sweeper.start(SWEEP_SECONDS)

    async def _stop(self) -> None:
        async with self._lifecycle:
            if self._sweeper is not None:
                self._sweeper.stop()
                self._sweeper = None
            await self._thread.close()
            self._close()


def _probe(database: ChatDatabase, now: float) -> Troubles:
    try:
        database.probe(now)
    except ChatError as error:
        if error.reason is not Reason.STORAGE_FULL:
            raise
        return (Trouble("writing", error.message),)
    return ()


def _hangs(_: object, seconds: float) -> Failure:
    return Failure(ChatError(Reason.TRY_AGAIN, f"the server's storage has not answered for {seconds:g} seconds"))
