"""One client: who it is, under which name it speaks, and how often it may."""

from __future__ import annotations

from typing import Final

from twisted_chat.core.budget import OVERHEAD, Budget
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import AddressRates, Limits, Rate, TokenBucket
from twisted_chat.core.permissions import Identity
from twisted_chat.core.publication import Published

REFUSALS: Final = Rate(1.0, 100)
"""How many commands of one connection may be refused before the connection is: a loop that ignores errors."""

MOST_OWED: Final = 4_096
"""Bytes of messages that one connection may have taken before they are charged together."""


class Allowance:
    """How much one connection may still say, and have refused; sessions on the same connection share it."""

    __slots__ = ("messages", "refusals")

    def __init__(self, limits: Limits, now: float) -> None:
        self.messages: Final = TokenBucket(limits.messages_per_connection, now)
        self.refusals: Final = TokenBucket(REFUSALS, now)


class Session:
    """A client of one room, for the life of its connection or of one request.

    `handle` is the name it is present under: of its token, else what it said last, else None. `writable` is whether it
    may publish to the room. `allowance` is that of its connection; None: nothing else shares the connection.
    `budget` is what it may store with others of its address and its user; None: whatever it likes.
    """

    def __init__(
        self,
        identity: Identity,
        room: str,
        *,
        address: str | None,
        rates: AddressRates,
        limits: Limits,
        now: float,
        handle: str | None = None,
        allowance: Allowance | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.identity: Final = identity
        self.room: Final = room
        self.writable: Final = room in identity.write
        # On an open server a client says who it is; a token says it itself, or leaves its user nameless.
        self.handle = identity.handle if identity.user is not None else handle
        self.address: Final = address
        self.limits: Final = limits
        self._rates = rates
        self._budget = None if identity.server else budget
        self._owed = 0
        """Bytes of messages that were taken and are not charged to the budget yet."""
        self.spender: Final = _spender(identity, address)
        """Whose share of a relay's space its messages take: its user's, else its address's; None: the server's."""
        self._allowance = Allowance(limits, now) if allowance is None else allowance

    def speak(self, offered: str | None, now: float) -> str:
        """The handle under which this client says one more thing at `now`. Raises `ChatError` if it may not."""
        identity = self.identity
        if not self.writable:
            identity.check_write(self.room)
        handle = identity.handle
        if handle is None:
            if identity.user is not None:
                raise ChatError(Reason.NOT_ALLOWED, "your token names no handle to speak under; it needs info.handle")
            if offered is None:
                raise ChatError(Reason.BAD_HANDLE, '"handle" is missing; send {"handle": "ann", "message": "hi"}')
            handle = offered
        if not identity.server:
            messages = self._allowance.messages
            if not messages.take(now):
                raise _too_fast(messages.wait(), "connection")
            if self.address is not None and not self._rates.take(self.address, now):
                raise _too_fast(1.0, "address")
        self.handle = handle
        return handle

    def spend(self, size: int, now: float, *, began: bool) -> None:
        """Charge a message of `size` bytes to who says it. Raises `ChatError`; see `Budget.spend`."""
        if self._budget is not None:
            self._budget.spend(self.address, self.identity.user, self._owed + size, now, began=began)
        self._owed = 0

    def owe(self, size: int) -> bool:
        """Note a message of `size` bytes, to be charged with later ones. Return False where `spend` has to be called.

        Looking an account up for each message would cost as much as storing it. Only for a room that has begun; what
        is owed at the end is charged by `settle`.
        """
        owed = self._owed + size + OVERHEAD
        if owed > MOST_OWED:
            return False
        self._owed = owed
        return True

    def settle(self, now: float) -> None:
        """Charge what is owed, without asking whether anything is left."""
        if self._budget is not None and self._owed:
            self._budget.charge(self.address, self.identity.user, self._owed, now)
        self._owed = 0

    def stored(self, published: Published, now: float) -> None:
        """Take note of what became of a message: did the room begin with it?"""
        if published.publication.position.offset > 1 or published.duplicate:
            return
        if self._budget is not None:
            self._budget.room_began(self.address, self.identity.user, now)

    def check_head(self, now: float) -> None:
        """Raise `ChatError` where `speak` is going to, whatever is said. Counts nothing."""
        if not self.writable:
            self.identity.check_write(self.room)
        if not self.identity.server and self.address is not None and self._rates.spent(self.address, now):
            raise _too_fast(1.0, "address")

    def idempotency_key(self, key: str | None) -> str | None:
        """What a client's `key` is kept under: the same key of another author is another key."""
        if key is None:
            return None
        user = self.identity.author
        # Whoever has an API key shares none with those that anybody can say the handle of.
        kind = "server" if self.identity.server else "handle"
        author = f"user:{user}" if user is not None else f"{kind}:{self.handle}"
        return f"{author}\x1f{key}"  # which neither of them can contain

    def refuse(self, now: float) -> bool:
        """A command was refused. Whether the connection may go on."""
        return self._allowance.refusals.take(now)


def _spender(identity: Identity, address: str | None) -> str | None:
    if identity.server:
        return None
    if identity.user is not None:
        return f"user:{identity.user}"
    return None if address is None else f"address:{address}"


def _too_fast(wait: float, whose: str) -> ChatError:
    return ChatError(Reason.RATE_LIMITED, f"too many messages from this {whose}; try again in {wait:.1f} seconds")
