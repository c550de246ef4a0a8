"""Bounds: how much of something, how often, and how many at once."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from twisted_chat.core.errors import ChatError, Reason


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second on average, and at most `burst` at once."""

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        if not 0.0 < self.per_second < float("inf") or self.burst < 1:
            raise ValueError(
                f"a rate is more than 0 a second and at least 1 at once, not {self.per_second} and {self.burst}"
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the server, on by default. Times are seconds, sizes bytes unless they say characters."""

    connections: int = 10_000
    connections_per_address: int = 200
    handshake_timeout: float = 10.0
    idle_timeout: float = 75.0
    header_bytes: int = 16_384
    body_bytes: int = 65_536
    unfinished_bytes: int = 64 << 20
    message_characters: int = 4_096
    handle_characters: int = 64
    key_characters: int = 64
    messages_per_connection: Rate = Rate(10.0, 30)
    messages_per_address: Rate = Rate(50.0, 200)
    frames_per_connection: Rate | None = None
    frames_per_address: Rate | None = None
    incoming_bytes_per_connection: Rate | None = None
    incoming_bytes_per_address: Rate | None = None
    new_rooms_per_address: Rate = Rate(1.0, 1_000)
    new_rooms_per_user: Rate = Rate(0.2, 200)
    stored_bytes_per_address: Rate = Rate(32_768.0, 32 << 20)
    stored_bytes_per_user: Rate = Rate(16_384.0, 16 << 20)
    requests_per_address: Rate = Rate(100.0, 1_000)
    outbox_bytes: int = 1 << 20
    waiting_bytes: int = 256 << 20
    consumer_bytes_per_client: int = 128 << 10
    consumer_bytes: int = 128 << 20
    streams_per_connection: int = 256
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    history_page: int = 200

    @property
    def arrivals(self) -> Rate:
        """How often one address may connect and ask for what it missed: five times with all that it may have."""
        return Rate(max(1.0, self.connections_per_address / 4), 5 * self.connections_per_address)

    @property
    def unfinished_bytes_per_address(self) -> int:
        """What requests of one address may hold that have not come whole: an eighth of all, and at least one body."""
        return max(self.unfinished_bytes // 8, self.unfinished_bytes_per_connection)

    @property
    def unfinished_bytes_per_connection(self) -> int:
        """The same for one connection: a thirty-second of all, and at least one body with its head."""
        return max(self.unfinished_bytes // 32, self.body_bytes + 4 * self.header_bytes)

    @property
    def frame_bytes(self) -> int:
        """The largest WebSocket frame or message taken: a message of the longest length in JSON's widest writing.

        A character outside the basic plane is twelve bytes as two ``\\uXXXX`` escapes.
        """
        return 12 * (self.message_characters + self.handle_characters + self.key_characters) + 256

    @property
    def fragments(self) -> int:
        """The most frames of one message: what the longest one takes in pieces of 64 bytes, and never below 1,024."""
        return max(1_024, self.frame_bytes // 64)

    @property
    def frames_of_connection(self) -> Rate:
        """The WebSocket frames of one connection that are read. No default forbids what the message rates allow."""
        return self.frames_per_connection or _at_least(Rate(200.0, 1_000), self.messages_per_connection, 2)

    @property
    def frames_of_address(self) -> Rate:
        """The same for all connections of one address."""
        return self.frames_per_address or _at_least(Rate(2_000.0, 4_000), self.messages_per_address, 2)

    @property
    def bytes_of_connection(self) -> Rate:
        """The bytes of WebSocket frames of one connection that are read, also enough for its messages."""
        default = Rate(float(1 << 20), 4 << 20)
        return self.incoming_bytes_per_connection or _at_least(default, self.messages_per_connection, self.frame_bytes)

    @property
    def bytes_of_address(self) -> Rate:
        """The same for all connections of one address."""
        default = Rate(float(8 << 20), 32 << 20)
        return self.incoming_bytes_per_address or _at_least(default, self.messages_per_address, self.frame_bytes)


def _at_least(rate: Rate, other: Rate, times: int) -> Rate:
    """Return `rate`, raised to so many times the `other` where that is more."""
    return Rate(max(rate.per_second, times * other.per_second), max(rate.burst, times * other.burst))


class TokenBucket:
    """Lets through `rate.burst` at once and `rate.per_second` over time."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._at = now

    def has(self, now: float) -> bool:
        """Whether one more is within the rate at `now`; takes nothing."""
        self._left = self._refilled(now)
        return self._left >= 1.0

    def take(self, now: float) -> bool:
        """Whether one more is within the rate at `now`; takes it if so."""
        # As `_refilled`, whose call would cost as much again, for each message.
        left, passed, rate = self._left, now - self._at, self._rate
        self._at = now
        if passed > 0.0:
            left += passed * rate.per_second
            if left > rate.burst:
                left = rate.burst
        if left < 1.0:
            self._left = left
            return False
        self._left = left - 1.0
        return True

    def charge(self, amount: float, now: float, most_seconds: float = float("inf")) -> float:
        """Take `amount`, which was used already, even beyond what is left; the bucket then owes it.

        most_seconds
            what is owed beyond so many seconds of the rate is forgiven

        Return the seconds until nothing is owed any more.
        """
        rate = self._rate.per_second
        left = self._left = max(self._refilled(now) - amount, -rate * most_seconds)
        return 0.0 if left >= 0.0 else -left / rate

    def _refilled(self, now: float) -> float:
        """Return what is left at `now`, which becomes the time of the last refill."""
        left, passed, rate = self._left, now - self._at, self._rate
        self._at = now
        if passed > 0.0:  # where an embedding process counts by the wall clock, a step back takes nothing away
            left += passed * rate.per_second
            if left > rate.burst:
                left = rate.burst
        return left

    def empty(self, now: float) -> bool:
        """Return whether `take` would fail at `now`, and take nothing."""
        return self._left + max(0.0, now - self._at) * self._rate.per_second < 1.0

    def wait(self) -> float:
        """Seconds until the next one is within the rate, counted from the last `take`."""
        return max(0.0, (1.0 - self._left) / self._rate.per_second)

    def wait_at(self, now: float) -> float:
        """Seconds until the next one is within the rate, counted from `now`."""
        return max(0.0, self.wait() - max(0.0, now - self._at))

    def full(self, now: float) -> bool:
        """Whether nothing was taken lately: a full bucket need not be kept."""
        return self._left + max(0.0, now - self._at) * self._rate.per_second >= self._rate.burst


class AddressRates:
    """One bucket per address; keeps at most `MOST` addresses and forgets those that were quiet longest."""

    MOST: Final = 65_536

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Whether one more from `address` is within the rate."""
        bucket = self._buckets.get(address)
        if bucket is None:
            return self._bucket(address, now).take(now)
        self._buckets.move_to_end(address)
        return bucket.take(now)

    def charge(self, address: str, amount: float, now: float, most_seconds: float) -> float:
        """Take `amount` from the bucket of `address`, as `TokenBucket.charge` does."""
        return self._bucket(address, now).charge(amount, now, most_seconds)

    def _bucket(self, address: str, now: float) -> TokenBucket:
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._rate, now)
            self._forget(now)
        else:
            self._buckets.move_to_end(address)
        return bucket

    def spent(self, address: str, now: float) -> bool:
        """Return whether `take` would fail for `address` at `now`, and take nothing."""
        bucket = self._buckets.get(address)
        return bucket is not None and bucket.empty(now)

    def wait(self, address: str, now: float) -> float:
        """Seconds from `now` until one more from `address` is within the rate."""
        bucket = self._buckets.get(address)
        return 0.0 if bucket is None else bucket.wait_at(now)

    def _forget(self, now: float) -> None:
        while self._buckets:
            oldest = next(iter(self._buckets))
            if len(self._buckets) <= self.MOST and not self._buckets[oldest].full(now):
                return
            if len(self._buckets) == 1:
                return
            del self._buckets[oldest]


class ConnectionLimits(Protocol):
    """How many connections there may be, in all and from one address."""

    @property
    def connections(self) -> int: ...

    @property
    def connections_per_address(self) -> int: ...


class ConnectionCount:
    """How many connections there are, in all and per address."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._by_address: Counter[str] = Counter()
        self.total = 0

    def check(self, address: str | None) -> None:
        """Raise `ChatError` if there may be no more. None, a unix socket, has no limit of its own."""
        if self.total >= self._limits.connections:
            raise ChatError(
                Reason.TOO_MANY_CONNECTIONS,
                f"this server takes {self._limits.connections} connections and has that many; try again later",
            )
        if address is not None and self._by_address.get(address, 0) >= self._limits.connections_per_address:
            raise ChatError(
                Reason.TOO_MANY_FROM_ADDRESS,
                f"{self._limits.connections_per_address} connections from one address are allowed",
            )

    def enter(self, address: str | None) -> None:
        """Count one more connection, or raise as `check` does."""
        self.check(address)
        self.total += 1
        if address is not None:
            self._by_address[address] += 1

    def leave(self, address: str | None) -> None:
        """The inverse of an `enter` that did not raise."""
        self.total -= 1
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


@lru_cache(maxsize=4_096)  # many connections come from few
def limited_address(host: str) -> str:
    """The address that limits count by: an IPv4 address itself, of IPv6 the /64 that one customer usually holds."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
