"""What consumers post to channels of their own: now, or when its time has come."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.delivery import GROUP_HISTORY
from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.names import node_of
from twisted_chat.consumers.queue import QueueLimits
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.scripts import DELAY, DUE, POST
from twisted_chat.relay.redis.scripts import Call

LOOK: Final = (0.05, 1.0)
"""Seconds between two looks whether the time of something has come, the shortest and the longest."""

AT_ONCE: Final = 100
"""Events that go into the queue in one step."""

KEY_MS: Final = int(GROUP_HISTORY.keys * 1000)
"""Milliseconds for which it is known that an event was posted: for the second run of the one that posts it."""


class Posting:
    """Workers and nodes post; each worker looks after what has to wait, and the first that sees it due puts it in."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, link: QueueLink, limits: QueueLimits) -> None:
        self._reactor: Final = reactor
        self._link: Final = link
        self._limits: Final = limits
        self._next: IDelayedCall | None = None
        self._stopped = True

    def start(self) -> None:
        """Begin to look."""
        self._stopped = False
        self._next = self._reactor.callLater(0, self._look)

    def stop(self) -> None:
        """Look no more; others do."""
        self._stopped = True
        if self._next is not None and self._next.active():
            self._next.cancel()

    def post(self, event: Event, connection: str | None) -> Deferred[None]:
        """See `local.LocalQueue.post`."""
        names = self._link.names
        own, name = event.id.encode(), (connection or "").encode()
        call = Call(
            POST,
            (
                names.posted_key(own),
                names.connections_key(node_of(connection or "").encode()),
                names.mailbox_key(name),
                names.mailbox_key(own),
                names.ready,
                names.waiting,
                names.bytes,
            ),
            (name, own, event.encode(), self._limits.in_all, self._limits.bytes_in_all, KEY_MS),
        )
        return self._link.call(call).addCallback(_posted)

    def delay(self, event: Event, seconds: float) -> Deferred[None]:
        """Put it into the queue after so many seconds. It is kept like all events, and run at least once."""
        names = self._link.names
        name = event.id.encode()
        call = Call(
            DELAY,
            (names.posted_key(name), names.delayed, names.delayed_bytes),
            (
                name,
                event.encode(),
                round(seconds * 1000),
                self._limits.delayed,
                self._limits.bytes_in_all,
                KEY_MS,
            ),
        )
        return self._link.call(call).addCallback(_posted).addCallback(lambda _: self._look_in(seconds))

    # When the time has come

    def _look_in(self, seconds: float) -> None:
        call = self._next
        if call is not None and call.active() and call.getTime() > self._reactor.seconds() + seconds:
            call.reset(seconds)

    def _look(self) -> None:
        names = self._link.names
        call = Call(
            DUE,
            (names.delayed, names.ready, names.waiting, names.bytes, names.delayed_bytes),
            (names.mailbox, AT_ONCE, self._limits.in_all, self._limits.bytes_in_all),
        )
        self._link.call(call).addCallbacks(_until_next, self._failed).addCallback(self._looked)

    def _looked(self, wait: float) -> None:
        if not self._stopped:
            self._next = self._reactor.callLater(wait, self._look)

    def _failed(self, failure: Failure) -> float:
        if not failure.check(NotReadyError):
            self._log.failure("delayed messages could not be looked after", failure)
        return LOOK[1]


def _until_next(reply: tuple[int, int]) -> float:
    """Seconds; when it is due already, and there is no room for it, it is not asked for all the time."""
    count, wait = reply
    shortest, longest = LOOK
    if count == AT_ONCE:
        return 0
    return min(max(wait / 1000, shortest), longest) if wait >= 0 else longest


def _posted(reply: int) -> None:
    if reply != 1:
        raise NotReadyError("as much waits for consumers as may")
