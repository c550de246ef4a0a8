"""Rooms and their members on this node: the one meeting point of the server's edges and the relay."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.publication import History, Position, Publication, Published, Question
from twisted_chat.core.room import Member, Room
from twisted_chat.fanout import Delivered, RoomAudience, Turn
from twisted_chat.message_metrics import Source
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import Relay
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire import room as wire
from twisted_chat.wire.formats import Event

RETRY: Final = (0.2, 1.0)
"""Seconds, at least and at most, until a history that did not answer is asked again."""


def at_once(publishing: Deferred[Published]) -> Published | None:
    """What has been published, if that is known already: a callback would cost more than all else that was done."""
    published = getattr(publishing, "result", None)
    return published if type(published) is Published else None


class RelayArchive:
    """A room's past, as the relay has it; a `core.room.Archive`."""

    _log = Logger()

    def __init__(self, name: str, relay: Relay, reactor: IReactorTime) -> None:
        self.name: Final = name
        self._relay = relay
        self._reactor = reactor
        self._retries: set[IDelayedCall] = set()
        self._closed = False

    def ask(self, question: Question, answered: Callable[[History | None], None]) -> None:
        self._relay.history(self.name, question).addCallbacks(answered, lambda _: answered(None)).addErrback(
            self._failed
        )

    def retry(self, again: Callable[[], None]) -> None:
        def now() -> None:
            self._retries.discard(call)
            again()

        if not self._closed:
            call = self._reactor.callLater(random.uniform(*RETRY), now)  # noqa: S311 - spreads load, not a secret
            self._retries.add(call)

    def close(self) -> None:
        """Nobody asks any more."""
        self._closed = True
        for call in self._retries:
            call.cancel()
        self._retries.clear()

    def _failed(self, failure: Failure) -> None:
        self._log.failure("room {room} failed on an answer of its history", failure, room=self.name)


class HubRoom:
    """A room that has members on this node. What it is made of knows nothing of it: it goes with its last member."""

    def __init__(self, archive: RelayArchive, audience: RoomAudience) -> None:
        self.archive: Final = archive
        self.audience: Final = audience
        self.members: set[Subscriber] = set()
        self.room: Final[Room[Subscriber]] = Room(archive, audience)


class FollowedRoom(RelayArchive):
    """A room that the server itself follows; the `core.room.Audience` of its one member."""

    def __init__(self, name: str, relay: Relay, reactor: IReactorTime) -> None:
        super().__init__(name, relay, reactor)
        self.room: Final[Room[Member]] = Room(self, self)
        self._live: list[Member] = []

    def add(self, member: Member) -> None:
        self._live.append(member)

    def discard(self, member: Member) -> None:
        if member in self._live:
            self._live.remove(member)

    def publish(self, publication: Publication) -> None:
        for member in list(self._live):
            member.receive((publication,))

    def clear(self) -> list[Member]:
        live, self._live = self._live, []
        return live


class Hub:
    """All rooms of this node; what the relay calls back (`relay.interface.RelayEvents`).

    audience
        makes what delivers to the live members of a room
    """

    def __init__(
        self,
        relay: Relay,
        reactor: IReactorTime,
        metrics: Metrics,
        audience: Callable[[Turn, Delivered], RoomAudience] = RoomAudience,
    ) -> None:
        self.rooms: dict[str, HubRoom] = {}
        self._followed: dict[str, FollowedRoom] = {}
        self._relay = relay
        self._reactor = reactor
        self._metrics = metrics
        self._turn = Turn(reactor)
        self._audience = audience

    # What the edges ask for

    def join(self, member: Subscriber, since: Position | None = None, newest: int = 0) -> None:
        """Make it a member of its session's room: first what it missed or the newest so many, then everything."""
        name = member.session.room
        here = self.rooms.get(name)
        if here is None:
            here = self._open(name)
        here.members.add(member)
        self.announce(member)
        here.room.join(member, since, newest)

    def leave(self, member: Subscriber) -> None:
        """It is gone. No harm if it never joined."""
        here = self.rooms.get(member.session.room)
        if here is None or member not in here.members:
            return
        here.room.leave(member)
        here.members.discard(member)
        name = here.archive.name
        self._relay.leave(name, member.name)
        if not here.members:
            del self.rooms[name]
            here.archive.close()
            self._relay.unsubscribe(name)

    def announce(self, member: Subscriber) -> None:
        """Presence: under which handle it is here, as soon as that is known, and when it changes."""
        if member.session.handle is not None:
            self._relay.enter(member.session.room, member.name, member.session.handle)

    def resume(self, member: Subscriber) -> None:
        """It can be written to again."""
        here = self.rooms.get(member.session.room)
        if here is not None:
            here.room.resume(member)

    def publish(
        self, room: str, data: bytes, key: str | None, source: Source, spender: str | None = None
    ) -> Deferred[Published]:
        """Store and deliver; fails with `ChatError`. `source` labels it in the metrics; `spender`: see `Relay`."""
        began = self._reactor.seconds()
        publishing = self._relay.publish(room, data, key, spender)
        if at_once(publishing) is None:
            return publishing.addCallback(self._stored, source, began)
        self._metrics.published(source, self._reactor.seconds() - began)
        return publishing

    def _stored(self, published: Published, source: Source, began: float) -> Published:
        self._metrics.published(source, self._reactor.seconds() - began)
        return published

    def has_begun(self, room: str) -> bool:
        """Return whether a room is known to have messages: one that has no members here may have some too."""
        here = self.rooms.get(room)
        return here is not None and here.room.position is not None and here.room.position.offset > 0

    def history(self, room: str, question: Question) -> Deferred[History]:
        """Ask about a room's past; fails with `ChatError`."""
        return self._relay.history(room, question)

    def present(self, room: str) -> Deferred[tuple[str, ...]]:
        """The handles that are in a room, on all nodes."""
        return self._relay.present(room)

    def flush(self, room: str) -> None:
        """Write what is queued for a room's members: something that one of them is told may not overtake it."""
        here = self.rooms.get(room)
        if here is not None:
            here.audience.flush()

    def typing(self, room: str, handle: str) -> None:
        """Tell a room that someone is typing."""
        self._relay.signal(room, wire.typing(handle))

    def reply(self, member: Subscriber, data: bytes) -> None:
        """Say something to one member alone, after what was queued for all."""
        here = self.rooms.get(member.session.room)
        if here is not None:
            here.audience.flush()
        member.write(data)

    def repeat(self, member: Subscriber, publication: Publication) -> bool:
        """Give a publication of its room to one member once more, which does not say what follows it.

        One that is ahead of the member is not given: it comes in its place, and would overtake what is before it.
        Return False while that cannot be told: the member catches up, or is about to, for the room has another history.
        """
        here = self.rooms.get(member.session.room)
        at, position = None if here is None else here.room.standing(member), publication.position
        if at is None or at.epoch != position.epoch:
            return False
        if position.offset <= at.offset:
            self.reply(member, member.format.publication(publication))
        return True

    def follow(self, room: str, member: Member, newest: int) -> None:
        """Make something of the server's own the member of a room that no client can have: it counts as nobody.

        First it is given the newest so many publications.
        """
        here = self._followed[room] = FollowedRoom(room, self._relay, self._reactor)
        self._relay.subscribe(room)
        here.room.sync()
        here.room.join(member, newest=newest)

    def unfollow(self, room: str) -> None:
        """The inverse; no harm if it was not followed."""
        here = self._followed.pop(room, None)
        if here is not None:
            here.close()
            self._relay.unsubscribe(room)

    def member_count(self) -> int:
        """How many members all rooms of this node have."""
        return sum(len(here.members) for here in self.rooms.values())

    def _open(self, name: str) -> HubRoom:
        audience = self._audience(self._turn, partial(self._delivered, name))
        here = self.rooms[name] = HubRoom(RelayArchive(name, self._relay, self._reactor), audience)
        self._relay.subscribe(name)
        here.room.sync()
        return here

    def _delivered(self, room: str, count: int, first: Publication | None) -> None:
        self._metrics.delivered(count, None if first is None else self._age(room, first))

    def _age(self, room: str, publication: Publication) -> float:
        """Return the seconds since it was stored."""
        return self._relay.time(room) - publication.position.tag / 1e6

    # What the relay calls

    def deliver(self, room: str, publication: Publication) -> None:
        self._metrics.arrived(self._age(room, publication))
        here = self.rooms.get(room) or self._followed.get(room)
        if here is not None:
            here.room.deliver(publication)

    def signal(self, room: str, data: bytes) -> None:
        self._tell(room, Event.TYPING, data)

    def joined(self, room: str, handle: str) -> None:
        self._tell(room, Event.PRESENCE, wire.joined(handle))

    def left(self, room: str, handle: str) -> None:
        self._tell(room, Event.PRESENCE, wire.left(handle))

    def interrupted(self, rooms: Collection[str] | None = None) -> None:
        for here in self._named(rooms):
            here.room.interrupted()

    def resumed(self, rooms: Collection[str] | None = None) -> None:
        for here in self._named(rooms):
            here.room.sync()

    def top(self, room: str, position: Position) -> None:
        here = self.rooms.get(room) or self._followed.get(room)
        if here is not None:
            here.room.check(position)

    def _named(self, names: Collection[str] | None) -> Iterator[HubRoom | FollowedRoom]:
        for rooms in (self.rooms, self._followed):
            # A copy: what is told may open and close rooms.
            yield from [rooms[name] for name in (rooms if names is None else names) if name in rooms]

    def _tell(self, room: str, event: Event, data: bytes) -> None:
        here = self.rooms.get(room)
        if here is not None:
            here.audience.tell(event, data)
