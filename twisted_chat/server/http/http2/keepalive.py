"""When an HTTP/2 connection is closed because nothing happens on it, and when it is kept although nothing does."""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_chat.server.http.limits import HttpLimits


class Kept(Protocol):
    """The connection."""

    def busy(self) -> bool:
        """Whether it has open streams."""

    def check_streams(self, now: float) -> None:
        """Look for streams that make no progress."""

    def takes(self) -> bool:
        """Return whether the client has taken some of what was on its way at the last call."""

    def ask(self) -> None:
        """Send a PING."""

    def idle(self) -> None:
        """For `idle_timeout` there was no request: close it."""

    def dead(self) -> None:
        """The client does not answer: cut it off."""


class KeepAlive:
    """Looks once in a while, which makes each deadline late by up to one period.

    Without open streams a connection is idle, whatever frames come: a client that wants to keep it opens another one
    for its next request. With open streams, silent ones like event streams among them, it lives as long as the client
    does: after a period of silence it is asked, and after another one it is dead, unless it still takes what the
    question waits behind.
    """

    def __init__(self, reactor: IReactorTime, limits: HttpLimits, connection: Kept) -> None:
        self._reactor: Final = reactor
        self._limits: Final = limits
        self._connection: Final = connection
        self._heard = True
        self._asked = False
        self._idle_since = reactor.seconds()
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        period = min(self._limits.ping_interval, self._limits.idle_timeout)
        self._call = self._reactor.callLater(period, self._look)

    def stop(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()

    def heard(self) -> None:
        """The client sent something."""
        self._heard = True

    def last_stream_ended(self) -> None:
        self._idle_since = self._reactor.seconds()

    def _look(self) -> None:
        self.start()
        now = self._reactor.seconds()
        if self._connection.busy():
            self._connection.check_streams(now)
            self._check_alive()
        elif now - self._idle_since >= self._limits.idle_timeout:
            self._connection.idle()

    def _check_alive(self) -> None:
        heard, self._heard = self._heard or self._connection.takes(), False
        if heard:
            self._asked = False
        elif self._asked:
            self._connection.dead()
        else:
            self._asked = True
            self._connection.ask()
