"""Writing the same bytes to many connections: straight to the socket of each on which nothing waits.

A transport's `write` keeps bytes for the reactor's next turn, which costs several times what sending them does. What
is read of transports here is not public in Twisted, so it is tried out before anyone relies on it; where it is not as
expected, and for every transport that is more than a bare socket, `write` is used.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor

BARE: Final[list[type]] = [tcp.Server]
"""Transports that are a socket and nothing more; no subclass, which may do anything."""

with suppress(ImportError):  # where there are no unix sockets
    from twisted.internet.unix import Server as UnixServer

    BARE.append(UnixServer)


class SocketTransport(Protocol):
    """A `twisted.internet.tcp.Server`: bytes wait in one of the buffers, or nothing does."""

    socket: socket.socket
    connected: int
    dataBuffer: bytes
    _tempDataBuffer: list[bytes]

    def write(self, data: bytes) -> None: ...


class Outlet(Protocol):
    """Where bytes for one connection go. None of it may call back before it returns."""

    @property
    def direct(self) -> SocketTransport | None:
        """The transport whose socket may be written to while nothing waits in it; None when it must not be."""

    def write(self, data: bytes) -> None:
        """Send this after what was written before."""

    def writable(self) -> bool:
        """Whether more than what happens anyway can be taken now."""


def direct(transport: object) -> SocketTransport | None:
    """`transport`, if its socket can be written to around it."""
    if _AS_EXPECTED and type(transport) in BARE and not getattr(transport, "TLS", False):
        return cast("SocketTransport", transport)
    return None


def write_to_each(outlets: Iterable[Outlet], data: bytes) -> None:
    """Send `data` to each, whatever happens to some of them: a connection's end is met later, by the reactor."""
    size = len(data)
    for outlet in outlets:
        transport = outlet.direct
        if transport is None or transport._tempDataBuffer or transport.dataBuffer:
            outlet.write(data)
            continue
        try:
            sent = transport.socket.send(data)
        except OSError:
            sent = 0  # full, or broken
        if sent != size:
            outlet.write(data[sent:])


def write_now(transport: SocketTransport, data: bytes) -> None:
    """Write to one transport, at once if nothing waits in it."""
    if transport.connected and not (transport._tempDataBuffer or transport.dataBuffer):
        try:
            sent = transport.socket.send(data)
        except OSError:
            sent = 0  # as above
        data = data[sent:]
    if data:
        transport.write(data)


def _buffers_as_expected() -> bool:
    """Whether the two buffers of a transport are where bytes wait, and empty when none do."""
    transport: Any = FileDescriptor(cast("Any", object()))
    transport.connected = 1
    transport.startWriting = transport.stopWriting = lambda: None
    transport.writeSomeData = lambda data: min(len(data), 1)

    def waiting() -> list[bool]:
        return [bool(getattr(transport, name, None)) for name in ("_tempDataBuffer", "dataBuffer")]

    seen = [waiting()]
    transport.write(b"ab")
    seen.append(waiting())
    for _ in "ab":
        transport.doWrite()
        seen.append(waiting())
    return seen == [[False, False], [True, False], [False, True], [False, False]]


_AS_EXPECTED: Final = _buffers_as_expected()
