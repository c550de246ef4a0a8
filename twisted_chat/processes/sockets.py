"""The listening sockets of several processes, which the supervisor makes and keeps.

Where the system spreads connections over sockets of one port (Linux, ``SO_REUSEPORT``), each process has its own, with
a queue of its own; else they take from one queue. Either way the sockets outlive the processes: who connects while a
process is away waits for it, and is not refused.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet import tcp
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from zope.interface import implementer

from twisted_chat.server.inherited import ReactorLike

SPREADS: Final = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")
"""Other systems have the option too, but give all connections to one of the sockets."""


@implementer(IListeningPort)
class SharedPort:
    """One port and its sockets: as many as there are processes, or one for all of them."""

    def __init__(self, ports: Sequence[Any]) -> None:
        self._ports: Final = ports

    def descriptor(self, process: int) -> int:
        """The socket of a process; they count from 1."""
        descriptor: int = self._ports[(process - 1) % len(self._ports)].fileno()
        return descriptor

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> Deferred[None]:
        closing = gatherResults([maybeDeferred(port.stopListening) for port in self._ports])
        return closing.addCallback(lambda _: None)

    def getHost(self) -> IAddress:
        address: IAddress = self._ports[0].getHost()
        return address


class BindingReactor(ReactorLike):
    """Binds as a reactor does, but takes no connection: they are for others. Each port is a `SharedPort`."""

    def __init__(self, reactor: Any, processes: int, *, spread: bool = SPREADS) -> None:
        super().__init__(reactor)
        self._processes: Final = processes
        self._spread: Final = spread

    def addReader(self, reader: object) -> None:
        """Nobody is waited for here."""

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> SharedPort:
        if not self._spread:
            return self._started(tcp.Port(port, factory, backlog, interface, self))
        try:
            sockets = _bound(port, backlog, interface, self._processes)
        except OSError as error:
            raise CannotListenError(interface, port, error) from None
        return SharedPort([self._adopted(each, factory) for each in sockets])

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: object, backlog: int = 50, interface: str = ""
    ) -> SharedPort:
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> SharedPort:
        from twisted.internet import unix  # which Windows does not have

        return self._started(unix.Port(address, factory, backlog, mode, self, wantPID))  # type: ignore[arg-type]  # Twisted takes both

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> SharedPort:
        with socket.socket(fileno=socket.dup(fileDescriptor)) as listening:
            return SharedPort([self._adopted(listening, factory)])

    def _started(self, port: Any) -> SharedPort:
        port.startListening()
        return SharedPort([port])

    def _adopted(self, listening: socket.socket, factory: IProtocolFactory) -> IListeningPort:
        with listening:  # Twisted makes a copy
            port: Any = self._reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
        port.pauseProducing()
        adopted: IListeningPort = port
        return adopted


def descriptors(ports: Sequence[Any], process: int) -> list[int]:
    """The sockets that a process is to have, one of each port. Processes count from 1."""
    return [port.descriptor(process) if isinstance(port, SharedPort) else port.fileno() for port in ports]


def _bound(port: int, backlog: int, interface: str, count: int) -> list[socket.socket]:
    """So many sockets that listen on one port. Raises `OSError`."""
    family = socket.AF_INET6 if isIPv6Address(interface) else socket.AF_INET
    # What else listens there may let us in beside it; then connections would go to a stranger.
    with _socket(family) as probe:
        probe.bind((interface, port))
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sockets.append(_socket(family))
            sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sockets[-1].bind((interface, port))
            port = sockets[-1].getsockname()[1]
        # Only now: with the first that listens, clients come.
        for each in sockets:
            each.listen(backlog)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _socket(family: socket.AddressFamily) -> socket.socket:
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setblocking(False)
    return made
