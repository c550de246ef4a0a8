"""Whether what goes into Redis through one link comes out through the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_chat.core.publication import Newest
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.redis.errors import LinkDownError, UnusableError
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.publications import Storage
from twisted_chat.relay.redis.scripts import Call

KEPT: Final = HistoryLimits(count=1, age=10.0, keys=10.0)
"""Nothing of a probe is left after so many seconds."""


class Probe:
    """Publishes to a room of this node, as clients do to theirs: by the same script, with keys and a channel alike.

    So whatever keeps a publication from being stored, or from being heard, keeps the probe from it. Two links may also
    lead to two servers, after a fail-over say, and each of them is well; only this finds that out.

    call
        calls a script
    """

    def __init__(
        self, reactor: IReactorTime, names: Names, node: str, call: Callable[[Call], Deferred[Any]], deadline: float
    ) -> None:
        self._room: Final = f"\x00probe/{node}"  # no client can have it: names have no control characters
        self.channel: Final = names.channel(self._room)
        """Where it is heard."""
        self._reactor = reactor
        self._call = call
        self._storage: Final = Storage(names, KEPT)
        self._deadline: Final = deadline
        self._count = 0
        self._waiting: dict[bytes, Deferred[None]] = {}

    async def write(self) -> None:
        """Raises what Redis has against it, or `UnusableError` when it was not heard in time, or it was stopped."""
        self._count += 1
        key = str(self._count)
        token = key.encode()
        heard = self._waiting[token] = Deferred()
        try:
            await self._call(self._storage.publish(self._room, token, key))
            await heard.addTimeout(self._deadline, self._reactor, _unheard)
        finally:
            heard.addErrback(_known)
            del self._waiting[token]

    async def read(self) -> None:
        """Raises what Redis has against reading."""
        await self._call(self._storage.ask(self._room, Newest(1)))

    def heard(self, payload: bytes) -> None:
        """Something came on our channel."""
        waiting = self._waiting.get(payload.rpartition(b":")[2])
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
