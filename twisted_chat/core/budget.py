"""What an address and a user may store: bytes, and rooms that begin with a message of theirs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits, Rate, TokenBucket

OVERHEAD: Final = 200
"""Bytes that a stored message costs besides its data, about the same on all relays."""


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The rates of one kind of spender."""

    whose: str
    rooms: Rate
    bytes: Rate


class _Account:
    """What one spender has left."""

    __slots__ = ("bytes", "rooms", "whose")

    def __init__(self, allowed: _Allowed, now: float) -> None:
        self.whose: Final = allowed.whose
        self.rooms: Final = TokenBucket(allowed.rooms, now)
        self.bytes: Final = TokenBucket(allowed.bytes, now)

    def idle(self, now: float) -> bool:
        """Return whether nothing was spent lately."""
        return self.rooms.full(now) and self.bytes.full(now)


class Budget:
    """Accounts of addresses and users; keeps at most `MOST`, and forgets those that were quiet longest."""

    MOST: Final = 65_536

    def __init__(self, limits: Limits) -> None:
        self._address: Final = _Allowed("address", limits.new_rooms_per_address, limits.stored_bytes_per_address)
        self._user: Final = _Allowed("user", limits.new_rooms_per_user, limits.stored_bytes_per_user)
        self._accounts: OrderedDict[tuple[str, str], _Account] = OrderedDict()

    def spend(self, address: str | None, user: str | None, size: int, now: float, *, began: bool) -> None:
        """Charge a message of `size` bytes to its address and its user, before it is stored.

        A message larger than what is left is taken, and the ones after it wait. `began`: its room is known to have
        messages; in one that may begin with this message, an account must also have a room left.
        Raises `ChatError` (`RATE_LIMITED`).
        """
        accounts = self._of(address, user, now)
        for account in accounts:
            if not account.bytes.has(now):
                raise _spent(account, "bytes are", account.bytes)
            if not began and not account.rooms.has(now):
                raise _spent(account, "new rooms are", account.rooms)
        for account in accounts:
            account.bytes.charge(size + OVERHEAD, now)

    def charge(self, address: str | None, user: str | None, size: int, now: float) -> None:
        """Charge messages of `size` bytes, `OVERHEAD` included, that were stored already. This may leave a debt."""
        for account in self._of(address, user, now):
            account.bytes.charge(size, now)

    def room_began(self, address: str | None, user: str | None, now: float) -> None:
        """Charge a room that began with a message which was stored. This may leave a debt."""
        for account in self._of(address, user, now):
            account.rooms.charge(1, now)

    def _of(self, address: str | None, user: str | None, now: float) -> list[_Account]:
        found = []
        if address is not None:
            found.append(self._account(self._address, address, now))
        if user is not None:
            found.append(self._account(self._user, user, now))
        self._forget(now, len(found))
        return found

    def _account(self, allowed: _Allowed, name: str, now: float) -> _Account:
        key = (allowed.whose, name)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(allowed, now)
        else:
            self._accounts.move_to_end(key)
        return account

    def _forget(self, now: float, used: int) -> None:
        """Forget old accounts, but not the `used` newest ones, which are about to be charged."""
        while len(self._accounts) > used:
            oldest = next(iter(self._accounts))
            if len(self._accounts) <= self.MOST and not self._accounts[oldest].idle(now):
                return
            del self._accounts[oldest]


def _spent(account: _Account, what: str, bucket: TokenBucket) -> ChatError:
    return ChatError(
        Reason.RATE_LIMITED,
        f"too many {what} stored for this {account.whose}; try again in {bucket.wait():.1f} seconds",
    )
