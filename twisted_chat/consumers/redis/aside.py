"""Events that workers died of: set aside in Redis, for an operator to look at, to run again or to drop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from twisted_chat.consumers import codec
from twisted_chat.consumers.events import CONNECT, DISCONNECT, Event
from twisted_chat.consumers.names import node_of
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.scripts import BACK
from twisted_chat.relay.redis.scripts import Call

ATTEMPTS: Final = 3
"""Workers that may die of an event."""

ALONE: Final = 2
"""After so many it is run while its worker runs no other one that workers died of: to know which it was."""

MOST: Final = 1_000
"""Events that may be aside. When there is one more, the oldest goes, and the log says so."""

MOST_BYTES: Final = 16 << 20
"""What they may have together, in the same way."""

SHOWN: Final = 1_000
"""Characters of an event's content that are shown."""

PAGE: Final = 100
"""Events that are read from Redis at once, each of which may be large."""


_BEGINNING: Final = re.compile(rb'\["([^"]*)"')
"""Of an event: its name, as scripts read it. What is no event has none."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """One of them.

    id
        what it is called in the list
    at
        when it was set aside, in seconds since 1970
    mailbox
        the connection that it came from, or its own name
    event
        None if it cannot be read
    attempts
        how many workers died of it
    size
        how many bytes it has
    """

    id: str
    at: float
    mailbox: str
    event: Event | None
    attempts: int
    size: int

    def about(self) -> dict[str, Any]:
        """What an operator is shown."""
        event = self.event
        return {
            "id": self.id,
            "at": self.at,
            "attempts": self.attempts,
            "connection": self.mailbox,
            "event": event.id if event is not None else None,
            "channel": event.channel if event is not None else None,
            "bytes": self.size,
            "content": codec.encode(event.content).decode()[:SHOWN] if event is not None else None,
        }


class Aside:
    """All of them. Raises `NotReadyError` when Redis does not answer."""

    def __init__(self, link: QueueLink) -> None:
        self._link: Final = link

    async def all(self) -> list[dict[str, Any]]:
        """What there is, the oldest first, as `SetAside.about` says it."""
        found: list[dict[str, Any]] = []
        first = "-"
        while entries := await self._link.execute("XRANGE", self._link.names.aside, first, "+", "COUNT", PAGE):
            found += (each.about() for each in _read(entries))
            first = f"({entries[-1][0].decode()}"
        return found

    async def replay(self, name: str) -> bool:
        """Have it run again, with no attempts counted; False if there is none of this name."""
        return await self._back(name, replay=True)

    async def drop(self, name: str) -> bool:
        """Forget it; False if there is none of this name."""
        return await self._back(name, replay=False)

    async def _back(self, name: str, *, replay: bool) -> bool:
        names = self._link.names
        for each in _read(await self._link.execute("XRANGE", names.aside, name, name)):
            mailbox, event = each.mailbox.encode(), each.event
            own = event.id.encode() if event is not None else f"aside-{name}".encode()
            # Its connection has gone on, and a connect or a disconnect would not be its first or its last event.
            behind = event is not None and event.channel not in {CONNECT, DISCONNECT}
            call = Call(
                BACK,
                (
                    names.aside,
                    names.aside_amounts,
                    names.connections_key(node_of(each.mailbox).encode()),
                    names.mailbox_key(mailbox),
                    names.mailbox_key(own),
                    names.session_key(own),
                    names.ready,
                    names.waiting,
                    names.bytes,
                ),
                (name, own, int(replay), int(behind)),
            )
            return bool(await self._link.call(call))
        return False


def attempts_of(event: bytes, attempts: bytes | None) -> int:
    """How many workers died of an event, by what ``attempts.lua`` has of its mailbox."""
    if attempts is None:
        return 0
    times, _, name = attempts.split(b" ", 2)
    begins = _BEGINNING.match(event)
    return int(times) if name == (begins[1] if begins else b"") else 0


def decoded(data: bytes) -> Event | None:
    """An event as it stands in the queue; None if it is none."""
    try:
        event = Event.decode(data)
    except (ValueError, TypeError, RecursionError):
        return None
    whole = isinstance(event.id, str) and isinstance(event.channel, str) and isinstance(event.content, dict)
    return event if whole else None


def _read(entries: list[Any]) -> Iterator[SetAside]:
    for name, fields in entries:
        about = dict(zip(fields[::2], fields[1::2], strict=True))
        data = about[b"e"]
        yield SetAside(
            name.decode(),
            int(name.partition(b"-")[0]) / 1000,
            about[b"m"].decode(),
            decoded(data),
            int(about[b"n"]),
            len(data),
        )
