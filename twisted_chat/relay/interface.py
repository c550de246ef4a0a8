"""What a relay is: the one place where a room's order is made, and where publications and presence are kept.

A relay gives every publication its position, keeps it, and calls `RelayEvents.deliver` for it on every node that has
subscribed to the room, also on the node that published. Implementations: `memory`, `sqlite`, `redis`, and several of
them as one in `sharded`. One contract suite (``tests/relay/test_contract.py``) runs on each of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_chat.core.publication import History, Position, Publication, Published, Question

IDEMPOTENCY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much of each room's past is kept: `count` publications, none older than `age` seconds (0: any age).

    keys
        seconds for which the Redis relay remembers idempotency keys, with what was stored under them
    """

    count: int = 1_000
    age: float = 7 * 86_400.0
    keys: float = IDEMPOTENCY_SECONDS


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part that does not work, while the rest does. `message` is for people.

    code
        of a relay: ``writing``: the history is read, and nothing is stored; ``rooms``: some rooms do not work
    """

    code: str
    message: str


Troubles = tuple[Trouble, ...]


class WhenFull(Enum):
    """What becomes of a publication for which there is no space."""

    REFUSE = "refuse"
    """Whoever has more than its share is refused, before the space is used up; what is kept stays."""
    EVICT = "evict"
    """The oldest rooms of whoever has most are forgotten."""


@dataclass(slots=True)
class Usage:
    """What a relay of one process holds: bytes and their bound, and how many rooms it has evicted."""

    bytes: int = 0
    bound: int = 0
    evicted: int = 0


class RelayEvents(Protocol):
    """What a relay calls back, on the reactor's thread. Implementations must not raise."""

    def deliver(self, room: str, publication: Publication) -> None:
        """A publication of a subscribed room, as it was stored; never before `publish` could be acknowledged."""

    def signal(self, room: str, data: bytes) -> None:
        """A signal of a subscribed room (someone is typing), in no fixed order with publications."""

    def joined(self, room: str, handle: str) -> None:
        """The first member of that handle entered a subscribed room."""

    def left(self, room: str, handle: str) -> None:
        """The last member of that handle left a subscribed room."""

    def interrupted(self, rooms: Collection[str] | None = None) -> None:
        """Deliveries of these rooms (None: of all) may have been missed from here on: a link was lost.

        Nothing delivered before it is in doubt.
        """

    def resumed(self, rooms: Collection[str] | None = None) -> None:
        """Deliveries of these rooms (None: of all) come again: each has to prove its position."""

    def top(self, room: str, position: Position) -> None:
        """A subscribed room's newest position is, or was a moment ago, this one: has anything been missed?

        Relays that cannot lose a delivery unseen never call it.
        """


class Relay(Protocol):
    """How publications reach all nodes and outlive them.

    Deferreds fail with `ChatError` only: `TRY_AGAIN` when the relay cannot take or answer it now (nothing was stored,
    or, after a lost link, its outcome is unknown: repeat it with the same key), `STORAGE_FULL` when there is no room.
    """

    durable: bool
    """Whether publications outlive the process."""

    def start(self, events: RelayEvents) -> Deferred[None]:
        """Begin; fires when the relay can be used. Fails with `RelayError` (one line) when it never will."""

    def stop(self) -> Deferred[None]:
        """Finish what was accepted, then release everything. Later calls fail with `TRY_AGAIN`."""

    def time(self, room: str) -> float:
        """Return the time, in Unix seconds, by the clock from which the room's positions have their tags."""

    def usage(self) -> Usage | None:
        """Return what it holds now; None where that is elsewhere."""

    def ready(self) -> Deferred[Troubles]:
        """Fires when the relay answers right now, with what does not work all the same: nothing if it stores, too.

        Finds that out in the way of a publication, and leaves nothing behind. Fails with `ChatError` saying why where
        it does not answer.
        """

    def subscribe(self, room: str) -> None:
        """From now on deliver this room's publications, signals, joins and leaves."""

    def unsubscribe(self, room: str) -> None:
        """Stop delivering. What is under way may still be delivered."""

    def publish(
        self, room: str, data: bytes, key: str | None = None, spender: str | None = None
    ) -> Deferred[Published]:
        """Store and deliver. Fires after it is durable. Within one process, delivery happens before that or in the same
        reactor turn; over a network either may come first.

        `key`: for `IDEMPOTENCY_SECONDS` the same key in the same room is stored once, and answered with what was
        stored the first time (`duplicate`). Publishes of one caller are stored in the order of the calls.

        `spender`: whose share of the space it takes, an address or a user; None: the server's own. A relay that knows
        no shares does not look at it.
        """

    def history(self, room: str, question: Question) -> Deferred[History]:
        """Answer a question about the past. It includes every publication acknowledged before the call."""

    def signal(self, room: str, data: bytes) -> None:
        """Tell every subscriber of the room, now, best effort, kept nowhere."""

    def enter(self, room: str, member: str, handle: str) -> None:
        """Presence: connection `member` (unique text) is in the room as `handle`; again: under another one."""

    def leave(self, room: str, member: str) -> None:
        """Presence: that connection is gone. Unknown members are no error."""

    def present(self, room: str) -> Deferred[tuple[str, ...]]:
        """The distinct handles present in the room, in the order in which they came."""


class RelayError(Exception):
    """The relay cannot start; the message is one readable line that says what to do."""
