"""A relay for many nodes: publications, presence and signals go through Redis."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, fail, gatherResults, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ResponseError

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Newest, Position, Published, Question
from twisted_chat.relay.interface import HistoryLimits, RelayError, RelayEvents, Trouble, Troubles
from twisted_chat.relay.presence import NOT_RUNNING, refused
from twisted_chat.relay.redis.clock import RedisClock
from twisted_chat.relay.redis.endpoints import IRedisReactor, redis_endpoint
from twisted_chat.relay.redis.errors import UnusableError, describe, refusal
from twisted_chat.relay.redis.few import FewAtOnce
from twisted_chat.relay.redis.greeting import Preparation, greet
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.link import Link
from twisted_chat.relay.redis.pending import Pending
from twisted_chat.relay.redis.presence import BEAT, Presence
from twisted_chat.relay.redis.probe import Probe
from twisted_chat.relay.redis.protocol import CommandProtocol, SubscriberProtocol
from twisted_chat.relay.redis.publications import Storage, parse
from twisted_chat.relay.redis.publisher import Publisher
from twisted_chat.relay.redis.refusals import CHECKING, PRESENCE, PUBLISHING, READING, Refusals, Work
from twisted_chat.relay.redis.scripts import SCRIPTS, ScriptCaller
from twisted_chat.relay.redis.subscriptions import Subscriptions
from twisted_chat.relay.redis.tops import TopCheck
from twisted_chat.relay.redis.url import RedisServer

T = TypeVar("T")

HISTORIES: Final = 32
"""That are read at a time: more are not answered faster, only later."""

REPLICA: Final = 30.0
"""Seconds for which a server is read that takes no writes, before the master is looked for elsewhere."""

START: Final = 2.0
"""Seconds that `start` waits for the first connections; without them, what comes is refused."""


class RedisRelay:
    """See `relay.interface.Relay`. It runs once: after `stop` make another.

    Commands go through one link, in order; messages come through another. What is acknowledged is in Redis; whether it
    outlives Redis is a matter of how that is set up.
    """

    durable = True
    _log = Logger()

    def __init__(
        self,
        reactor: IRedisReactor,
        server: RedisServer,
        history: HistoryLimits,
        limits: LinkLimits = LinkLimits(),  # noqa: B008 - frozen
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises `RelayError` when this system cannot connect to such a server."""
        self._reactor = reactor
        self._names: Final = server.names
        self._name: Final = server.name
        self._events: RelayEvents | None = None
        self._accepting = False
        self._stopped = False
        self._lifecycle = DeferredLock()
        self._up_at = 0.0
        self._pending = Pending()

        endpoint = redis_endpoint(reactor, server, limits)
        self._refusals: Final = Refusals(server.name, reactor.seconds)
        self._commands = Link(
            reactor,
            endpoint,
            lambda: CommandProtocol(reactor, limits),
            Preparation(server, SCRIPTS),
            name=f"{server.name} for commands",
            limits=limits,
            up=self._commands_up,
            down=self._commands_down,
        )
        self._messages = Link(
            reactor,
            endpoint,
            lambda: SubscriberProtocol(reactor, limits, self._received),
            partial(greet, server=server),
            name=f"{server.name} for messages",
            limits=limits,
            up=self._messages_up,
            down=self._messages_down,
        )
        execute = self._commands.execute
        names = server.names
        self._scripts = ScriptCaller(execute)
        self._probe = Probe(reactor, names, secrets.token_hex(8), self._scripts.call, limits.deadline)
        self._storage = Storage(names, history)
        self._histories: Final = FewAtOnce(HISTORIES)
        self._publisher = Publisher(reactor, self._storage, self._scripts.call)
        self._clock = RedisClock(reactor.seconds, wall_clock)
        failed = partial(self._refusals.refused, PRESENCE)
        self._presence = Presence(names, self._scripts.call, execute, reactor.seconds, self._clock, failed)
        self._subscriptions = Subscriptions(
            names, self._probe.channel, interrupted=self._interrupted, resumed=self._resumed, paced=self._paced
        )
        self._tops = TopCheck(
            reactor,
            names,
            execute,
            rooms=self._subscriptions.rooms.values,
            told=self._top,
            position_ms=self._storage.position_ms,
            failed=partial(self._refusals.refused, CHECKING),
        )
        self._beat = LoopingCall(self._beaten)
        self._beat.clock = reactor

    # Start and stop

    def start(self, events: RelayEvents) -> Deferred[None]:
        """Fires as soon as it is known whether Redis is there, also when it is not: it is awaited then."""
        if self._stopped:
            return fail(RelayError("the relay was stopped before it had started"))
        self._events = events
        self._accepting = True
        started = Deferred.fromCoroutine(self._tried())
        self._commands.start()
        self._messages.start()
        self._tops.start()
        self._beat.start(BEAT, now=False)
        return started.addTimeout(START, self._reactor).addErrback(_trap_timeout)

    async def _tried(self) -> None:
        for tried in [link.tried() for link in (self._commands, self._messages)]:
            await tried
        await self._paced()

    def stop(self) -> Deferred[None]:
        self._accepting = False
        self._stopped = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        async with self._lifecycle:
            await self._pending.idle()
            if self._beat.running:
                self._beat.stop()
            self._tops.stop()
            # If a link is down, that is it: nobody waits for Redis here.
            with suppress(Exception):
                await self._probe_links()  # what was published before has been delivered then
            with suppress(Exception):
                await self._presence.close()
            self._publisher.stop()
            self._probe.stop()
            self._events = None
            await gatherResults([self._commands.stop(), self._messages.stop()])

    def time(self, room: str) -> float:
        return self._clock.time()

    def usage(self) -> None:
        """It is Redis that knows: see its ``INFO memory``."""

    def ready(self) -> Deferred[Troubles]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        return Deferred.fromCoroutine(self._ready())

    # Publications

    def publish(
        self, room: str, data: bytes, key: str | None = None, spender: str | None = None
    ) -> Deferred[Published]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        return self._answering(self._publisher.publish(room, data, key), PUBLISHING).addCallback(self._stored)

    def history(self, room: str, question: Question) -> Deferred[History]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        # A room must not know where it stands before it hears what follows.
        confirmed = self._subscriptions.confirmed(room) or succeed(None)
        return self._answering(confirmed.addCallback(lambda _: self._ask(room, question)), READING)

    def signal(self, room: str, data: bytes) -> None:
        if self._accepting:
            self._commands.execute("PUBLISH", self._names.channel(room), b"s" + data).addErrback(_nothing)

    # Rooms

    def subscribe(self, room: str) -> None:
        if self._accepting:
            self._subscriptions.add(room)

    def unsubscribe(self, room: str) -> None:
        if self._accepting:
            self._subscriptions.remove(room)

    def enter(self, room: str, member: str, handle: str) -> None:
        if self._accepting:
            self._presence.enter(room, member, handle)

    def leave(self, room: str, member: str) -> None:
        if self._accepting:
            self._presence.leave(room, member)

    def present(self, room: str) -> Deferred[tuple[str, ...]]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        return self._answering(Deferred.fromCoroutine(self._presence.present(room)), READING)

    # Answers

    def _ask(self, room: str, question: Question) -> Deferred[History]:
        def ask() -> Deferred[History]:
            answer = self._scripts.call(self._storage.ask(room, question))
            return answer.addCallback(partial(self._storage.answer, question))

        # Where a room stands is a short answer, which rooms need to begin.
        return ask() if question == Newest(0) else self._histories.run(ask)

    def _answering(self, answer: Deferred[T], work: Work) -> Deferred[T]:
        self._pending.add(answer)
        return answer.addErrback(self._refused, work)

    def _refused(self, failure: Failure, work: Work) -> Failure:
        self._refusals.refused(work, failure)
        error = failure.value
        return failure if isinstance(error, CancelledError) else Failure(refusal(error))

    def _stored(self, published: Published) -> Published:
        self._refusals.worked(PUBLISHING)
        return published

    # Links

    def _commands_up(self, _: CommandProtocol) -> None:
        self._up_at = self._reactor.seconds()
        self._publisher.up()  # before anything else
        self._presence.up()

    def _commands_down(self) -> None:
        self._presence.down()

    def _messages_up(self, protocol: SubscriberProtocol) -> None:
        self._subscriptions.up(protocol)

    def _messages_down(self) -> None:
        self._subscriptions.down()

    def _paced(self) -> Deferred[None]:
        """Fires when what was asked before has been answered."""
        return self._commands.execute("PING").addBoth(_nothing)

    def _beaten(self) -> None:
        self._presence.beat()
        commands = self._commands.protocol
        if commands is not None and self._subscriptions.live:
            probed = Deferred.fromCoroutine(self._probe_links())
            probed.addCallbacks(self._writes, self._does_not_write, (commands,), errbackArgs=(commands,))

    def _writes(self, _: None, commands: CommandProtocol) -> None:
        commands.is_replica = False
        self._refusals.worked(PUBLISHING)

    def _does_not_write(self, failure: Failure, commands: CommandProtocol) -> None:
        self._refusals.refused(PUBLISHING, failure)
        if commands.is_replica and self._reactor.seconds() - self._up_at >= REPLICA:
            commands.drop("it is a replica still, and the master may be elsewhere by now")

    async def _ready(self) -> Troubles:
        for link in (self._commands, self._messages):
            if link.protocol is None:
                raise ChatError(Reason.TRY_AGAIN, f"no connection to {self._name}: {link.trouble}")
        try:
            troubles: Troubles = ()
            try:
                await self._probe_links()
            except ResponseError as error:
                troubles = (Trouble("writing", f"{self._name} stores nothing: {describe(error)}"),)
            await self._probe.read()
        except CancelledError:
            raise
        except Exception as error:
            raise ChatError(refusal(error).reason, f"{self._name} does not work: {describe(error)}") from error
        return troubles

    async def _probe_links(self) -> None:
        messages = self._messages.protocol
        if not self._subscriptions.live:
            raise UnusableError("messages do not come yet")
        try:
            await self._probe.write()
        except UnusableError as error:
            if messages is not None:
                messages.drop(str(error))
            raise

    # What comes

    def _received(self, name: bytes, payload: bytes) -> None:
        room = self._subscriptions.rooms.get(name)
        events = self._events
        if room is None or events is None:
            if name == self._probe.channel:
                self._probe.heard(payload)
            return
        kind, body = payload[:1], payload[1:]
        if kind == b"p":
            self._tops.delivered(room)
            events.deliver(room, parse(body))
        elif kind == b"s":
            events.signal(room, body)
        elif kind == b"j":
            events.joined(room, body.decode("utf-8", "surrogatepass"))
        elif kind == b"l":
            events.left(room, body.decode("utf-8", "surrogatepass"))
        # Else it is of a later version: nodes may be replaced one by one.

    def _interrupted(self, rooms: list[str]) -> None:
        self._tell(lambda events: events.interrupted(rooms))

    def _resumed(self, rooms: list[str]) -> None:
        self._tell(lambda events: events.resumed(rooms))

    def _top(self, room: str, position: Position) -> None:
        if self._subscriptions.live:
            self._tell(lambda events: events.top(room, position))

    def _tell(self, what: Callable[[RelayEvents], None]) -> None:
        if self._events is not None:
            with self._log.failuresHandled("what the relay called back failed"):
                what(self._events)


def _nothing(_: object) -> None:
    """Whatever it was."""


def _trap_timeout(failure: Failure) -> None:
    failure.trap(defer.TimeoutError)
