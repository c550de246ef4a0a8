"""Work that waits, taken in rotation over client addresses, and for each address over its connections."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One piece of work of a client, which waits for its turn.

    address
        the client's; None for all that have none, as on a unix socket
    connection
        whatever tells its connection from others
    """

    address: str | None
    connection: Hashable
    run: Callable[[], None]


class Rotation:
    """Keeps work in the order of its arrival for each connection. Every operation takes the same time for any size."""

    def __init__(self) -> None:
        self._addresses: Final[OrderedDict[str | None, _Connections]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, address: str | None) -> bool:
        """Return whether work of this address waits."""
        return address in self._addresses

    def count(self, address: str | None) -> int:
        """Return how much work of this address waits."""
        connections = self._addresses.get(address)
        return 0 if connections is None else connections.size

    def add(self, work: Work) -> None:
        """Put `work` behind what waits on its connection."""
        connections = self._addresses.get(work.address)
        if connections is None:
            connections = self._addresses[work.address] = _Connections()
        connections.add(work)
        self._size += 1

    def discard(self, work: Work) -> None:
        """Take `work` away, if it still waits."""
        connections = self._addresses.get(work.address)
        if connections is not None and connections.discard(work):
            self._size -= 1
            if not connections.size:
                del self._addresses[work.address]

    def take(self) -> Work:
        """Take the work whose turn it is. Raises `KeyError` when none waits."""
        return self.take_of(next(iter(self._addresses), None))

    def take_of(self, address: str | None) -> Work:
        """Take the work of this address whose turn it is. Raises `KeyError` when none waits."""
        connections = self._addresses[address]
        work = connections.take()
        self._size -= 1
        if connections.size:
            self._addresses.move_to_end(address)
        else:
            del self._addresses[address]
        return work


class _Connections:
    """The work of one address."""

    __slots__ = ("_connections", "size")

    def __init__(self) -> None:
        self._connections: OrderedDict[Hashable, dict[Work, None]] = OrderedDict()
        self.size = 0

    def add(self, work: Work) -> None:
        self._connections.setdefault(work.connection, {})[work] = None
        self.size += 1

    def discard(self, work: Work) -> bool:
        """Take `work` away. Return whether it was there."""
        waiting = self._connections.get(work.connection)
        if waiting is None or work not in waiting:
            return False
        self._remove(work, waiting)
        return True

    def take(self) -> Work:
        connection, waiting = next(iter(self._connections.items()))
        work = next(iter(waiting))
        self._remove(work, waiting)
        if waiting:
            self._connections.move_to_end(connection)
        return work

    def _remove(self, work: Work, waiting: dict[Work, None]) -> None:
        del waiting[work]
        self.size -= 1
        if not waiting:
            del self._connections[work.connection]
