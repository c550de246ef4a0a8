"""Delivery to the live members of a room: encoded once per format, joined per turn of the reactor, written to each.

A frame is queued when its publication arrives; everything that was queued for a room in one turn of the reactor is
joined and written to each member at once. Whatever changes who is live, or speaks to one member alone, flushes first,
so that order is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_chat.core.publication import Publication
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire.formats import Event, Format


class Turn:
    """What is to be flushed at the end of this turn of the reactor."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._dirty: list[Callable[[], None]] = []

    def at_end(self, flush: Callable[[], None]) -> None:
        """Call `flush` once, when everything that is ready now has been read."""
        if not self._dirty:
            self._reactor.callLater(0, self._flush)
        self._dirty.append(flush)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for flush in dirty:
            flush()


class _Group:
    """The live members that are sent the same bytes, and what waits to be sent to them."""

    def __init__(self) -> None:
        self.members: dict[Subscriber, None] = {}
        self.queue: list[bytes] = []


class RoomAudience:
    """The live members of one room; a `core.room.Audience`.

    delivered
        called after each write with how many frames were written to how many members, multiplied, and with the
        publication among them that waited longest, if there is one
    """

    def __init__(self, turn: Turn, delivered: Callable[[int, Publication | None], None]) -> None:
        self._turn: Final = turn
        self._delivered: Final = delivered
        self._groups: dict[tuple[Format, frozenset[Event]], _Group] = {}
        self._first: Publication | None = None
        self._dirty = False

    def add(self, member: Subscriber) -> None:
        self.flush()
        self._groups.setdefault((member.format, member.events), _Group()).members[member] = None

    def discard(self, member: Subscriber) -> None:
        key = (member.format, member.events)
        group = self._groups.get(key)
        if group is not None and member in group.members:
            self.flush()
            group.members.pop(member, None)
            if not group.members:
                self._groups.pop(key, None)

    def clear(self) -> Iterable[Subscriber]:
        self.flush()
        groups, self._groups = self._groups, {}
        return [member for group in groups.values() for member in group.members]

    def publish(self, publication: Publication) -> None:
        frames: dict[Format, bytes] = {}
        for (form, _), group in self._groups.items():
            frame = frames.get(form)
            if frame is None:
                frame = frames[form] = form.publication(publication)
            group.queue.append(frame)
        self._first = self._first or publication
        self._flush_later()

    def tell(self, event: Event, data: bytes) -> None:
        """Give an event, JSON of `wire.room`, to those that asked for its kind."""
        for (form, events), group in self._groups.items():
            if event in events:
                group.queue.append(form.event(data))
        self._flush_later()

    def flush(self) -> None:
        """Write what is queued, now."""
        if not self._dirty:
            return
        self._dirty = False
        first, self._first = self._first, None
        written = 0
        for group in list(self._groups.values()):
            if group.queue:
                count = len(group.queue)
                joined = b"".join(group.queue)
                group.queue.clear()
                members = list(group.members)
                for member in members:
                    member.write(joined)
                written += count * len(members)
        if written:
            self._delivered(written, first)

    def _flush_later(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._turn.at_end(self.flush)
