"""Finds messages that were lost without a later one that would show it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_chat.core.publication import Position
from twisted_chat.relay.redis.names import Names
from twisted_chat.waiting import gather

EVERY: Final = (25.0, 40.0)
"""Seconds between two rounds, at least and at most."""
EMPTY_ROOM_MS: Final = 600_000
AT_ONCE: Final = 250
"""Rooms that are asked for together."""


class TopCheck:
    """Asks Redis now and then for the newest position of each room, and keeps the positions of these rooms alive.

    rooms
        those to ask for
    told
        is called with each room and its position, but not where a publication came meanwhile: that shows by itself
        whether one before it was lost
    position_ms
        how long a position has to live from now on; 0: for ever
    failed
        is told what Redis has against it
    """

    def __init__(
        self,
        reactor: IReactorTime,
        names: Names,
        execute: Callable[..., Deferred[Any]],
        rooms: Callable[[], Collection[str]],
        told: Callable[[str, Position], None],
        position_ms: int,
        failed: Callable[[Failure], None],
    ) -> None:
        self._reactor = reactor
        self._names: Final = names
        self._execute = execute
        self._rooms = rooms
        self._told = told
        self._position_ms = position_ms
        self._failed = failed
        self._renew_every: Final = max(1, int(position_ms / 1000 / 4 / EVERY[1]))
        self._round = 0
        self._busy = False
        self._asking: set[str] = set()
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        self._next = self._reactor.callLater(random.uniform(*EVERY), self._begin)  # noqa: S311 - spreads load

    def stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def delivered(self, room: str) -> None:
        """A publication came."""
        self._asking.discard(room)

    def _begin(self) -> None:
        self.start()
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._check(list(self._rooms()))).addErrback(self._failed).addBoth(self._ended)

    async def _check(self, rooms: list[str]) -> None:
        renew, self._round = self._round % self._renew_every == 0, self._round + 1
        for begin in range(0, len(rooms), AT_ONCE):
            some = rooms[begin : begin + AT_ONCE]
            self._asking = set(some)
            asked = [self._execute("HMGET", self._names.position_key(room), "e", "o", "t") for room in some]
            for room, reply in zip(some, await gather(asked), strict=True):
                self._found(room, reply, renew=renew)

    def _found(self, room: str, reply: list[bytes | None], *, renew: bool) -> None:
        epoch, offset, tag = reply
        if epoch is None or offset is None or tag is None:
            position = Position("", 0, 0)  # empty: nobody can be there, all prove again that they may go on
        else:
            position = Position(epoch.decode("ascii"), int(offset), int(tag))
            self._keep(room, position, renew=renew)
        if room in self._asking:
            self._told(room, position)

    def _keep(self, room: str, position: Position, *, renew: bool) -> None:
        if not position.offset:
            # Of an earlier version, which kept positions of empty rooms for ten minutes.
            self._execute("PEXPIRE", self._names.position_key(room), EMPTY_ROOM_MS).addErrback(_ignore)
        elif self._position_ms and renew:
            self._execute("PEXPIRE", self._names.position_key(room), self._position_ms).addErrback(_ignore)

    def _ended(self, _: object) -> None:
        self._busy = False
        self._asking.clear()


def _ignore(_: Failure) -> None:
    """It is done again."""
