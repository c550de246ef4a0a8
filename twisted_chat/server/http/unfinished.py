"""Requests whose bodies have not come whole: what they hold of memory, per connection, per address and in all.

A client decides when the rest of a body comes, so it decides for how long the server keeps what has come. A request
that comes whole in one read is never counted, so a short message is taken also where nothing is left for longer ones.
"""

from __future__ import annotations

from typing import Final

from twisted.web.http import Request

from twisted_chat.server.http.body import BodyBuffer
from twisted_chat.server.http.limits import HttpLimits, Refusal, Refused, too_many_unfinished

REQUEST_BYTES: Final = 4_096
"""Bytes that a request takes without its fields and its body; 4,118 were measured on HTTP/2, 4,900 on HTTP/1.1."""

FIELD_BYTES: Final = 256
"""Bytes that a header field takes besides its text: 230 were measured for names that come once."""


class UnfinishedBytes:
    """The bytes held by all unfinished requests of a site, and by those of each address."""

    def __init__(self, limits: HttpLimits) -> None:
        self.size = 0
        self._limits: Final = limits
        self._by_address: Final[dict[str, int]] = {}

    def connection(self, address: str | None) -> UnfinishedOfConnection:
        """Return an account for a new connection; `address` is None where the address is not known."""
        return UnfinishedOfConnection(self, self._limits, address)

    def refusal(self, address: str | None, more: int) -> Refusal | None:
        """Return why `more` bytes may not be held for `address`, or None."""
        limits = self._limits
        if address is not None and self._by_address.get(address, 0) + more > limits.unfinished_bytes_per_address:
            return too_many_unfinished(429, "of one address", limits.unfinished_bytes_per_address)
        if self.size + more > limits.unfinished_bytes:
            return too_many_unfinished(503, "in all", limits.unfinished_bytes)
        return None

    def add(self, address: str | None, more: int) -> None:
        """Count `more` bytes for `address`; fewer than 0 take bytes back."""
        self.size += more
        if address is not None:
            held = self._by_address.pop(address, 0) + more
            if held:
                self._by_address[address] = held


class UnfinishedOfConnection:
    """The bytes held by the unfinished requests of one connection."""

    def __init__(self, site: UnfinishedBytes, limits: HttpLimits, address: str | None) -> None:
        self._site: Final = site
        self._limits: Final = limits
        self._address: Final = address
        self._requests: Final[dict[Request, int]] = {}
        self._size = 0

    def hold(self, request: Request) -> None:
        """Count what `request` holds by now. Raise `Refused` where that is more than may be held."""
        held = held_bytes(request)
        more = held - self._requests.get(request, 0)
        refusal = None
        most = self._limits.unfinished_bytes_per_connection
        if self._size + more > most:
            refusal = too_many_unfinished(429, "of one connection", most)
        refusal = refusal or self._site.refusal(self._address, more)
        if refusal is not None:
            raise Refused(refusal)
        self._requests[request] = held
        self._add(more)

    def release(self, request: Request) -> None:
        """Forget `request`, which is whole or gone. Do nothing if it is not counted."""
        held = self._requests.pop(request, 0)
        if held:
            self._add(-held)

    def _add(self, more: int) -> None:
        self._size += more
        self._site.add(self._address, more)


def held_bytes(request: Request) -> int:
    """Return the bytes of memory that an unfinished request takes."""
    held = REQUEST_BYTES
    for name, values in request.requestHeaders.getAllRawHeaders():
        held += sum(FIELD_BYTES + len(name) + len(value) for value in values)
    return held + (request.content.held if isinstance(request.content, BodyBuffer) else 0)
