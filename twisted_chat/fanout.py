"""Delivery to the live members of a room: encoded once per format, joined per turn of the reactor, written to each.

A frame is queued when its publication arrives; everything that was queued for a room in one turn of the reactor is
joined and written to each member at once. Where that is more than one there is load, and what comes in the next turn is
joined too: to write once for all is most of what can be saved. Whatever changes who is live, or speaks to one member
alone, flushes first, so that order is kept. A room too large for one turn is written to in slices, a turn for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_chat.core.publication import Publication
from twisted_chat.direct import Outlet, write_to_each
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


SLICE: Final = 1_000
"""Members of one room that are written to before others are heard: a few milliseconds."""

PIECE_BYTES: Final = 64 * 1024
"""Bytes that are written to a member at once, unless one frame has more: in between it can say that it is full."""

MOST_QUEUED: Final = 256
"""Publications and events of one room that wait for the end of a turn; at that many they are written at once."""


class _Group:
    """The live members that are sent the same bytes, and what waits to be sent to them."""

    __slots__ = ("members", "queue")

    def __init__(self) -> None:
        self.members: dict[Subscriber, Outlet] = {}
        self.queue: list[bytes] = []


Delivered = Callable[[int, Publication | None], None]


class RoomAudience:
    """The live members of one room; a `core.room.Audience`.

    delivered
        called after each write with how many frames were written to how many members, multiplied, and with the
        publication among them that waited longest, if there is one
    """

    __slots__ = (
        "_delivered",
        "_dirty",
        "_first",
        "_groups",
        "_oldest",
        "_queued",
        "_slices",
        "_turn",
        "_waited",
        "_written",
    )

    def __init__(self, turn: Turn, delivered: Delivered) -> None:
        self._turn: Final = turn
        self._delivered: Final = delivered
        self._groups: dict[tuple[Format, frozenset[Event]], _Group] = {}
        self._slices: deque[tuple[bytes, list[Outlet]]] = deque()
        """What is being written, and to whom it has not been yet."""
        self._first: Publication | None = None
        """The first of those that are queued."""
        self._oldest: Publication | None = None
        """The first of those that are being written."""
        self._queued = 0
        self._written = 0
        self._dirty = False
        """Whether `_end_turn` is going to be called."""
        self._waited = False
        """Whether what is queued has waited for another turn already."""

    def add(self, member: Subscriber) -> None:
        self.flush()
        self._groups.setdefault((member.format, member.events), _Group()).members[member] = member.outlet

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
        """Write what is queued, now and to all."""
        if self._dirty:
            self._go_on()
            self._begin()
            self._go_on()

    def _flush_later(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._turn.at_end(self._end_turn)
        self._queued += 1
        if self._queued >= MOST_QUEUED:
            self.flush()

    def _end_turn(self) -> None:
        if self._queued > 1 and not (self._slices or self._waited):
            self._waited = True
        else:
            if not self._slices:
                self._begin()
            self._go_on(SLICE)
        self._dirty = bool(self._slices or self._queued)
        if self._dirty:
            self._turn.at_end(self._end_turn)

    def _begin(self) -> None:
        """Take what is queued."""
        self._queued = self._written = 0
        self._waited = False
        self._oldest, self._first = self._first, None
        for group in self._groups.values():
            if group.queue:
                outlets = list(group.members.values())
                self._written += len(group.queue) * len(outlets)
                for data in _joined(group.queue):
                    self._slices.extend((data, outlets[at : at + SLICE]) for at in range(0, len(outlets), SLICE))
                group.queue.clear()

    def _go_on(self, most: float = inf) -> None:
        """Write what was taken: all of it, or until `most` members have got something."""
        while self._slices and most > 0:
            data, outlets = self._slices.popleft()
            most -= len(outlets)
            write_to_each(outlets, data)
        if self._written and not self._slices:
            written, self._written = self._written, 0
            self._delivered(written, self._oldest)


def _joined(frames: list[bytes]) -> list[bytes]:
    """Join frames into pieces of `PIECE_BYTES` at most."""
    whole = b"".join(frames)
    if len(whole) <= PIECE_BYTES:
        return [whole]
    pieces: list[list[bytes]] = [[]]
    size = 0
    for frame in frames:
        if size and size + len(frame) > PIECE_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(frame)
        size += len(frame)
    return [b"".join(piece) for piece in pieces]
