"""Bytes that wait for clients to take them, on all connections together: their sum, and its bound."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

DEFAULT_LIMIT: Final = 256 * 1024 * 1024
"""Bytes that may wait on all connections of a site that is given no limit."""

SHARES: Final = 4
"""One address may have one in so many of all bytes that may wait."""

RELIEF: Final = 7 / 8
"""The part of a bound that may still wait when clients have been sent away: it is not reached again at once."""

CHECK_SECONDS: Final = 0.1
"""Seconds from when a bound may have been reached until that is looked into, for all that happens meanwhile."""


class Holder(Protocol):
    """Something for whose client bytes wait: a connection, or what is on it."""

    @property
    def limited_address(self) -> str | None:
        """Address by which the client is limited; None where it has none of its own."""

    def waiting_bytes(self) -> int:
        """Return the bytes that wait now, wherever they do."""

    def give_up(self) -> int:
        """Send the client away, or end its largest answer. Return how many bytes go with that."""


class WaitingBytes:
    """The sum over all holders, measured when somebody wants to know it and when it may be too large.

    A client that reads costs nothing here: only what could not be written at once is reported (`grew`), and never that
    it was taken. So the sum of what was reported since the last measurement and its result is at least what waits, and
    only when that reaches a bound is everything measured again.

    Beyond `limit` clients are given up, from the address for which most waits, those first for which most waits. An
    address for which more than its share of `limit` waits is relieved in the same way, whatever the sum is. Holders
    without an address count for themselves.
    """

    def __init__(self, reactor: IReactorTime, limit: int = DEFAULT_LIMIT) -> None:
        self.limit: Final = limit
        self.share: Final = max(1, limit // SHARES)
        self._reactor: Final = reactor
        self._holders: Final[dict[Holder, None]] = {}
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self._check_call: IDelayedCall | None = None

    def add(self, holder: Holder) -> None:
        self._holders[holder] = None

    def discard(self, holder: Holder) -> None:
        self._holders.pop(holder, None)

    def measure(self) -> int:
        """Return the bytes that wait for all clients."""
        return self._look()[0]

    def grew(self, address: str | None, size: int) -> None:
        """Take note that up to `size` bytes more wait for a client of this address."""
        self._total += size
        most = 0
        if address is not None:
            self._by_address[address] += size
            most = self._by_address[address]
        if (self._total > self.limit or most > self.share) and self._check_call is None:
            self._check_call = self._reactor.callLater(CHECK_SECONDS, self._check_due)

    def check(self) -> None:
        """Measure, and give up clients where more waits than may."""
        total, groups = self._look()
        for group in groups:
            if group.address is not None and group.size > self.share:
                before = group.size
                while group.size > self.share * RELIEF and group.give_up_largest():
                    pass
                total -= before - group.size
        if total <= self.limit:
            return
        largest = [(-group.size, number, group) for number, group in enumerate(groups)]
        heapq.heapify(largest)
        while largest and total > self.limit * RELIEF:
            _, number, group = heapq.heappop(largest)
            before = group.size
            if group.give_up_largest():
                heapq.heappush(largest, (-group.size, number, group))
            total -= before - group.size

    def stop(self) -> None:
        """Look into nothing any more."""
        call, self._check_call = self._check_call, None
        if call is not None:
            call.cancel()

    def _check_due(self) -> None:
        self._check_call = None
        self.check()

    def _look(self) -> tuple[int, list[_Group]]:
        by_address: dict[str, _Group] = {}
        groups: list[_Group] = []
        for holder in self._holders:
            size = holder.waiting_bytes()
            if not size:
                continue
            address = holder.limited_address
            group = None if address is None else by_address.get(address)
            if group is None:
                group = _Group(address)
                groups.append(group)
                if address is not None:
                    by_address[address] = group
            group.add(size, holder)
        self._total = sum(group.size for group in groups)
        self._by_address = Counter({address: group.size for address, group in by_address.items()})
        return self._total, groups


class _Group:
    """Holders of one address, or one that has none."""

    __slots__ = ("_holders", "address", "size")

    def __init__(self, address: str | None) -> None:
        self.address: Final = address
        self.size = 0
        self._holders: list[tuple[int, int, Holder]] = []

    def add(self, size: int, holder: Holder) -> None:
        self.size += size
        heapq.heappush(self._holders, (-size, len(self._holders), holder))

    def give_up_largest(self) -> bool:
        """Give up the holder for which most waits. Return False when there is none left."""
        if not self._holders:
            return False
        size, number, holder = heapq.heappop(self._holders)
        freed = min(-size, holder.give_up())
        self.size -= freed
        if 0 < freed < -size:
            heapq.heappush(self._holders, (size + freed, number, holder))
        return True
