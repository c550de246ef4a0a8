"""Rates of what WebSockets send: frames of every kind and their bytes, per connection and per address."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from twisted_chat.core.limits import AddressRates, Limits, Rate, TokenBucket

LONGEST_ADDRESS_PAUSE: Final = 1.0
"""Seconds for which a connection waits at most because of what others of its address sent."""

EMPTY_FLOODS: Final = Rate(per_second=0.2, burst=60)
"""Pauses of one connection that floods with frames that carry nothing, before it is ended."""


class IncomingLimit(Enum):
    """What a client was beyond; the value is the metric's label."""

    FRAMES_PER_CONNECTION = "frames_per_connection"
    FRAMES_PER_ADDRESS = "frames_per_address"
    BYTES_PER_CONNECTION = "incoming_bytes_per_connection"
    BYTES_PER_ADDRESS = "incoming_bytes_per_address"


_IN_ORDER: Final = (
    IncomingLimit.FRAMES_PER_CONNECTION,
    IncomingLimit.BYTES_PER_CONNECTION,
    IncomingLimit.FRAMES_PER_ADDRESS,
    IncomingLimit.BYTES_PER_ADDRESS,
)
"""The limits as `IncomingMeter.charge` charges them."""


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a client is beyond, and the seconds until it is within all of them again."""

    limit: IncomingLimit
    seconds: float

    @property
    def of_frames(self) -> bool:
        return self.limit in (IncomingLimit.FRAMES_PER_CONNECTION, IncomingLimit.FRAMES_PER_ADDRESS)


class IncomingRates:
    """The rates of all connections of this process."""

    def __init__(self, limits: Limits) -> None:
        self.frames: Final = limits.frames_of_connection
        self.size: Final = limits.bytes_of_connection
        self.frames_by_address: Final = AddressRates(limits.frames_of_address)
        self.size_by_address: Final = AddressRates(limits.bytes_of_address)


class IncomingMeter:
    """What one connection has sent.

    Frames are charged after they were read, some of them together: that costs least, and overruns the limits by no
    more than those.
    """

    __slots__ = ("_address", "_floods", "_frames", "_rates", "_size")

    def __init__(self, rates: IncomingRates, address: str | None, now: float) -> None:
        self._rates = rates
        self._address = address
        self._frames = TokenBucket(rates.frames, now)
        self._size = TokenBucket(rates.size, now)
        self._floods: TokenBucket | None = None

    def charge(self, frames: int, size: int, now: float) -> Excess | None:
        """Charge what was read. Return the limit that is exceeded by most, or None."""
        waits = [self._frames.charge(frames, now), self._size.charge(size, now)]
        if self._address is not None:
            for rates, amount in ((self._rates.frames_by_address, frames), (self._rates.size_by_address, size)):
                waits.append(rates.charge(self._address, amount, now, LONGEST_ADDRESS_PAUSE))
        seconds = max(waits)
        return Excess(_IN_ORDER[waits.index(seconds)], seconds) if seconds else None

    def may_flood(self, now: float) -> bool:
        """Count a pause for frames that carry nothing. Return False once the connection is to be ended."""
        if self._floods is None:
            self._floods = TokenBucket(EMPTY_FLOODS, now)
        return self._floods.take(now)
