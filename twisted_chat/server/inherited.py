"""Listening sockets that somebody else made: systemd, or the process that started this one.

Their file, mode and backlog are not ours to change, and what waits in them may be meant for others.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, implementer, providedBy

try:
    from twisted.internet import tcp, unix
except ImportError:  # Windows has no unix sockets
    unix = None  # type: ignore[assignment]  # only looked at where there are


def adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    """Listen on a socket that listens; it is the port's from now on."""
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    if unix is not None and listening.family == socket.AF_UNIX:
        port = _UnixPort(listening, factory, reactor)
        port.startListening()
        return port
    with listening:  # Twisted makes a copy
        adopted: IListeningPort = reactor.adoptStreamPort(descriptor, listening.family, factory)
    return adopted


if unix is not None:

    class _UnixPort(unix.Port):
        """As Twisted's, without what that does to a socket that others use too.

        It makes the file writable to everybody, shortens the queue to 50, and at the end shuts the socket down for
        all who have it and removes the file.
        """

        # Twisted's own way not to do so, which only its ports for TCP take.
        _shouldShutdown = False

        def __init__(self, listening: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
            super().__init__(listening.getsockname(), factory, reactor=reactor)
            self._listening: Final = listening

        def startListening(self) -> None:
            assert self.factory is not None
            self.factory.doStart()
            self.connected = True
            self.socket = self._listening
            self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's ports do
            self.numberAccepts = 100
            self.startReading()

        def connectionLost(self, reason: Any) -> None:
            tcp.Port.connectionLost(self, reason)


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class PassedOnEndpoint:
    """A listening socket of systemd's, as which it is left when the server ends."""

    reactor: object
    descriptor: int

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return execute(adopt, self.reactor, self.descriptor, protocolFactory)


class ReactorLike:
    """A reactor in all but what a subclass does differently."""

    def __init__(self, reactor: Any) -> None:
        self._reactor: Final = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class InheritingReactor(ReactorLike):
    """Listens on the socket that it was given, whatever it is told to listen on."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        super().__init__(reactor)
        self.descriptor: Final = descriptor

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        return adopt(self._reactor, self.descriptor, factory)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        return adopt(self._reactor, self.descriptor, TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        return adopt(self._reactor, self.descriptor, factory)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        # As any reactor it makes a copy, and leaves that one to the caller.
        return adopt(self._reactor, socket.dup(self.descriptor), factory)
