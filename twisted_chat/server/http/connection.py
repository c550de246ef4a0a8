"""One HTTP connection of a client, as its requests share it: whatever is counted per connection is counted here."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address

from twisted_chat.core.limits import limited_address
from twisted_chat.core.session import Allowance
from twisted_chat.server.http.transport import StreamTransport


class HttpConnection:
    """Made when the connection is, for all of its requests and streams.

    address
        the peer's, as limits count it; None on a unix socket
    fresh
        whether something was received since a request was served: then the next one need not wait for its turn
    asked
        whether anything came that was counted as a request, or refused before it was one
    allowance
        what the client may still say here; made for the first request that says something
    """

    __slots__ = ("address", "allowance", "asked", "fresh")

    def __init__(self) -> None:
        self.address: str | None = None
        self.fresh = True
        self.asked = False
        self.allowance: Allowance | None = None

    def made(self, transport: StreamTransport) -> None:
        """Take the address from the transport, which the connection has got now."""
        peer = transport.getPeer()
        if isinstance(peer, IPv4Address | IPv6Address):
            self.address = limited_address(peer.host)
