"""How often one address may ask for something, whatever it is, and what becomes of it when it asks more often."""

from __future__ import annotations

from enum import Enum, auto
from math import ceil
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.http import Request

from twisted_chat.core.limits import AddressRates, Rate
from twisted_chat.server.http.fairness import FairTurns
from twisted_chat.server.http.rotation import Rotation, Work

REFUSED_PART: Final = 10
"""One refusal may be sent at once for so many requests that the rate allows."""

HELD_SECONDS: Final = 10.0
"""Requests of an address that are held are at most as many as its rate allows in this time."""

MOST_HELD: Final = 1_000
"""And never more than this: each has a head and a body."""


class Clients(Protocol):
    """Knows whom requests come from."""

    @property
    def proxied(self) -> bool:
        """Whether connections are those of proxies, which tell for whom each request is."""

    def address(self, request: Request) -> str | None:
        """Return the address that a request is counted under; None: it has none."""

    def is_server(self, request: Request) -> bool:
        """Return whether a request comes with an API key of this server."""


class Verdict(Enum):
    """What becomes of a request."""

    SERVE = auto()
    REFUSE = auto()
    HOLD = auto()
    CUT_OFF = auto()


class RequestRates:
    """One rate for each address, of requests and of all else that costs about as much.

    Beyond it, a tenth as many requests are refused at once. What comes besides is held until the rate allows it, and
    new connections are not read from before, so that nobody can make the server busy with refusals. An address for
    which too much is held already loses the connection on which more comes.

    Behind a proxy nothing is held, as that would hold the requests of others on the same connection: all is refused.
    """

    def __init__(self, reactor: IReactorTime, rate: Rate, turns: FairTurns, clients: Clients) -> None:
        self._reactor: Final = reactor
        self._turns: Final = turns
        self._clients: Final = clients
        self._requests: Final = AddressRates(rate)
        self._refusals: Final = AddressRates(Rate(rate.per_second / REFUSED_PART, max(1, rate.burst // REFUSED_PART)))
        self._per_second: Final = rate.per_second
        self._most_held: Final = min(MOST_HELD, ceil(rate.per_second * HELD_SECONDS))
        self._held: Final = Rotation()
        self._calls: Final[dict[str | None, IDelayedCall]] = {}

    def __len__(self) -> int:
        """Return how many requests and connections are held."""
        return len(self._held)

    def judge(self, request: Request, address: str | None) -> Verdict:
        """Decide about one more request, which is counted."""
        if address is None or self._clients.is_server(request) or self.take(address):
            return Verdict.SERVE
        if self._clients.proxied or self._refusals.take(address, self._reactor.seconds()):
            return Verdict.REFUSE
        return Verdict.HOLD if self._held.count(address) < self._most_held else Verdict.CUT_OFF

    def take(self, address: str) -> bool:
        """Count one more request of an address. Return whether it is within the rate."""
        return address not in self._held and self._requests.take(address, self._reactor.seconds())

    def exhausted(self, address: str | None) -> bool:
        """Return whether one more request would be beyond the rate."""
        if address is None:
            return False
        return address in self._held or self._requests.wait(address, self._reactor.seconds()) > 0.0

    def wait(self, address: str) -> float:
        """Return the seconds until one more request would be within the rate, if no other comes."""
        next_one = self._requests.wait(address, self._reactor.seconds())
        return next_one + self._held.count(address) / self._per_second

    def hold(self, work: Work) -> bool:
        """Let `work` wait until the rate of its address allows it. Return False when too much waits already."""
        if self._held.count(work.address) >= self._most_held:
            return False
        self._held.add(work)
        if work.address not in self._calls:
            self._schedule(work.address)
        return True

    def forget(self, work: Work) -> None:
        """Drop work that is held, or that waits for its turn, for nobody waits for it any more."""
        self._held.discard(work)
        self._turns.forget(work)
        if work.address not in self._held and work.address in self._calls:
            self._calls.pop(work.address).cancel()

    def _schedule(self, address: str | None) -> None:
        assert address is not None
        # Never at once: rounding may leave a little less than one.
        wait = max(0.001, self._requests.wait(address, self._reactor.seconds()))
        self._calls[address] = self._reactor.callLater(wait, self._release, address)

    def _release(self, address: str) -> None:
        del self._calls[address]
        while address in self._held and self._requests.take(address, self._reactor.seconds()):
            self._turns.put(self._held.take_of(address))
        if address in self._held:
            self._schedule(address)
