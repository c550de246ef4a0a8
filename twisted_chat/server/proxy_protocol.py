"""The PROXY protocol of a proxy in front, versions 1 and 2: Twisted's parsers, with refusals that an operator can read.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.server.rare_log import RareLog

FIRST_VERSION: Final = b"PROXY "
UNKNOWN: Final = b"PROXY UNKNOWN"
LONGEST_LINE: Final = 107
"""Bytes of a version 1 header, line end included."""


class BadProxyHeader(ConnectionAborted):
    """The end of a connection that did not begin with a PROXY header."""


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class ProxyHeaderEndpoint:
    """An endpoint whose connections begin with a PROXY header, which says whom they are from."""

    endpoint: IStreamServerEndpoint
    clock: IReactorTime

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.endpoint.listen(ProxyHeaderFactory(protocolFactory, self.clock))


class ProxyHeaderProtocol(HAProxyProtocolWrapper):
    """One connection. What is behind it learns of a bad header by `BadProxyHeader`, the reason of its end."""

    factory: ProxyHeaderFactory
    _early: bytes | None = b""
    """What came before the version of the header was known; None from then on."""
    _bad: BadProxyHeader | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._bad is not None:
            return
        if self._early is None:
            self._parse(data)
            return
        self._early += data
        if self._early.startswith(b"PROXY"):
            self._read_line(self._early)
        elif self._early.startswith(V2Parser.PREFIX):
            if len(self._early) >= 16:
                self._begin(V2Parser(), self._early)
        elif not (FIRST_VERSION.startswith(self._early) or V2Parser.PREFIX.startswith(self._early)):
            self._refuse("it does not begin with a PROXY header; let the proxy send one, or listen without haproxy:")

    def _read_line(self, data: bytes) -> None:
        line, end, _ = data.partition(b"\r\n")
        if not end:
            if len(data) > LONGEST_LINE:
                self._refuse("its PROXY header has no end")
        elif line == UNKNOWN or line.startswith(UNKNOWN + b" "):
            # Whatever stands behind it must be ignored (section 2.1); Twisted wants something to stand there.
            self._begin(V1Parser(), UNKNOWN + b" " + data[len(line) :])
        else:
            self._begin(V1Parser(), data)

    def _begin(self, parser: V1Parser | V2Parser, data: bytes) -> None:
        self._early = None
        self._parser = parser
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self._proxyInfo is not None:
            self.wrappedProtocol.dataReceived(data)
            return
        assert self._parser is not None
        try:
            info, rest = self._parser.feed(data)
            if info is not None:
                _check(info.source)
                _check(info.destination)
        except Exception:  # noqa: BLE001 - the parsers raise what they trip over: ValueError, KeyError, struct.error
            self._refuse("its PROXY header is malformed")
            return
        self._proxyInfo = info
        if rest:
            self.wrappedProtocol.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        self._bad = BadProxyHeader(why)
        self.factory.refused(self.transport.getPeer() if self.transport is not None else None, why)
        # A wrapper's own goes through what it wraps, which waits for its client.
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason if self._bad is None else Failure(self._bad))


class ProxyHeaderFactory(HAProxyWrappingFactory):
    """All connections of one endpoint; says in the log, now and then, what is wrong with headers."""

    protocol = ProxyHeaderProtocol  # type: ignore[assignment]  # Twisted names the attribute's type too narrowly
    noisy = False
    _log = Logger()

    def __init__(self, wrapped: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(wrapped)
        self._rare: Final = RareLog(clock)

    def refused(self, peer: object, why: str) -> None:
        """Count a connection that is refused, and log it unless another one was lately."""
        if (unlogged := self._rare.due()) is not None:
            self._log.warn(
                "connection of {peer} refused: {why} ({unlogged} more since the last such line)",
                peer=getattr(peer, "host", None) or "a local socket",
                why=why,
                unlogged=unlogged,
            )


def _check(address: object) -> None:
    """Raise `ValueError` for what is no address: it would be believed, and counted by."""
    if isinstance(address, IPv4Address | IPv6Address):
        version = ip_address(address.host).version
        if version != (4 if isinstance(address, IPv4Address) else 6) or not 0 <= address.port <= 65_535:
            raise ValueError("the address is of another family, or its port is none")
