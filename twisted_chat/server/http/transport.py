"""The transports that a site is served over: TCP, TLS, unix sockets, and a PROXY protocol wrapper around each."""

from __future__ import annotations

from typing import Any, Protocol, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, ISSLTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol


class StreamTransport(Protocol):
    """What all of them do. Twisted has no interface for just that: `ITransport` lacks producers and aborting."""

    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def getPeer(self) -> IAddress: ...
    def getHost(self) -> IAddress: ...


class _HalfCloseable(Protocol):
    def loseWriteConnection(self) -> None: ...


def end_writing(transport: StreamTransport) -> None:
    """Say that nothing follows, but keep reading: closing with unread input makes TCP discard what was just written.

    TLS says it with its own close alert, and reads until the peer sent one too. Wrappers pass the half-close of the
    socket below them through, which under TLS would look like an attack.
    """
    if IHalfCloseableDescriptor.providedBy(transport) and not ISSLTransport.providedBy(transport):
        # The interface names what such a descriptor is told, not how it is asked.
        cast("_HalfCloseable", transport).loseWriteConnection()
    else:
        transport.loseConnection()


def held_bytes(transport: Any) -> int:
    """Return the bytes that were written to `transport` and that the system has not taken yet.

    What is read of transports here is not public in Twisted; where it is not there, nothing is counted.
    """
    size = 0
    while isinstance(transport, ProtocolWrapper):
        # Before the handshake, and while OpenSSL wants to read before it writes; it keeps nothing itself.
        size += sum(map(len, getattr(transport, "_appSendBuffer", ())))
        transport = transport.transport
    own = getattr(transport, "held_bytes", None)  # an HTTP/2 stream is its own transport
    if own is not None:
        return size + int(own())
    buffered = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return size + buffered + int(getattr(transport, "_tempDataLen", 0))


def client_host(transport: object) -> str | None:
    """The address of who has just connected; None for a unix socket, and for a proxy that has yet to say whom for."""
    below = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport
    if isinstance(below, ProtocolWrapper):
        return None  # it waits for the PROXY header
    peer = cast("StreamTransport", transport).getPeer()
    return peer.host if isinstance(peer, IPv4Address | IPv6Address) else None


def is_secure(transport: object) -> bool:
    return bool(ISSLTransport.providedBy(transport))
