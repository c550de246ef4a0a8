"""Runs consumers: each in a thread, or on the reactor's thread if it is a coroutine."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_chat.consumers.complaints import Complaints
from twisted_chat.consumers.decorators import ON_REACTOR
from twisted_chat.consumers.errors import BadFrameError, ConsumeLater, DenyConnection, NotReadyError
from twisted_chat.consumers.events import CONNECT, DISCONNECT, Effect, Event, Failed, Instruction, Send, Unrouted
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.metrics import ConsumerMetrics, Result
from twisted_chat.consumers.names import DELAY, connection_of
from twisted_chat.consumers.retries import put_off
from twisted_chat.consumers.routing import Match, Router
from twisted_chat.consumers.run import Layer, Run, current


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an event.

    effects
        what is to be done now
    session
        how the connection's session is to be kept; None: as it was
    routed
        whether there was a consumer for it
    failed
        whether that raised
    bad_frame
        whether that was because of what the client had sent
    set_aside
        whether it was not called, because workers died of that
    """

    effects: tuple[Effect, ...] = ()
    session: bytes | None = None
    routed: bool = True
    failed: bool = False
    bad_frame: bool = False
    set_aside: bool = False

    @property
    def result(self) -> Result:
        """For the metrics."""
        if not self.routed:
            return "unrouted"
        if self.set_aside:
            return "set_aside"
        if self.bad_frame:
            return "bad_frame"
        return "failed" if self.failed else "done"


class Threads(Protocol):
    """Where consumers run that may block."""

    def call(self, function: Callable[[], Any]) -> Deferred[Any]:
        """What `function` returns, called in one of the threads."""

    def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        """In one of the threads: call it on the reactor's, and wait for what it returns."""


class Pool:
    """Up to so many threads, made when they are needed.

    A consumer that does not return does not keep the process from ending.
    """

    def __init__(self, reactor: Any, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(min(1, threads), threads, "consumers")
        self._pool.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]  # Twisted's way to choose
        self._busy = 0

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """End the threads; those that are still in a consumer are left to themselves."""
        if not self._busy:
            self._pool.stop()

    def call(self, function: Callable[[], Any]) -> Deferred[Any]:
        self._busy += 1
        return deferToThreadPool(self._reactor, self._pool, function).addBoth(self._done)

    def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        wait: Callable[[], Any] = begin
        blockingCallFromThread(self._reactor, wait)

    def _done(self, result: Any) -> Any:
        self._busy -= 1
        return result


class Runner:
    """The consumers of one process.

    around
        is called before and after each consumer that runs in a thread, in that thread
    failed
        is told what a consumer raised; without it, the log is
    metrics
        is told how long consumers run, and by the queue what came of their events
    clock
        seconds; asked in any thread
    """

    _log = Logger()

    def __init__(
        self,
        router: Router,
        threads: Threads,
        around: Callable[[], None] | None = None,
        failed: Callable[[Event, Failure], None] | None = None,
        metrics: ConsumerMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.router: Final = router
        self._threads: Final = threads
        self._around: Final = around or (lambda: None)
        self._failed: Final = failed or self._log_failure
        self.metrics: Final = metrics or ConsumerMetrics(CollectorRegistry())
        self._clock: Final = clock
        self._complaints: Final = Complaints(clock)

    def blocks(self, event: Event) -> bool:
        """Whether its consumer takes a thread."""
        match = self.router.match(event.channel, event.content)
        return match is not None and not _is_for_reactor(match.consumer)

    async def run(self, event: Event, session: bytes | None, layer: Layer) -> Outcome:
        """Call the consumer of an event. What it raises is logged, and is an outcome too."""
        if event.channel == DELAY:
            # Its time has come: it is sent like what consumers send.
            return Outcome((Send(event.content["channel"], event.content["content"]),))
        match = self.router.match(event.channel, event.content)
        if match is None:
            return self._unrouted(event)
        run = Run(event, session, layer)
        run.began_at = self._clock()
        failed = bad_frame = False
        try:
            await self._call(match, run)
        except DenyConnection:
            failed = not self._deny(event, run)
        except ConsumeLater:
            failed = not self._put_off(event, run)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a consumer raises; exit() ends it, not us
            failed, bad_frame = True, isinstance(error, BadFrameError)
            self._failed(event, Failure())
        self.metrics.ran(event.channel, self._clock() - run.began_at)
        return self._outcome(run, failed=failed, bad_frame=bad_frame)

    async def _call(self, match: Match, run: Run) -> None:
        # A context of its own: consumers that wait at the same time must not see each other's run.
        context = copy_context()
        context.run(current.set, run)
        if _is_for_reactor(match.consumer):
            result = context.run(match.consumer, _message(run.event), **match.arguments)
        else:
            run.wait = self._threads.wait
            result = await self._threads.call(lambda: context.run(self._guarded, match, run))
        # It may be an ordinary function in front of a coroutine, or of something that returned a Deferred.
        run.wait = run.begin
        if inspect.isawaitable(result):
            await context.run(Deferred.fromCoroutine, _finished(result))
        if run.began:
            await run.begun()

    def _guarded(self, match: Match, run: Run) -> Any:
        run.began_at = self._clock()  # only now: it may have waited for a thread
        self._around()
        try:
            return match.consumer(_message(run.event), **match.arguments)
        finally:
            self._around()

    def _outcome(self, run: Run, *, failed: bool, bad_frame: bool) -> Outcome:
        session = None
        try:
            session = run.changed_session()
        except TypeError:
            failed, bad_frame = True, False
            self._failed(run.event, Failure())
        return Outcome(() if failed else tuple(run.effects), session, failed=failed, bad_frame=bad_frame)

    def _log_failure(self, event: Event, failure: Failure) -> None:
        if failure.check(BadFrameError):
            # Clients can do that as often as they like: no traceback, and not each time.
            self._complaints.complain(event.id, failure.getErrorMessage())
            return
        self._log.failure(
            "the consumer of {channel} failed on event {event}",
            failure,
            level=LogLevel.error,
            channel=event.channel,
            event=event.id,
        )

    def _unrouted(self, event: Event) -> Outcome:
        if event.channel == CONNECT and self.router.takes(event.content):
            # As in Channels: others of its messages have consumers.
            return Outcome((Send(str(event.content["reply_channel"]), {"accept": True}),))
        return Outcome(routed=False)

    def _deny(self, event: Event, run: Run) -> bool:
        reply = event.content.get("reply_channel")
        if event.channel != CONNECT or reply is None or connection_of(reply) is None:
            self._log.error(
                "the consumer of {channel} raised DenyConnection, which only one of websocket.connect may",
                channel=event.channel,
            )
            return False
        run.effects = [Send(reply, {"close": True})]
        return True

    def _put_off(self, event: Event, run: Run) -> bool:
        try:
            run.effects = [put_off(event)]
        except ValueError as error:
            self._log.error(
                "the consumer of {channel} raised ConsumeLater on event {event}, which is over: {error}",
                channel=event.channel,
                event=event.id,
                error=str(error),
            )
            return False
        return True


async def _finished(result: Awaitable[Any]) -> Any:
    return await result


def _message(event: Event) -> Message:
    return Message(dict(event.content), event.channel)


def _is_for_reactor(consumer: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(consumer) or getattr(consumer, ON_REACTOR, False)


async def persist(layer: Layer, effects: tuple[Effect, ...], key: str, again: Callable[[], Deferred[None]]) -> None:
    """Have effects carried out, however often that has to be tried; `again` fires when it is time to."""
    while True:
        try:
            await layer.carry_out(effects, key)
        except NotReadyError:
            await again()
        else:
            return


def verdict(event: Event, outcome: Outcome) -> Instruction | None:
    """What the node of a client has to be told because of what came of its handshake, besides the effects."""
    if event.channel != CONNECT:
        return None
    if not outcome.routed:
        return Unrouted()
    return Failed() if outcome.failed else None


def ends(event: Event, outcome: Outcome) -> bool:
    """Whether this was the last event of its connection."""
    return event.channel == DISCONNECT or (event.channel == CONNECT and not outcome.routed)
