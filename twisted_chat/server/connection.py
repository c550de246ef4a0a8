"""What every long connection has, whatever its wire: a session, a place in a room, an outbox, an end with a reason."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from math import ceil
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.incoming import IncomingLimit, IncomingMeter, IncomingRates
from twisted_chat.core.limits import ConnectionCount, Limits
from twisted_chat.core.publication import Publication, Published
from twisted_chat.core.session import Session
from twisted_chat.hub import Hub, at_once
from twisted_chat.metrics import Metrics, Transport
from twisted_chat.server.heartbeat import Heartbeat
from twisted_chat.server.http.waiting import WaitingBytes
from twisted_chat.server.outbox import Outbox
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire import room as wire
from twisted_chat.wire.formats import Event, Format
from twisted_chat.wire.query import Wish

NODE: Final = secrets.token_hex(8)
"""Tells this process's connections from those of other nodes."""


REPLIES_HELD: Final = 100
"""Answers to repeated messages that wait until a client has caught up; to more it gets none, and repeats itself."""

REPLIES_HELD_BYTES: Final = 64 * 1024
"""Bytes of those answers."""

STILL_SECONDS: Final = 300.0
"""Seconds for which a client may take nothing of what waits for it."""


EXPIRY_CHECK_SECONDS: Final = 60.0
"""At most so long a connection outlives its token where the wall clock is set forward."""


class Edge(Protocol):
    """The wire's end of a connection."""

    transport_name: Transport
    format: Format

    @property
    def throttled(self) -> bool:
        """Whether nothing is read from the client now because it is beyond a rate."""

    def send(self, data: bytes) -> None:
        """Write to the transport."""

    def held_bytes(self) -> int:
        """Return the bytes that were sent and that the transport still holds."""

    def say_goodbye(self, error: ChatError) -> None:
        """End the connection in the way of its wire, giving the reason."""

    def abort(self) -> None:
        """End it now; the client learns nothing."""

    def beat(self, tell: Callable[[], bool]) -> None:
        """Ask the client whether it lives, or keep the connection known to what stands between, as the wire needs.

        Call `tell` once: it sends something of its own to a client that wants it, and returns whether it did.
        """

    def judge(self, beats: int) -> None:
        """End the connection if its client was to answer the `beats`-th last `beat` and did not."""


class Connections:
    """All long connections of this node: counts them, and ends them when the server stops.

    waiting_bytes
        counts and bounds what waits for clients, here and in all that a site answers
    """

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        metrics: Metrics,
        reactor: IReactorTime,
        wall_clock: Callable[[], float],
        waiting_bytes: WaitingBytes | None = None,
    ) -> None:
        self.hub: Final = hub
        self.limits: Final = limits
        self.metrics: Final = metrics
        self.reactor: Final = reactor
        self.wall_clock: Final = wall_clock
        self.count: Final = ConnectionCount(limits)
        self.waiting_bytes: Final = (
            WaitingBytes(reactor, limits.waiting_bytes) if waiting_bytes is None else waiting_bytes
        )
        self.incoming: Final = IncomingRates(limits)
        self.open: set[Connection] = set()
        self.heartbeat: Final = Heartbeat(limits.ping_interval, limits.ping_timeout)
        self.on_empty: Callable[[], None] = lambda: None
        self._names = itertools.count(1)

    def name(self) -> str:
        """A name that no other connection of any node has."""
        return f"{NODE}-{next(self._names)}"

    def close_user(self, user: str, age: float, error: ChatError) -> None:
        """End the connections of a user that are older than `age` seconds."""
        now = self.reactor.seconds()
        for connection in list(self.open):
            if connection.session.identity.user == user and now - connection.began > age:
                connection.close(error)

    def close_room(self, room: str, error: ChatError) -> None:
        """End the connections to a room."""
        for connection in list(self.open):
            if connection.session.room == room:
                connection.close(error)

    def throttled(self) -> int:
        """Return how many WebSockets are not read from now, because they are beyond a rate."""
        return sum(connection.edge.throttled for connection in self.open)

    def add(self, connection: Connection) -> None:
        """Count a connection, or raise `ChatError`."""
        self.count.enter(connection.address)
        self.open.add(connection)
        self.waiting_bytes.add(connection)
        self.heartbeat.add(connection)

    def remove(self, connection: Connection) -> None:
        """The inverse."""
        self.open.discard(connection)
        self.waiting_bytes.discard(connection)
        self.heartbeat.remove(connection)
        self.count.leave(connection.address)
        if not self.open:
            self.on_empty()


class Connection:
    """One client's connection to a room, from `start` to `ended`.

    The edge calls `start` when bytes can be sent, `receive` with each command, and `ended` once when it is over.
    """

    _log = Logger()

    _held_before = 0
    """What the transport held at the last beat while it was full."""
    _still = 0
    """How many beats ago it held something else."""
    _room_began = False
    """Whether its room is known to have messages, which it keeps while somebody is in it."""

    def __init__(self, all_connections: Connections, edge: Edge, session: Session, address: str | None) -> None:
        self.edge = edge
        self.session: Final = session
        self.address: Final = address
        self._all: Final = all_connections
        self._hub: Final = all_connections.hub
        self._reactor: Final = all_connections.reactor
        self.outbox: Final = Outbox(self._reactor, edge.send, all_connections.limits.outbox_bytes, self)
        self._subscriber: Subscriber | None = None
        self._expiry: IDelayedCall | None = None
        self.began = 0.0
        """When it started, of `reactor.seconds()`."""
        self._reason: str | None = None
        self._held: list[Publication] = []

    # Life

    def start(self, wish: Wish) -> None:
        """Join the room. Raises `ChatError` when the server has connections enough."""
        self._all.add(self)
        self.began = self._reactor.seconds()
        self._all.metrics.connected(self.edge.transport_name)
        self._check_expiry_later()
        self._subscriber = Subscriber(
            self._all.name(),
            self.session,
            self.outbox,
            self.edge.format,
            wish.events,
            self._is_live,
        )
        self._hub.join(self._subscriber, wish.since, wish.newest)

    def close(self, error: ChatError) -> None:
        """End the connection: what was written reaches the client first, then the reason."""
        if self._reason is not None:
            return
        self._reason = error.reason.code
        self._leave()
        self.outbox.flush()
        self.outbox.close()
        self.edge.say_goodbye(error)

    def failed(self, reason: str) -> None:
        """The wire found a fault of the client's and ends the connection in its own way.

        `reason` is one of a small fixed set: the label under which it is counted.
        """
        if self._reason is None:
            self._reason = reason
            self._all.metrics.refused(reason)
            self._leave()

    def ended(self, reason: str) -> None:
        """The transport is gone. `reason` is why, unless we ended it."""
        if self not in self._all.open:
            return
        reason = self._reason or reason
        self._reason = reason
        self._leave()
        self.session.settle(self._reactor.seconds())
        self.outbox.close()
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self._all.metrics.disconnected(self.edge.transport_name, reason)
        self._log.info(
            "{transport} in {room!r} from {address} ended after {seconds:.1f} s: {reason}",
            transport=self.edge.transport_name,
            room=self.session.room,
            address=self.address or "a local socket",
            user=self.session.identity.user,
            seconds=self._reactor.seconds() - self.began,
            reason=reason,
        )
        self._all.remove(self)
        # They refer to it, and it to them: without that, all of it is freed now.
        self._subscriber = None
        del self.edge

    def meter(self, now: float) -> IncomingMeter:
        """Make the meter for what the wire reads from the client."""
        return IncomingMeter(self._all.incoming, self.address, now)

    def throttled(self, limit: IncomingLimit) -> None:
        """The wire reads nothing for a while from a client that is beyond a rate."""
        self._all.metrics.throttled(limit)

    def flooded(self) -> None:
        """The client goes on sending frames that carry nothing, far beyond its rate."""
        if self._reason is None:
            self._all.metrics.refused(Reason.RATE_LIMITED.code)
            self.close(ChatError(Reason.RATE_LIMITED, "too many frames that carry nothing; wait a little"))

    def _leave(self) -> None:
        if self._subscriber is not None:
            self._hub.leave(self._subscriber)

    def _check_expiry_later(self) -> None:
        expires = self.session.identity.expires
        if expires is not None:
            # The time of day may be set meanwhile: it is looked at again and again.
            left = min(max(0.0, expires - self._all.wall_clock()), EXPIRY_CHECK_SECONDS)
            self._expiry = self._reactor.callLater(left, self._check_expiry, expires)

    def _check_expiry(self, expires: float) -> None:
        """End the connection if its token has expired."""
        if self._all.wall_clock() < expires:
            self._check_expiry_later()
            return
        self.close(ChatError(Reason.TOKEN_EXPIRED, "the token expired; come back with a new one"))

    # What waits: an `outbox.Owner`, and a `http.waiting.Holder`

    @property
    def limited_address(self) -> str | None:
        return self.address

    def held_bytes(self) -> int:
        return self.edge.held_bytes()

    def waiting_bytes(self) -> int:
        return self.outbox.backlog + self.edge.held_bytes()

    def grew(self, size: int) -> None:
        self._all.waiting_bytes.grew(self.address, size)

    def give_up(self) -> int:
        """Send a client away for which too much waits; one that is sent away and does not go is cut off."""
        size = self.waiting_bytes()
        if self._reason is None:
            self.outbox.give_up()
        else:
            self.edge.abort()
        return size

    def too_slow(self) -> None:
        if self._reason is None:
            self._all.metrics.refused(Reason.TOO_SLOW.code)
            self.close(ChatError(Reason.TOO_SLOW, "too much waits to be read; come back with since"))

    def drained(self) -> None:
        if self._subscriber is not None:
            self._hub.resume(self._subscriber)

    def _stands_still(self) -> bool:
        """Called each beat: whether the client has long taken nothing of what waits for it."""
        held = 0 if self.outbox.writable() else self.edge.held_bytes()
        self._still = self._still + 1 if held and held == self._held_before else 0
        self._held_before = held
        return self._still >= ceil(STILL_SECONDS / self._all.limits.ping_interval)

    # Commands

    def receive(self, text: bytes) -> None:
        """A command of the client, JSON in UTF-8."""
        key: str | None = None
        try:
            command = wire.decode(text, self._all.limits)
            key = command.key
            before = self.session.handle
            now = self._reactor.seconds()
            handle = self.session.speak(command.handle, now)
        except ChatError as error:
            error.key = error.key or key
            self.refuse(error)
            return
        if handle != before and self._subscriber is not None:
            self._hub.announce(self._subscriber)
        if isinstance(command, wire.Publish):
            self._publish(handle, command, now)
        else:
            self._hub.typing(self.session.room, handle)

    def refuse(self, error: ChatError) -> None:
        """Tell the client why its command was not taken; end the connection of one that does not listen to that."""
        if self._reason is not None:
            return
        self._all.metrics.refused(error.reason.code)
        if not self.session.refuse(self._reactor.seconds()):
            self.close(ChatError(Reason.RATE_LIMITED, "too many commands were refused; wait a little"))
        elif self._subscriber is not None:
            self._hub.reply(self._subscriber, self.edge.format.error(error))

    def _publish(self, handle: str, command: wire.Publish, now: float) -> None:
        session = self.session
        data = wire.compose(handle, command.message, command.key)
        if not (self._room_began and session.owe(len(data))):
            try:
                self._room_began = self._hub.has_begun(session.room)
                session.spend(len(data), now, began=self._room_began)
            except ChatError as error:
                error.key = command.key
                self.refuse(error)
                return
        publishing = self._hub.publish(
            session.room, data, session.idempotency_key(command.key), "websocket", session.spender
        )
        published = at_once(publishing)
        if published is None:
            publishing.addCallbacks(self._stored, self._not_stored, errbackArgs=(command.key,))
        elif published.duplicate or published.publication.position.offset <= 1:
            self._stored(published)

    def _stored(self, published: Published) -> None:
        self.session.stored(published, self._reactor.seconds())
        if published.duplicate and self._subscriber is not None:
            # Everyone got it the first time; this one did not learn of it.
            self._repeat(published.publication)

    def _not_stored(self, failure: Failure, key: str | None) -> None:
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.failure("a message could not be published", failure)
            error = ChatError(Reason.INTERNAL, "the server failed on this message")
        error.key = key
        self.refuse(error)

    def beat(self) -> None:
        """Called every `Limits.ping_interval`: show that the connection lives, and ask for the same."""
        if self._subscriber is None or self._reason is not None:
            return
        if self._stands_still():
            self.outbox.give_up()
        else:
            self.edge.beat(self._tell_heartbeat)

    def judge(self, beats: int) -> None:
        """Called `Limits.ping_timeout` after the `beats`-th last `beat`."""
        if self._reason is None:
            self.edge.judge(beats)

    def _tell_heartbeat(self) -> bool:
        """Tell a client that asked for it, for scripts see no pings; whether it was told."""
        subscriber = self._subscriber
        # Behind a full outbox it would only add to what waits.
        if subscriber is None or Event.HEARTBEAT not in subscriber.events or not self.outbox.writable():
            return False
        self._hub.reply(subscriber, self.edge.format.event(wire.heartbeat(self._all.limits.ping_interval)))
        return True

    def _repeat(self, publication: Publication) -> None:
        """Answer with a message that was stored before: not while the client still catches up with those before it."""
        if self._subscriber is not None and self._hub.repeat(self._subscriber, publication):
            return
        if len(self._held) < REPLIES_HELD and sum(len(each.data) for each in self._held) < REPLIES_HELD_BYTES:
            self._held.append(publication)

    def _is_live(self) -> None:
        assert self._subscriber is not None
        held, self._held = self._held, []
        for publication in held:
            self._repeat(publication)
        self._tell_heartbeat()
        if Event.PRESENCE in self._subscriber.events:
            self._tell_presence()

    def _tell_presence(self) -> None:
        def tell(handles: tuple[str, ...]) -> None:
            if self._subscriber is not None and self._reason is None:
                self._hub.reply(self._subscriber, self.edge.format.event(wire.presence(handles)))

        def failed(failure: Failure) -> None:
            if not failure.check(ChatError):
                self._log.failure("presence could not be told", failure)

        self._hub.present(self.session.room).addCallbacks(tell, failed)
