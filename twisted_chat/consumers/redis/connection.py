"""The links to the Redis that has the queue, of nodes and of workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.redis.names import ALL, QueueNames
from twisted_chat.consumers.redis.scripts import PROBE, SCRIPTS
from twisted_chat.relay.redis.endpoints import IRedisReactor, redis_endpoint
from twisted_chat.relay.redis.errors import describe, error_code
from twisted_chat.relay.redis.greeting import Preparation, greet
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.link import Link
from twisted_chat.relay.redis.protocol import Argument, CommandProtocol
from twisted_chat.relay.redis.refusals import QUEUEING, Refusals
from twisted_chat.relay.redis.scripts import Call, ScriptCaller
from twisted_chat.relay.redis.url import RedisServer, parse_url
from twisted_chat.waiting import gather

QUEUE_LIMITS: Final = LinkLimits(command_bytes=16 << 20)
"""What a link of the queue is held to. The events that are on their way in it are also kept by who sends them."""


def queue_server(urls: Sequence[str]) -> RedisServer:
    """The one of several servers that has the queue: the same for all that are given the same ones, in any order.

    Raises `RelayError`.
    """
    return min((parse_url(url) for url in urls), key=lambda server: server.name)


class QueueLink:
    """Commands and scripts, in order. Both fail with `NotReadyError` where nobody knows whether they were done."""

    def __init__(
        self,
        reactor: IRedisReactor,
        server: RedisServer,
        limits: LinkLimits = QUEUE_LIMITS,
        up: Callable[[], None] = lambda: None,
    ) -> None:
        self._link: Final = Link(
            reactor,
            redis_endpoint(reactor, server, limits),
            lambda: CommandProtocol(reactor, limits),
            Preparation(server, SCRIPTS),
            name=f"{server.name} for the queue",
            limits=limits,
            up=lambda _: self._came(up),
            down=self._went,
        )
        self._reactor: Final = reactor
        self.names: Final = QueueNames(server.prefix)
        self._refusals: Final = Refusals(server.name, reactor.seconds)
        self._scripts: Final = ScriptCaller(self._link.execute, SCRIPTS)
        self.up_since: float | None = None
        """When the connection that there is was made; None while there is none."""
        self.waiting: int | None = None
        """How many events there were when somebody looked, of all connections; None: that is not known."""
        self.waiting_bytes: int | None = None
        """How many bytes these had."""
        self.delayed: int | None = None
        """How many events there were whose time had not come."""
        self.delayed_bytes: int | None = None
        """How many bytes these had."""
        self.set_aside: int | None = None
        """How many events were set aside."""

    def start(self) -> Deferred[None]:
        """Fires when it is known whether Redis is there."""
        tried = self._link.tried()
        self._link.start()
        return tried

    def stop(self) -> Deferred[None]:
        return self._link.stop()

    def execute(self, *args: Argument) -> Deferred[Any]:
        return self._link.execute(*args).addErrback(self._not_ready)

    def call(self, call: Call) -> Deferred[Any]:
        return self._scripts.call(call).addCallbacks(self._worked, self._not_ready)

    async def look(self) -> None:
        """Find out how much waits, and whether more can be put in and taken out. Raises `NotReadyError`."""
        self.waiting = self.waiting_bytes = self.delayed = self.delayed_bytes = self.set_aside = None
        asked = [
            self.execute("GET", self.names.waiting),
            self.execute("HGET", self.names.bytes, ALL),
            self.execute("ZCARD", self.names.delayed),
            self.execute("GET", self.names.delayed_bytes),
            self.execute("HGET", self.names.aside_amounts, "count"),
        ]
        numbers = [int(number or 0) for number in await gather(asked)]
        self.waiting, self.waiting_bytes, self.delayed, self.delayed_bytes, self.set_aside = numbers
        await self.call(Call(PROBE, self.names.probe_keys(), ()))

    def _not_ready(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            raise error  # who asked does not want to know any more
        if error_code(error) != "BUSYGROUP":  # another one was faster to make it
            self._refusals.refused(QUEUEING, failure)
        raise NotReadyError(describe(error)) from error

    def _worked(self, reply: Any) -> Any:
        self._refusals.worked(QUEUEING)
        return reply

    def _came(self, up: Callable[[], None]) -> None:
        self.up_since = self._reactor.seconds()
        up()

    def _went(self) -> None:
        self.up_since = None


class BlockingLink:
    """One command at a time, which may wait in Redis for something to happen."""

    def __init__(self, reactor: IRedisReactor, server: RedisServer, limits: LinkLimits = LinkLimits()) -> None:  # noqa: B008 - frozen
        self._link: Final = Link(
            reactor,
            redis_endpoint(reactor, server, limits),
            lambda: CommandProtocol(reactor, limits),
            partial(greet, server=server),
            name=f"{server.name} for waiting",
            limits=limits,
            up=lambda _: None,
            down=lambda: None,
        )

    def start(self) -> Deferred[None]:
        """Fires when it is known whether Redis is there."""
        tried = self._link.tried()
        self._link.start()
        return tried

    def stop(self) -> Deferred[None]:
        return self._link.stop()

    def execute(self, *args: Argument) -> Deferred[Any]:
        """Fails as `CommandProtocol.execute_command` does."""
        return self._link.execute(*args)
