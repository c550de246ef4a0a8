"""The queue as a node sees it: it puts events in, and others run them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import DISCONNECT, Event
from twisted_chat.consumers.names import node_of
from twisted_chat.consumers.queue import Amounts, Queue, QueueLimits, Taken
from twisted_chat.consumers.redis.aside import Aside
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.lives import Life
from twisted_chat.consumers.redis.names import ALL
from twisted_chat.consumers.redis.posting import Posting
from twisted_chat.consumers.redis.scripts import ENQUEUE
from twisted_chat.relay.interface import Trouble, Troubles
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.errors import refusal
from twisted_chat.relay.redis.scripts import Call
from twisted_chat.relay.redis.url import RedisServer

LOOK: Final = (0.05, 1.0)
"""Seconds between two looks whether there is room again, the first and the longest."""

PATIENCE: Final = 2.0
"""Seconds that `start` waits for Redis."""


class NodeQueue(Queue):
    """Events of the connections of one node.

    connections
        those that there are, as far as the queue knows of them
    lost
        one of them was given up by the others, while this node could not be heard
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IRedisReactor,
        server: RedisServer,
        node: str,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._reactor: Final = reactor
        self._limits: Final = limits
        self._link: Final = QueueLink(reactor, server, up=lambda: self._life.beat())
        self._names: Final = self._link.names
        self._connections: Final = self._names.connections_key(node.encode())
        self._life: Final = Life(reactor, self._link, node, self.compare)
        self.aside: Final = Aside(self._link)
        self.posting: Final = Posting(reactor, self._link, limits)
        self.connections: Callable[[], Collection[str]] = tuple
        self.lost: Callable[[str], None] = lambda _: None

    def start(self) -> Deferred[None]:
        """Fires when it is known whether Redis is there."""
        tried = self._link.start()
        self._life.start()
        return tried.addTimeout(PATIENCE, self._reactor).addErrback(lambda _: None)

    async def stop(self, *, clean: bool) -> None:
        """The node ends. Where that is not `clean`, the others find connections of it, and disconnect them."""
        with suppress(NotReadyError):
            await self._life.stop(farewell=clean)
        await self._link.stop()

    @property
    def amounts(self) -> Amounts:
        """How much was in the queue at the last `look`, of all nodes."""
        return self._link

    async def look(self) -> Troubles:
        """Find out how many events there are, of all nodes, and why no more can be put in."""
        try:
            await self._link.look()
        except NotReadyError as error:
            return (Trouble("consumers", f"no events reach consumers: {refusal(error.__cause__).message}"),)
        return ()

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        name = connection.encode()
        call = Call(
            ENQUEUE,
            (
                self._names.connections_key(node_of(connection).encode()),
                self._names.mailbox_key(name),
                self._names.ready,
                self._names.waiting,
                self._names.bytes,
            ),
            (
                name,
                str(events[0].content.get("path", "")),
                first,
                self._limits.in_all,
                self._limits.bytes_in_all,
                self._limits.bytes_per_connection,
                int(events[-1].channel == DISCONNECT),
                *(event.encode() for event in events),
            ),
        )
        return self._link.call(call).addCallback(self._taken, len(events))

    def _taken(self, reply: Sequence[int], asked: int) -> Taken:
        count, here, waiting, bytes_here, waiting_bytes = reply
        if count < 0:
            return Taken(0, known=False)
        limits = self._limits
        full = here >= limits.per_connection or bytes_here >= limits.bytes_per_connection
        return Taken(count, room=count == asked and not full and self._is_open(waiting, waiting_bytes))

    def _is_open(self, waiting: int, waiting_bytes: int) -> bool:
        return waiting < self._limits.in_all and waiting_bytes < self._limits.bytes_in_all

    def room(self, connection: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._room(connection.encode()))

    async def _room(self, name: bytes) -> None:
        wait, longest = LOOK
        limits = self._limits
        while True:
            await deferLater(self._reactor, wait)
            wait = min(2 * wait, longest)
            try:
                here = await self._link.execute("LLEN", self._names.mailbox_key(name))
                counted = [await self._link.execute("GET", self._names.waiting)]
                counted += await self._link.execute("HMGET", self._names.bytes, name, ALL)
            except NotReadyError:
                continue
            waiting, bytes_here, waiting_bytes = (int(number or 0) for number in counted)
            few = here <= limits.per_connection // 2 and 2 * bytes_here <= limits.bytes_per_connection
            # What was counted of an empty mailbox, or an empty queue, is what others forgot to take off.
            if (few or not here) and (not waiting or self._is_open(waiting, waiting_bytes)):
                return

    # Being given up

    def compare(self) -> None:
        """Find the connections that the queue does not know of any more: `lost` is told."""
        mine = set(self.connections())
        if mine:
            self._link.execute("HKEYS", self._connections).addCallbacks(self._compared, _ignore, (mine,))

    def _compared(self, known: list[bytes], mine: set[str]) -> None:
        gone = mine - {name.decode() for name in known}
        if gone:
            self._log.warn("{count} connections were given up, and end", count=len(gone))
        for name in gone:
            self.lost(name)


def _ignore(_: Failure | Any) -> None:
    """It is found out with the next event of each."""
