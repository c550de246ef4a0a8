"""Where HTTP/1.1, HTTP/2 and WebSockets part ways: one site, one port, the same resources for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from zope.interface import implementer

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import ConnectionCount, Rate, limited_address
from twisted_chat.server.http.body import BodyBuffer
from twisted_chat.server.http.fairness import FairTurns
from twisted_chat.server.http.http1 import Http1Channel
from twisted_chat.server.http.http2.channel import H2Channel
from twisted_chat.server.http.limits import CrossOriginFields, HttpLimits
from twisted_chat.server.http.request import ChatRequest
from twisted_chat.server.http.request_rates import Clients, RequestRates
from twisted_chat.server.http.rotation import Work
from twisted_chat.server.http.transport import StreamTransport, client_host, is_secure
from twisted_chat.server.http.unfinished import UnfinishedBytes
from twisted_chat.server.http.waiting import WaitingBytes
from twisted_chat.server.proxy_protocol import BadProxyHeader
from twisted_chat.server.rare_log import RareLog
from twisted_chat.server.tls.certificates import openssl_reason

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4: what an HTTP/2 client sends first. HTTP/1.1 can not start so."""


CLIENT_HELLO: Final = b"\x16"
"""RFC 8446 section 5.1: the record that a TLS client sends first begins so; nothing else does."""

_NOBODY: Final = Protocol()
"""Receives what comes after the end, and does nothing with it."""


class Switch(Protocol):
    """One connection: reads its first bytes, or what TLS negotiated, and passes it on to the protocol for it."""

    _log = Logger()

    def __init__(self, site: ChatSite) -> None:
        self._site: Final = site
        self._first = b""
        self._channel: Http1Channel | H2Channel | None = None
        self._receiver: IProtocol | None = None
        self._deadline: IDelayedCall | None = None
        self._counted = False
        self._address: str | None = None
        self._held: Work | None = None

    def connectionMade(self) -> None:
        self._site.connections.add(self)
        if not self._may_stay():
            self.abort()
            return
        # TLS shakes hands after this.
        self._deadline = self._site.reactor.callLater(self._site.limits.handshake_timeout, self._timed_out)
        if self._site.exhausted(self._address):
            self._hold()

    def dataReceived(self, data: bytes) -> None:
        if self._receiver is None:
            self._first += data
            if self._first.startswith(CLIENT_HELLO) and not is_secure(self.transport):
                self._refuse_tls()
                return
            if not self._chosen():
                return
            data, self._first = self._first, b""
        assert self._receiver is not None
        self._receiver.dataReceived(data)

    def _hold(self) -> None:
        """Read nothing from an address that has asked too much, no TLS handshake either, until it may ask again."""
        assert self._site.rates is not None
        cast("StreamTransport", self.transport).pauseProducing()
        self._held = Work(self._address, self, self._go_on)
        if not self._site.rates.hold(self._held):
            self._held = None
            self._site.refused(Reason.RATE_LIMITED.code)
            self.abort()

    def _go_on(self) -> None:
        self._held = None
        cast("StreamTransport", self.transport).resumeProducing()

    def _may_stay(self) -> bool:
        """Whether the site takes one more connection from this address: those on which nothing is asked count too."""
        host = client_host(self.transport)
        self._address = None if host is None else limited_address(host)
        try:
            self._site.count.enter(self._address)
        except ChatError as error:
            self._site.refused(error.reason.code)
            return False
        self._counted = True
        self._site.waiting_bytes.add(self)
        return True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_deadline()
        if self._held is not None:
            self._site.forget(self._held)
        if self._counted:
            self._site.count.leave(self._address)
            self._site.waiting_bytes.discard(self)
            if not self._asked():
                # A PROXY header has named the client by the time that there is a channel.
                self._site.charge(self._address if self._channel is None else self._channel.connection.address)
        if self._receiver is not None:
            self._receiver.connectionLost(reason)
        elif isinstance(reason.value, BadProxyHeader):
            self._site.refused("bad_proxy_header")
        elif isinstance(reason.value, SSL.Error):
            self._site.tls_failed(openssl_reason(reason.value))
        # A channel can hand us over, so each would keep the other alive.
        self._channel, self._receiver = None, _NOBODY
        # Last: whoever waits for the end of all connections finds their ends handled.
        self._site.connection_lost(self)

    def _asked(self) -> bool:
        """Return whether the connection brought anything that was counted as a request."""
        if self._channel is None:
            return self._receiver is not None and self._receiver is not _NOBODY
        return self._channel.connection.asked

    @property
    def limited_address(self) -> str | None:
        if self._channel is None or self._site.proxied:
            return None  # behind a proxy it is not the client's
        return self._channel.connection.address

    def waiting_bytes(self) -> int:
        """What waits for the client in answers. Long connections, such as WebSockets, count for themselves."""
        return 0 if self._channel is None else self._channel.waiting_bytes()

    def give_up(self) -> int:
        return 0 if self._channel is None else self._channel.give_up()

    def grew(self, size: int) -> None:
        """More bytes wait for the client than before, by at most `size`."""
        self._site.waiting_bytes.grew(self.limited_address, size)

    def hand_over(self, protocol: IProtocol) -> None:
        """From here on `protocol` receives everything, the end of the connection included."""
        self._channel = None
        self._receiver = protocol

    def shutdown(self) -> None:
        """Take no more requests; close when idle. A WebSocket is not touched: its room says goodbye to it."""
        if self._channel is not None:
            self._channel.shutdown()
        elif self._receiver is None:
            self.abort()

    def abort(self) -> None:
        """Close now, whatever is going on."""
        cast("StreamTransport", self.transport).abortConnection()

    def _chosen(self) -> bool:
        """Make the channel for the protocol that the client speaks, if that can be told yet."""
        negotiated: bytes | None = getattr(self.transport, "negotiatedProtocol", None)
        if negotiated is None and len(self._first) < len(PREFACE) and PREFACE.startswith(self._first):
            return False
        left = self._stop_deadline()
        if negotiated == b"h2" or (negotiated is None and self._first.startswith(PREFACE)):
            channel: Http1Channel | H2Channel = H2Channel(self._site, left, self.grew)
        else:
            channel = Http1Channel(self._site, self.hand_over, left, self.grew)
        self._channel = self._receiver = channel
        assert self.transport is not None
        channel.makeConnection(self.transport)
        return True

    def _refuse_tls(self) -> None:
        """End the connection of a client that speaks TLS: it would wait for an answer that it can read."""
        self._site.refused("tls_on_plain_port")
        if (unlogged := self._site.tls_on_plain_port.due()) is not None:
            self._log.warn(
                "connection of {peer} closed: it speaks TLS, and this port does not; use http:// and ws://, or listen "
                "on a tls: port ({unlogged} more since the last such line)",
                peer=self._address or "a local socket",
                unlogged=unlogged,
            )
        self._receiver = _NOBODY
        self.abort()

    def _timed_out(self) -> None:
        self._site.refused("handshake_timeout")
        self.abort()

    def _stop_deadline(self) -> float:
        """Seconds that were left."""
        call, self._deadline = self._deadline, None
        if call is None or not call.active():
            return 0.0
        call.cancel()
        return max(0.0, call.getTime() - self._site.reactor.seconds())


@implementer(IProtocolNegotiationFactory)
class ChatSite(server.Site):
    """Serves `resource` over HTTP/1.1 and HTTP/2, with or without TLS.

    clients
        know whom requests come from; None: from the peers of their connections
    requests
        how often one address may ask for something; None: as often as it wants
    waiting_bytes
        counts and bounds what waits for clients, here and wherever else it is given to
    cross_origin
        returns the fields with which pages of other sites may read answers; None: there are none
    on_refused
        called with a reason for each connection, request or stream that the HTTP layer refuses:
        ``too_many_connections``, ``too_many_from_address``, ``malformed``,
        ``handshake_timeout``, ``target_too_long``, ``header_too_large``, ``body_too_large``, ``body_timeout``,
        ``too_many_unfinished``, ``expectation_failed``, ``not_implemented``, ``rate_limited``, ``bad_handshake``,
        ``bad_proxy_header``, ``tls_on_plain_port``, ``too_many_streams``, ``h2_abuse``, ``ping_timeout``, ``stalled``,
        ``stream_backlog``
    on_tls_failed
        called with OpenSSL's reason for each TLS handshake that failed: ``no_shared_cipher``
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        *,
        reactor: IReactorTime,
        limits: HttpLimits | None = None,
        clients: Clients | None = None,
        requests: Rate | None = None,
        waiting_bytes: WaitingBytes | None = None,
        cross_origin: CrossOriginFields | None = None,
        on_refused: Callable[[str], None] | None = None,
        on_tls_failed: Callable[[str], None] | None = None,
    ) -> None:
        limits = HttpLimits() if limits is None else limits
        super().__init__(
            resource,
            requestFactory=ChatRequest,
            # Bodies are JSON here; Twisted would parse forms before anyone looked at the request.
            parsePOSTFormSubmission=False,
            reactor=reactor,
            timeout=limits.idle_timeout,
        )
        self.limits: Final = limits
        self.connections: Final[set[Switch]] = set()
        self.count: Final = ConnectionCount(limits)
        self.turns: Final = FairTurns(reactor)
        self._clients: Final = clients
        self.proxied: Final = clients is not None and clients.proxied
        self.rates: Final = (
            None if requests is None or clients is None else RequestRates(reactor, requests, self.turns, clients)
        )
        self.waiting_bytes: Final = WaitingBytes(reactor) if waiting_bytes is None else waiting_bytes
        self.unfinished: Final = UnfinishedBytes(limits)
        self.tls_on_plain_port: Final = RareLog(reactor)
        self._cross_origin: Final = cross_origin
        self._on_refused: Final = on_refused
        self._on_tls_failed: Final = on_tls_failed
        self._waiting: list[Deferred[None]] = []
        self._stopping = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        # Twisted's type names its own channel.
        return None if self._stopping else Switch(self)

    def acceptableProtocols(self) -> list[bytes]:
        return [b"h2", b"http/1.1", b"http/1.0"]

    def shutdown(self) -> Deferred[None]:
        """Take no more connections and requests; fires when every connection has ended by itself.

        Idle ones are closed at once, others after the answers under way; WebSockets and event streams stay until
        someone ends them.
        """
        self._stopping = True
        for switch in list(self.connections):
            switch.shutdown()
        finished: Deferred[None] = Deferred()
        self._waiting.append(finished)
        self._check_finished()
        return finished

    def abort(self) -> None:
        """Cut every connection that is left."""
        for switch in list(self.connections):
            switch.abort()

    def connection_lost(self, switch: Switch) -> None:
        self.connections.discard(switch)
        self._check_finished()

    def _check_finished(self) -> None:
        if not self.connections:
            waiting, self._waiting = self._waiting, []
            for finished in waiting:
                finished.callback(None)

    def refused(self, reason: str) -> None:
        if self._on_refused is not None:
            self._on_refused(reason)

    def waiting(self) -> int:
        """Return how many requests wait, for their turn or until the rate of their address allows them."""
        return len(self.turns) + (0 if self.rates is None else len(self.rates))

    def address(self, request: http.Request) -> str | None:
        if self._clients is not None and self.proxied:
            return self._clients.address(request)
        address: str | None = cast("Any", request).channel.connection.address
        return address

    def cross_origin(self, target: bytes, headers: Headers) -> Iterable[tuple[bytes, bytes]]:
        return () if self._cross_origin is None else self._cross_origin(target, headers)

    def charge(self, address: str | None) -> bool:
        return self.rates is None or address is None or self.proxied or self.rates.take(address)

    def exhausted(self, address: str | None) -> bool:
        """Return whether the peer of a new connection may ask nothing for now."""
        return self.rates is not None and not self.proxied and self.rates.exhausted(address)

    def forget(self, work: Work) -> None:
        if self.rates is None:
            self.turns.forget(work)
        else:
            self.rates.forget(work)

    def tls_failed(self, reason: str) -> None:
        if self._on_tls_failed is not None:
            self._on_tls_failed(reason.replace(" ", "_"))

    def getContentFile(self, length: int | None) -> BodyBuffer:
        """Where Twisted puts the body of a request."""
        return BodyBuffer(self.limits)

    def startFactory(self) -> None:
        """Nothing: Twisted's would open an access log and keep a clock for it."""

    def stopFactory(self) -> None:
        """Nothing, as `startFactory`."""

    def log(self, request: http.Request) -> None:
        """Nothing: who serves a request writes its line."""
