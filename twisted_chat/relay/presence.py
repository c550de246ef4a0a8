"""What of a relay needs no other process: who listens, who is present, and signals."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Publication
from twisted_chat.relay.interface import RelayEvents

_log = Logger()

NOT_RUNNING: Final = "this server is starting or stopping; try again in a moment"


class LocalPresence:
    """Subscriptions, presence and signals of a single process: the part that its relays share.

    A room is forgotten with its last member and its last subscriber: what is kept is bounded by the connections.
    """

    def __init__(self) -> None:
        self._events: RelayEvents | None = None
        self._accepting = False
        self._subscribed: set[str] = set()
        self._present: dict[str, _Present] = {}

    def subscribe(self, room: str) -> None:
        self._subscribed.add(room)

    def unsubscribe(self, room: str) -> None:
        self._subscribed.discard(room)

    def signal(self, room: str, data: bytes) -> None:
        if (events := self._listening(room)) is not None:
            with _log.failuresHandled(_CALLED_BACK, room=room):
                events.signal(room, data)

    def enter(self, room: str, member: str, handle: str) -> None:
        if self._events is None:
            return
        left, joined = self._present.setdefault(room, _Present()).enter(member, handle)
        self._tell(room, left, joined)

    def leave(self, room: str, member: str) -> None:
        present = self._present.get(room)
        if present is None:
            return
        left = present.leave(member)
        if not present.members:
            del self._present[room]
        self._tell(room, left, None)

    def present(self, room: str) -> Deferred[tuple[str, ...]]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        present = self._present.get(room)
        return succeed(tuple(present.handles) if present is not None else ())

    # For the relays

    def _open(self, events: RelayEvents) -> None:
        """From now on questions are answered and `events` is told."""
        self._events = events
        self._accepting = True

    def _close(self) -> None:
        """Nobody is present, and nobody is told any more."""
        self._accepting = False
        self._events = None
        self._subscribed.clear()
        self._present.clear()

    def _deliver(self, room: str, publication: Publication) -> None:
        if (events := self._listening(room)) is not None:
            # One that raises, although it must not, must not cost the others their acknowledgement.
            try:
                events.deliver(room, publication)
            except Exception:  # noqa: BLE001 - whatever it is
                _log.failure(_CALLED_BACK, room=room)

    def _tell(self, room: str, left: str | None, joined: str | None) -> None:
        if (events := self._listening(room)) is not None:
            with _log.failuresHandled(_CALLED_BACK, room=room):
                if left is not None:
                    events.left(room, left)
                if joined is not None:
                    events.joined(room, joined)

    def _listening(self, room: str) -> RelayEvents | None:
        return self._events if room in self._subscribed else None


_CALLED_BACK: Final = "what the relay called back failed in {room}"


class _Present:
    """Who is in one room: the handle of each member; how many members each handle has, in the order they came."""

    __slots__ = ("handles", "members")

    def __init__(self) -> None:
        self.members: dict[str, str] = {}
        self.handles: Counter[str] = Counter()

    def enter(self, member: str, handle: str) -> tuple[str | None, str | None]:
        """The handle that thereby left, and the one that joined."""
        if self.members.get(member) == handle:
            return None, None
        left = self.leave(member)
        self.members[member] = handle
        self.handles[handle] += 1
        return left, handle if self.handles[handle] == 1 else None

    def leave(self, member: str) -> str | None:
        """The handle that left with its last member."""
        handle = self.members.pop(member, None)
        if handle is None:
            return None
        self.handles[handle] -= 1
        if self.handles[handle]:
            return None
        del self.handles[handle]
        return handle


def refused(reason: Reason, message: str) -> Deferred[Any]:
    """A call that is refused at once."""
    return fail(ChatError(reason, message))
