"""Turns of the reactor, shared fairly: no client's requests keep those of others waiting, however many come at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_chat.server.http.connection import HttpConnection
from twisted_chat.server.http.rotation import Rotation, Work

TURN_SECONDS: Final = 0.005
"""Seconds that requests which waited may take in one turn of the reactor; then sockets are read and written."""

TURN_REQUESTS: Final = 32
"""Requests that may be served in one turn as they come, and as many of those that waited."""


class FairTurns:
    """Serves the first request of a connection in a turn as it comes, and lets what comes besides wait for later turns.

    What waits is served in rotation over addresses and connections, for `TURN_SECONDS` in each turn. A request waits
    too while others of its address do, or when many connections have been served in the turn already.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor: Final = reactor
        self._rotation: Final = Rotation()
        self._at_once = TURN_REQUESTS
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        """Return how much work waits."""
        return len(self._rotation)

    def take(self, connection: HttpConnection, address: str | None, run: Callable[[], None]) -> Work | None:
        """Call `run` at once, or return the work that it becomes for a later turn.

        What `run` raises when it is called at once passes through.
        """
        if not connection.fresh or not self._at_once or address in self._rotation:
            return self.later(connection, address, run)
        connection.fresh = False
        self._at_once -= 1
        if self._at_once == TURN_REQUESTS // 2:
            # Not for each request: in a server that is not busy it would be a twentieth of what the request costs.
            self._schedule()
        run()
        return None

    def later(self, connection: HttpConnection, address: str | None, run: Callable[[], None]) -> Work:
        """Let `run` wait for its turn."""
        work = Work(address, connection, run)
        self.put(work)
        return work

    def put(self, work: Work) -> None:
        """Let `work` wait for its turn."""
        self._rotation.add(work)
        self._schedule()

    def forget(self, work: Work) -> None:
        """Drop work that nobody waits for any more."""
        self._rotation.discard(work)

    def _schedule(self) -> None:
        if self._call is None:
            self._call = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._call = None
        self._at_once = TURN_REQUESTS
        end = self._reactor.seconds() + TURN_SECONDS
        # Counted too, for the clock may be set back.
        for _ in range(TURN_REQUESTS):
            if not self._rotation:
                break
            with self._log.failuresHandled("a request that waited for its turn failed"):
                self._rotation.take().run()
            if self._reactor.seconds() >= end:
                break
        if self._rotation:
            self._schedule()
