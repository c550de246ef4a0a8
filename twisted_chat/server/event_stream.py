"""A room as server-sent events: the same messages for those that have no WebSocket."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.python.failure import Failure
from twisted.web.http import Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.session import Session
from twisted_chat.metrics import Transport
from twisted_chat.server.connection import Connection, Connections
from twisted_chat.wire import event_stream
from twisted_chat.wire.formats import EVENT_STREAM, Format
from twisted_chat.wire.query import Wish

RETRY: Final = (0.5, 1.5)
"""Seconds, at least and at most, after which a client comes back that the server sent away."""


class EventStream:
    """One client's event stream from one room; a `server.connection.Edge`."""

    transport_name: Transport = "event_stream"
    format: Format = EVENT_STREAM
    throttled = False

    def __init__(self, request: Request, connections: Connections, session: Session, address: str | None) -> None:
        self._request: Final = request
        self._finished = False
        self.connection: Final = Connection(connections, self, session, address)
        self._connections: Final = connections

    def start(self, wish: Wish) -> None:
        """Answer the request with the stream. Raises `ChatError` when the server has connections enough."""
        request = self._request
        self._connections.count.check(self.connection.address)
        request.setHeader("content-type", "text/event-stream")
        # A proxy that compresses holds what it has not filled a block with (RFC 9111 section 5.2.2.6).
        request.setHeader("cache-control", "no-store, no-transform")
        # nginx collects answers before it passes them on, unless it is told not to.
        request.setHeader("x-accel-buffering", "no")
        request.notifyFinish().addBoth(self._over)
        request.registerProducer(self.connection.outbox, True)
        self.send(event_stream.COMMENT)
        self.connection.start(wish)

    def send(self, data: bytes) -> None:
        if not self._finished:
            self._request.write(data)

    def held_bytes(self) -> int:
        channel = cast("Any", self._request).channel
        return 0 if self._finished or channel is None else int(channel.held_bytes())

    def say_goodbye(self, error: ChatError) -> None:
        if error.reason is Reason.TOO_SLOW:
            self.abort()
            return
        wait = random.uniform(*RETRY)  # noqa: S311 - spreads load, not a secret
        self.send(event_stream.retry(wait) + self.format.error(error))
        if not self._finished:
            self._request.unregisterProducer()
            self._request.finish()

    def abort(self) -> None:
        if not self._finished:
            cast("Any", self._request).channel.abortConnection()

    def beat(self, tell: Callable[[], bool]) -> None:
        if not tell() and self.connection.outbox.writable():
            self.send(event_stream.COMMENT)

    def judge(self, beats: int) -> None:
        """Nothing: event streams are not answered. One that is not read is cut by its outbox, or by TCP."""

    def _over(self, result: Failure | None) -> None:
        self._finished = True
        self.connection.ended("client_left")
