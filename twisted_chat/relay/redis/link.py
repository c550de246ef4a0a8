"""A connection to Redis that comes back."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_chat.relay.redis.errors import LinkDownError, describe
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.protocol import Argument, CommandProtocol

P = TypeVar("P", bound=CommandProtocol)

ATTEMPT: Final = 30.0
"""Seconds that an attempt to connect takes at most."""

SAID_EVERY: Final = 60.0
"""Seconds between two lines that say that a connection was lost, for the same reason as the last time."""


class Link(Generic[P]):
    """Connects, greets, and does it again for ever when that fails or the connection is lost.

    name
        what is at the other end, for the log
    greet
        makes a new connection ready for use, or raises why that cannot be
    up, down
        are told when it is ready, and when it no longer is; `down` only after `up`
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamClientEndpoint,
        make: Callable[[], P],
        greet: Callable[[P], Awaitable[None]],
        *,
        name: str,
        limits: LinkLimits,
        up: Callable[[P], None],
        down: Callable[[], None],
    ) -> None:
        self.trouble: str | None = "not connected yet"
        """Why there is no connection; None while there is one."""
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = _Factory(make)
        self._greet = greet
        self._name: Final = name
        self._limits = limits
        self._told_up = up
        self._told_down = down
        self._protocol: P | None = None
        self._said: str | None = None
        """Why there was no connection, when that was said last."""
        self._said_at = 0.0
        self._is_told = False
        """Whether the last thing that was said is that there is a connection."""
        self._tried: list[Deferred[None]] = []
        self._running: Deferred[None] | None = None
        self._stopping = False

    @property
    def protocol(self) -> P | None:
        """The connection, while it can be used."""
        return self._protocol if self._protocol is not None and self._protocol.usable else None

    def start(self) -> None:
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))
        self._running.addErrback(
            lambda failure: self._log.failure("the link to {name} failed", failure, name=self._name)
        )

    def stop(self) -> Deferred[None]:
        """Close the connection, or stop trying. Fires when nothing of it is left."""
        self._stopping = True
        self._attempted()
        stopped: Deferred[None] = Deferred()
        if self._running is None:
            stopped.callback(None)
        else:
            # A transport that is told to give up while it connects does so in the next turn.
            self._running.addBoth(lambda _: self._reactor.callLater(0, stopped.callback, None))
            self._running.cancel()
        return stopped

    def tried(self) -> Deferred[None]:
        """Fires when the attempt to connect that is under way has come to an end, good or bad."""
        tried: Deferred[None] = Deferred()
        self._tried.append(tried)
        return tried

    def execute(self, *args: Argument) -> Deferred[Any]:
        """See `CommandProtocol.execute_command`."""
        protocol = self._protocol
        return protocol.execute_command(*args) if protocol is not None else fail(LinkDownError())

    def drop(self, reason: str) -> None:
        """The connection that is there now is no good: make another."""
        if self._protocol is not None:
            self._protocol.drop(reason)

    async def _run(self) -> None:
        attempts = 0
        while True:
            began = self._reactor.seconds()
            reason = await self._once()
            if self._stopping:
                return
            # One that breaks again and again right after it was made must not be made ever faster.
            lasted = self._reactor.seconds() - began
            attempts = 1 if lasted > self._limits.deadline + self._limits.last_retry else attempts + 1
            self._ended(reason)
            await deferLater(self._reactor, self._delay(attempts))

    async def _once(self) -> str:
        """From one attempt to the end of its connection; why it ended, whatever that is: it is tried again."""
        try:
            # Most endpoints take care of that themselves; a host name may take for ever to be looked up.
            connecting = self._endpoint.connect(self._factory).addTimeout(ATTEMPT, self._reactor)
            protocol = cast("P", await connecting)
        except Exception as error:  # noqa: BLE001 - see above
            return describe(error)
        try:
            await self._greet(protocol)
            self._begun(protocol)
            return await protocol.lost
        except Exception as error:  # noqa: BLE001 - see above
            return describe(error)
        finally:
            self._finished(protocol)
            await protocol.closed

    def _begun(self, protocol: P) -> None:
        if not protocol.usable:
            return  # it was lost as its last greeting was answered
        self._protocol = protocol
        self.trouble = None
        if not self._is_told:
            self._is_told = True
            self._log.info("connected to {name}", name=self._name)
        self._told_up(protocol)
        self._attempted()

    def _finished(self, protocol: P) -> None:
        protocol.drop("it was closed by us")
        if self._protocol is protocol:
            self._protocol = None
            self._told_down()

    def _ended(self, reason: str) -> None:
        self.trouble = reason
        # One that is made and lost again and again for one reason is not told of each time.
        now = self._reactor.seconds()
        if reason != self._said or (self._is_told and now - self._said_at >= SAID_EVERY):
            self._said, self._said_at, self._is_told = reason, now, False
            self._log.warn("no connection to {name}, which is tried again: {reason}", name=self._name, reason=reason)
        self._attempted()

    def _attempted(self) -> None:
        tried, self._tried = self._tried, []
        for each in tried:
            each.callback(None)

    def _delay(self, attempts: int) -> float:
        longest: float = min(self._limits.first_retry * 2.0 ** min(attempts - 1, 30), self._limits.last_retry)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, not a secret


class _Factory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], CommandProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> CommandProtocol:
        return self._make()
