"""One connection as a member of a room: what the room says to it, in the format of its wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted_chat.core.publication import Position, Publication
from twisted_chat.core.session import Session
from twisted_chat.direct import Outlet
from twisted_chat.wire import room
from twisted_chat.wire.formats import Event, Format


class Subscriber:
    """A `core.room.Member`. `name` tells connections apart in presence."""

    __slots__ = ("_on_live", "events", "format", "name", "outlet", "session")

    def __init__(
        self,
        name: str,
        session: Session,
        outlet: Outlet,
        form: Format,
        events: frozenset[Event] = frozenset(),
        on_live: Callable[[], None] = lambda: None,
    ) -> None:
        self.name: Final = name
        self.session: Final = session
        self.format: Final = form
        self.events: Final = events
        self.outlet: Final = outlet
        self._on_live = on_live

    def write(self, data: bytes) -> None:
        """Say something to it alone; what its room has queued for all is flushed first by whoever calls."""
        self.outlet.write(data)

    def writable(self) -> bool:
        return self.outlet.writable()

    def receive(self, publications: Sequence[Publication]) -> None:
        self.write(b"".join(map(self.format.publication, publications)))

    def reset(self, position: Position) -> None:
        self.write(self.format.reset(position))

    def live(self, position: Position) -> None:
        start = self.format.start(position)
        if Event.READY in self.events:
            session = self.session
            start += self.format.event(
                room.ready(position, session.identity.handle, writable=session.writable, limits=session.limits)
            )
        if start:
            self.write(start)
        self._on_live()
