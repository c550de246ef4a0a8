"""The consumers' part of a server: their queue, their clients, and the groups that these are in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger
from twisted.python.threadable import isInIOThread

from twisted_chat.consumers.delivery import GROUP_HISTORY, Delivery, Tell, tell_here, tell_nodes
from twisted_chat.consumers.events import decode_instructions
from twisted_chat.consumers.group_member import GroupAudience
from twisted_chat.consumers.loading import load_routing
from twisted_chat.consumers.local import LocalQueue
from twisted_chat.consumers.metrics import ConsumerMetrics, watch_clients, watch_queue
from twisted_chat.consumers.names import node_room
from twisted_chat.consumers.node_room import NodeRoom
from twisted_chat.consumers.queue import Amounts, Aside, Queue, QueueLimits
from twisted_chat.consumers.run import Layer, Outside, Wait, open_outside
from twisted_chat.consumers.runner import Pool, Runner
from twisted_chat.consumers.sockets import Sockets
from twisted_chat.core.publication import Publication
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import Relay, Troubles
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.url import are_shared, open_relays

PATIENCE: Final = 10.0
"""Seconds that the start waits for the node's own room."""


class _Kind(Protocol):
    """Where the events of this server are run: here, or by workers."""

    @property
    def queue(self) -> Queue: ...

    @property
    def amounts(self) -> Amounts:
        """How much is in it; with workers, at the last `look`."""

    @property
    def aside(self) -> Aside | None:
        """What workers died of; None where there are none."""

    @property
    def layer(self) -> Layer:
        """What sends to clients, groups and channels."""

    def takes(self, handshake: Mapping[str, Any]) -> bool:
        """Whether consumers are for such a WebSocket, as far as that is known here."""

    async def look(self) -> Troubles:
        """Find that out, where it is not known here, and what does not work. Never fails, but by being cancelled."""

    def compare(self) -> None:
        """End the clients that the queue does not know of any more."""

    def begin(self, sockets: Sockets) -> Deferred[None]:
        """Fires when events can come; `sockets` are the clients that they come from."""

    async def finish(self, *, clean: bool) -> None:
        """Wait for what has to be done before the relay closes, then end. `clean`: all events are in the queue."""


class ConsumerNode:
    """Builds them, starts them and stops them. `node` is the name under which its connections are known."""

    def __init__(
        self,
        reactor: Any,
        *,
        node: str,
        routing: str | None,
        threads: int,
        relay: Sequence[str],
        environ: Mapping[str, str],
        metrics: Metrics,
        directory: Path,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 - frozen
    ) -> None:
        """Without a `routing`, workers have it. Raises `RoutingError` and `RelayError`."""
        self._reactor: Final = reactor
        many = are_shared(relay)
        self._relay: Final[Relay] = (
            open_relays(relay, reactor=reactor, history=GROUP_HISTORY, environ=environ)
            if many
            # Nobody sees these times, but messages of several groups are put in order by them.
            else MemoryRelay(reactor, GROUP_HISTORY, wall_clock=reactor.seconds)
        )
        self.groups: Final = Hub(self._relay, reactor, metrics, GroupAudience)
        self._room: Final = (
            NodeRoom(node_room(node), self.groups, self._relay, self._told, self._lost) if many else None
        )
        tell = tell_nodes(self._relay) if many else tell_here(self._tell_one)
        self._kind: Final[_Kind] = (
            _Remote(reactor, relay, node, self._relay, tell, limits)
            if routing is None
            else _Here(reactor, routing, threads, environ, directory, self._relay, tell, metrics, limits, many=many)
        )
        self.sockets: Final = Sockets(reactor, self._kind.queue, tell, limits)
        watch_queue(metrics, self._kind.amounts, limits)
        watch_clients(metrics, self.sockets)

    @property
    def layer(self) -> Layer:
        """What sends to clients, groups and channels, whoever wants that."""
        return self._kind.layer

    @property
    def aside(self) -> Aside | None:
        """What workers died of; None where there are none."""
        return self._kind.aside

    def takes(self, handshake: Mapping[str, Any]) -> bool:
        """Whether consumers are for such a WebSocket, as far as that is known here."""
        return self._kind.takes(handshake)

    async def look(self) -> Troubles:
        """Find out what the metrics say of the queue, and what does not work of it."""
        return await self._kind.look()

    def start(self) -> Deferred[None]:
        """Fires when clients can come."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._relay.start(self.groups)
        if self._room is not None:
            await self._room.start().addTimeout(PATIENCE, self._reactor).addErrback(_trap_timeout)
        await self._kind.begin(self.sockets)

    async def stop(self, longest: float) -> None:
        """All clients are gone: their consumers are told, for as long as `longest` seconds, then everything ends."""
        clean = False
        with suppress(defer.TimeoutError, defer.CancelledError):
            await self.sockets.idle().addTimeout(longest, self._reactor)
            clean = True
        with suppress(defer.TimeoutError, defer.CancelledError):
            await Deferred.fromCoroutine(self._kind.finish(clean=clean)).addTimeout(longest, self._reactor)
        self.sockets.close()
        if self._room is not None:
            self._room.stop()
        await self._relay.stop()

    def _tell_one(self, connection: str, instruction: Any) -> None:
        self.sockets.instruct(connection, instruction)

    def _lost(self) -> None:
        self._kind.compare()

    def _told(self, publication: Publication) -> None:
        for connection, instruction in decode_instructions(publication.data):
            self.sockets.instruct(connection, instruction, publication.position.tag)


class _Here:
    """Consumers run in threads of this server."""

    def __init__(
        self,
        reactor: Any,
        routing: str,
        threads: int,
        environ: Mapping[str, str],
        directory: Path,
        relay: Relay,
        tell: Tell,
        metrics: Metrics,
        limits: QueueLimits,
        *,
        many: bool,
    ) -> None:
        loaded = load_routing(routing, environ, directory)
        self._router: Final = loaded.router
        self._pool: Final = Pool(reactor, threads)
        counted = ConsumerMetrics(metrics.registry)
        self.queue = LocalQueue(reactor, Runner(loaded.router, self._pool, loaded.around, metrics=counted), limits)
        self.amounts: Final[Amounts] = self.queue
        self.aside: Final = None
        self.layer: Final = Delivery(relay, tell, self.queue.post, self.queue.delay, again=many)
        self.queue.layer = self.layer
        self._outside: Final = outside(reactor, self.layer)
        self._end_outside: Callable[[], None] = lambda: None

    def takes(self, handshake: Mapping[str, Any]) -> bool:
        return self._router.takes(handshake)

    async def look(self) -> Troubles:
        return ()  # it is known at any time

    def compare(self) -> None:
        """It is here, so it knows them all."""

    def begin(self, sockets: Sockets) -> Deferred[None]:
        self._pool.start()
        self._end_outside = open_outside(self._outside)
        return defer.succeed(None)

    async def finish(self, *, clean: bool) -> None:
        try:
            await self.queue.idle()
        finally:
            self.queue.close()
            self._end_outside()
            self._pool.stop()


class _Remote:
    """Workers run them."""

    def __init__(
        self, reactor: Any, servers: Sequence[str], node: str, relay: Relay, tell: Tell, limits: QueueLimits
    ) -> None:
        from twisted_chat.consumers.redis.connection import queue_server
        from twisted_chat.consumers.redis.node import NodeQueue

        self.queue = NodeQueue(reactor, queue_server(servers), node, limits)
        self.amounts: Final = self.queue.amounts
        self.aside: Final = self.queue.aside
        self.layer: Final = Delivery(relay, tell, self.queue.posting.post, self.queue.posting.delay)

    def takes(self, handshake: Mapping[str, Any]) -> bool:
        return True  # they know, and may leave it to the rest of the site

    async def look(self) -> Troubles:
        return await self.queue.look()

    def compare(self) -> None:
        self.queue.compare()

    def begin(self, sockets: Sockets) -> Deferred[None]:
        self.queue.connections = sockets.settled
        self.queue.lost = sockets.lost
        return self.queue.start()

    async def finish(self, *, clean: bool) -> None:
        await self.queue.stop(clean=clean)


def outside(reactor: Any, layer: Layer) -> Outside:
    """How code of this process sends that no consumer called."""
    return Outside(layer, _wait(reactor), lambda: f"outside-{secrets.token_hex(8)}")


def _wait(reactor: Any) -> Wait:
    log = Logger()

    def wait(begin: Callable[[], Deferred[None]]) -> None:
        if isInIOThread():
            begin().addErrback(lambda failure: log.failure("what was sent outside of a consumer is lost", failure))
        else:
            call: Callable[[], Any] = begin
            blockingCallFromThread(reactor, call)

    return wait


def _trap_timeout(failure: Any) -> None:
    failure.trap(defer.TimeoutError)
