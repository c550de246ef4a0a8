"""Where the events of clients wait for their consumers: the interface of `local.LocalQueue` and `redis.node.NodeQueue`.

The events of one connection are run one after the other, in order; those of different connections at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from twisted_chat.consumers.events import Event


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many events may wait.

    per_connection
        of one connection; at it, nothing more is read from its client until half of them are done
    in_all
        of all connections and channels; at it, nothing more is read from any client, nobody new is let in, and what
        consumers send to channels of their own is tried again
    delayed
        of what is to be sent later, and is not among the others; at it, more of that is tried again
    """

    per_connection: int = 64
    in_all: int = 100_000
    delayed: int = 100_000


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


class Queue(Protocol):
    """Deferreds fail with `NotReadyError` when nobody knows whether it was done; do it again then."""

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        """Take the events of a connection with the numbers from `first` on; those that were taken before are taken.

        The event of a disconnect is always taken, and is the last.
        """

    def room(self, connection: str) -> Deferred[None]:
        """Fires when it makes sense to try again. May be cancelled."""


FAIREST: Final = 8
"""Events of one connection that are run before it is the turn of others that wait."""
