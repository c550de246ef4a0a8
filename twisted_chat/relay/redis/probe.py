"""Whether what goes into Redis through one link comes out through the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_chat.relay.redis.errors import LinkDownError, UnusableError


class Probe:
    """Writes something, and publishes it to our own inbox.

    Two links may lead to two servers, after a fail-over say, and each of them is well; only this finds that out.
    """

    def __init__(
        self, reactor: IReactorTime, execute: Callable[..., Deferred[Any]], key: bytes, inbox: bytes, deadline: float
    ) -> None:
        self._reactor = reactor
        self._execute = execute
        self._key: Final = key
        self._inbox: Final = inbox
        self._deadline: Final = deadline
        self._count = 0
        self._waiting: dict[bytes, Deferred[None]] = {}

    async def run(self) -> None:
        """Raises what Redis has against it, or `UnusableError` when it was not heard in time, or it was stopped."""
        self._count += 1
        token = b"%d" % self._count
        await self._execute("SET", self._key, token, "PX", 10_000)
        heard = self._waiting[token] = Deferred()
        try:
            await self._execute("PUBLISH", self._inbox, token)
            await heard.addTimeout(self._deadline, self._reactor, _unheard)
        finally:
            heard.addErrback(_known)
            del self._waiting[token]

    def heard(self, token: bytes) -> None:
        """Something came to our inbox."""
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def stop(self) -> None:
        """Nothing is heard any more: those that wait for it fail."""
        for waiting in [each for each in self._waiting.values() if not each.called]:
            waiting.errback(LinkDownError())


def _unheard(_: object, seconds: float) -> Failure:
    return Failure(UnusableError(f"what is published was not heard for {seconds:g} seconds"))


def _known(_: Failure) -> None:
    """It was told already that the probe failed, for this or for another reason."""
