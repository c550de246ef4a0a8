"""How long connections are sent away when the server stops: spread out, told when to come back, waited for."""

from __future__ import annotations

import random
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.connection import Connection, Connections

PACE: Final = 0.002
"""Seconds of the drain window that one connection adds: a few clients need not wait for a window made for thousands."""

GRACE: Final = 6.0
"""Seconds after the window in which the last ones may finish their closing handshake."""

RESTART: Final = 0.5
"""Seconds before which no client need try: a restart takes that long."""

_log = Logger()


async def drain(connections: Connections, reactor: IReactorTime, longest: float) -> None:
    """Send every connection away within `longest` seconds; abort those that have not gone `GRACE` seconds later.

    Who comes back at which time is spread over as long a time as it took to send them away.
    """
    leaving = list(connections.open)
    if not leaving:
        return
    window = min(longest, len(leaving) * PACE)
    _log.info("sending {count} clients away within {window:.1f} s", count=len(leaving), window=window)
    random.shuffle(leaving)
    calls = [
        reactor.callLater(window * number / len(leaving), _send_away, connection, window)
        for number, connection in enumerate(leaving)
    ]
    empty: Deferred[None] = Deferred()
    connections.on_empty = lambda: None if empty.called else empty.callback(None)
    deadline = reactor.callLater(window + GRACE, connections.on_empty)
    await empty
    connections.on_empty = lambda: None
    for call in [*calls, deadline]:
        if call.active():
            call.cancel()
    if connections.open:
        _log.warn("{count} clients did not leave and are cut off", count=len(connections.open))
    for connection in list(connections.open):
        connection.edge.abort()


def _send_away(connection: Connection, window: float) -> None:
    wait = RESTART + random.uniform(0, max(1.0, window))  # noqa: S311 - spreads load, not a secret
    connection.close(ChatError(Reason.GOING_AWAY, f"the server restarts; retry={wait:.1f}"))
