"""The queue of a server that runs its consumers itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import CONNECT, DISCONNECT, Event
from twisted_chat.consumers.queue import Queue, QueueLimits, Taken
from twisted_chat.consumers.run import Layer
from twisted_chat.consumers.runner import Outcome, Runner, ends, persist, verdict
from twisted_chat.waiting import Signal

RETRY: Final = 0.2
"""Seconds until what could not be carried out is tried again."""


@dataclass(eq=False, slots=True)
class _Mailbox:
    """The events of one connection that wait, each with the bytes that it takes, and its session."""

    events: deque[tuple[Event, int]] = field(default_factory=deque)
    size: int = 0
    session: bytes | None = None
    running: bool = False
    room: Signal = field(default_factory=Signal)


class LocalQueue(Queue):
    """Runs each connection's events in order, those of all connections as threads allow."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, runner: Runner, limits: QueueLimits = QueueLimits()) -> None:  # noqa: B008 - frozen
        self._reactor: Final = reactor
        self._runner: Final = runner
        self._limits: Final = limits
        self.layer: Layer
        """Carries out what the consumers cause; to be set before anything comes."""
        self._mailboxes: dict[str, _Mailbox] = {}
        self._delayed: dict[str, tuple[IDelayedCall, int]] = {}
        self._delayed_bytes = 0
        self._waiting = 0
        self._bytes = 0
        self._room: Final = Signal()
        self._idle: Final = Signal()
        self._busy = 0

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        mailbox = self._mailboxes.get(connection)
        if mailbox is None:
            if events[0].channel != CONNECT:
                return succeed(Taken(0, known=False))
            mailbox = self._mailboxes[connection] = _Mailbox()
        count = 0
        for event in events:
            size = event.kept_bytes()
            if event.channel != DISCONNECT and (self._full or not self._fits(mailbox, size)):
                break
            self._add(mailbox, event, size)
            count += 1
        self._start(connection, mailbox)
        room = len(mailbox.events) < self._limits.per_connection and not self._full and count == len(events)
        return succeed(Taken(count, room=room))

    def room(self, connection: str) -> Deferred[None]:
        if self._full:
            return self._room.wait()
        mailbox = self._mailboxes.get(connection)
        if mailbox is None or self._has_room(mailbox):
            return succeed(None)
        return mailbox.room.wait()

    def post(self, event: Event, connection: str | None) -> Deferred[None]:
        """An event that a consumer made: behind those of the connection, if there is one, but before its disconnect."""
        if self._full:
            return fail(
                NotReadyError(f"{self._waiting} events of {self._bytes} bytes wait for consumers, as much as may")
            )
        name = connection if connection is not None and self._takes_more(connection) else event.id
        mailbox = self._mailboxes.setdefault(name, _Mailbox())
        last = mailbox.events.pop() if mailbox.events and mailbox.events[-1][0].channel == DISCONNECT else None
        self._add(mailbox, event, event.kept_bytes())
        if last is not None:
            mailbox.events.append(last)
        self._start(name, mailbox)
        return succeed(None)

    def delay(self, event: Event, seconds: float) -> Deferred[None]:
        """Post it after so many seconds; one that waits already is not posted twice.

        Until then it is in memory, and lost when the process ends.
        """
        if event.id in self._delayed:
            return succeed(None)
        if len(self._delayed) >= self._limits.delayed or self._delayed_bytes >= self._limits.bytes_in_all:
            waits = f"{len(self._delayed)} messages of {self._delayed_bytes} bytes wait for their time"
            return fail(NotReadyError(f"{waits}, as much as may"))
        size = event.kept_bytes()
        self._delayed_bytes += size
        self._delayed[event.id] = self._reactor.callLater(seconds, self._due, event, size), size
        return succeed(None)

    def _due(self, event: Event, size: int) -> None:
        if self._full:
            self._delayed[event.id] = self._reactor.callLater(RETRY, self._due, event, size), size
            return
        del self._delayed[event.id]
        self._delayed_bytes -= size
        self.post(event, None)

    def close(self) -> None:
        """The process ends, and with it what waits for its time."""
        if self._delayed:
            self._log.warn("{count} delayed messages are lost: they were in memory", count=len(self._delayed))
        for call, _ in self._delayed.values():
            call.cancel()
        self._delayed.clear()
        self._delayed_bytes = 0

    def _takes_more(self, connection: str) -> bool:
        mailbox = self._mailboxes.get(connection)
        # The first one is being run.
        return mailbox is not None and not (mailbox.events and mailbox.events[0][0].channel == DISCONNECT)

    @property
    def waiting(self) -> int:
        """How many events there are, those that run among them."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """What they take in memory."""
        return self._bytes

    @property
    def delayed(self) -> int:
        """How many wait for their time, and are not among these."""
        return len(self._delayed)

    @property
    def delayed_bytes(self) -> int:
        """What they take in memory."""
        return self._delayed_bytes

    @property
    def set_aside(self) -> int:
        """None: an event that ends the process is not run again."""
        return 0

    def session_of(self, connection: str) -> bytes | None:
        """What its consumers keep, as JSON."""
        mailbox = self._mailboxes.get(connection)
        return mailbox.session if mailbox is not None else None

    def idle(self) -> Deferred[None]:
        """Fires when no event is waiting or running."""
        return self._idle.wait().addCallback(lambda _: self.idle()) if self._busy else succeed(None)

    # Running

    def _start(self, name: str, mailbox: _Mailbox) -> None:
        if not mailbox.running and mailbox.events:
            mailbox.running = True
            self._busy += 1
            work = Deferred.fromCoroutine(self._work(name, mailbox))
            work.addErrback(lambda failure: self._log.failure("the events of {name} got stuck", failure, name=name))
            work.addBoth(lambda _: self._worked(mailbox))

    async def _work(self, name: str, mailbox: _Mailbox) -> None:
        while mailbox.events:
            event, _ = mailbox.events[0]
            outcome = await self._one(event, name, mailbox)
            over = ends(event, outcome)
            self._take(mailbox)
            self._runner.metrics.over(event.channel, outcome.result)
            self._make_room(mailbox)
            if over or (not mailbox.events and name == event.id):
                while mailbox.events:
                    self._take(mailbox)
                self._mailboxes.pop(name, None)

    async def _one(self, event: Event, name: str, mailbox: _Mailbox) -> Outcome:
        outcome = await self._runner.run(event, mailbox.session, self.layer)
        if outcome.session is not None:
            mailbox.session = outcome.session
        if outcome.effects:
            await persist(self.layer, outcome.effects, event.id, lambda: deferLater(self._reactor, RETRY))
        told = verdict(event, outcome)
        if told is not None:
            await self.layer.tell(name, told, f"{event.id}=")
        return outcome

    def _worked(self, mailbox: _Mailbox) -> None:
        mailbox.running = False
        self._busy -= 1
        if not self._busy:
            self._idle.fire()

    def _make_room(self, mailbox: _Mailbox) -> None:
        if self._has_room(mailbox):
            mailbox.room.fire()
        if self._waiting <= self._limits.in_all * 3 // 4 and self._bytes <= self._limits.bytes_in_all * 3 // 4:
            self._room.fire()

    # How much there is

    @property
    def _full(self) -> bool:
        return self._waiting >= self._limits.in_all or self._bytes >= self._limits.bytes_in_all

    def _has_room(self, mailbox: _Mailbox) -> bool:
        """Whether half of what may wait of a connection is done."""
        few = len(mailbox.events) <= self._limits.per_connection // 2
        return few and 2 * mailbox.size <= self._limits.bytes_per_connection

    def _fits(self, mailbox: _Mailbox, size: int) -> bool:
        """Whether an event does; where there is room, one of any size."""
        most = self._limits.bytes_per_connection
        return mailbox.size + size <= most or 2 * mailbox.size <= most

    def _add(self, mailbox: _Mailbox, event: Event, size: int) -> None:
        mailbox.events.append((event, size))
        mailbox.size += size
        self._bytes += size
        self._waiting += 1

    def _take(self, mailbox: _Mailbox) -> None:
        _, size = mailbox.events.popleft()
        mailbox.size -= size
        self._bytes -= size
        self._waiting -= 1
