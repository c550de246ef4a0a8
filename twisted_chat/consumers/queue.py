"""Where the events of clients wait for their consumers: the interface of `local.LocalQueue` and `redis.node.NodeQueue`.

The events of one connection are run one after the other, in order; those of different connections at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from twisted_chat.consumers.events import Event
from twisted_chat.core.limits import Limits


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many events may wait, and how many bytes.

    per_connection, bytes_per_connection
        of one connection; at either, nothing more is read from its client until half of that is done. Then an event of
        any size is taken.
    in_all, bytes_in_all
        of all connections and channels; at either, nothing more is read from any client, nobody new is let in, and what
        consumers send to channels of their own is tried again
    delayed
        of what is to be sent later, and is not among the others, but may have as many bytes; at either, more of that is
        tried again

    Bytes are those of the encoded events in Redis, and those that they take in memory in a process.
    """

    per_connection: int = 64
    in_all: int = 100_000
    delayed: int = 100_000
    bytes_per_connection: int = Limits().consumer_bytes_per_client
    bytes_in_all: int = Limits().consumer_bytes


def queue_limits(limits: Limits) -> QueueLimits:
    """As they are configured."""
    return QueueLimits(
        bytes_per_connection=limits.consumer_bytes_per_client,
        bytes_in_all=limits.consumer_bytes,
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of some events of a connection.

    count
        so many of them, from the first on, are in the queue
    room
        whether there is room for more; if not, wait for `Queue.room`
    known
        False: the connection has ended as far as the queue knows, and nothing of it is taken any more
    """

    count: int
    room: bool = True
    known: bool = True


class Aside(Protocol):
    """Events that were set aside, because workers died of them; see `redis.aside.Aside`.

    Raises `NotReadyError` when nobody knows what there is, or whether it was done.
    """

    async def all(self) -> list[dict[str, Any]]:
        """What an operator is shown of each, the oldest first; ``id`` is its name."""

    async def replay(self, name: str) -> bool:
        """Have it run again; False if there is none of this name."""

    async def drop(self, name: str) -> bool:
        """Forget it; False if there is none of this name."""


class Queue(Protocol):
    """Deferreds fail with `NotReadyError` when nobody knows whether it was done; do it again then."""

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        """Take the events of a connection with the numbers from `first` on; those that were taken before are taken.

        The event of a disconnect is always taken, and is the last.
        """

    def room(self, connection: str) -> Deferred[None]:
        """Fires when it makes sense to try again. May be cancelled."""


class Amounts(Protocol):
    """How much is in a queue, for the metrics; None: that is not known now."""

    @property
    def waiting(self) -> int | None:
        """How many events there are, those that run among them."""

    @property
    def waiting_bytes(self) -> int | None:
        """How many bytes these have."""

    @property
    def delayed(self) -> int | None:
        """How many events wait for their time, and are not among these."""

    @property
    def delayed_bytes(self) -> int | None:
        """How many bytes these have."""

    @property
    def set_aside(self) -> int | None:
        """How many events were set aside, because workers died of them."""


FAIREST: Final = 8
"""Events of one connection that are run before it is the turn of others that wait."""
