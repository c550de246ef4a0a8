"""One port for both versions of HTTP: which one a connection gets, and how all of them end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolNegotiationFactory, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import alsoProvides

from twisted_chat.core.limits import Rate
from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import PREFACE, ChatSite, Switch

GET = b"GET / HTTP/1.1\r\nHost: chat.test\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


class Root(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes | int:
        self.channel: Any = request.channel
        return b"hello" if request.path == b"/" else NOT_DONE_YET


@dataclass(frozen=True)
class Clients:
    """Those of proxies, or not."""

    proxied: bool

    def address(self, request: Any) -> str | None:
        return "203.0.113.1"

    def is_server(self, request: Any) -> bool:
        return False


class Transport(StringTransport):
    """Knows what TLS negotiated, and tells its protocol when it is aborted."""

    def __init__(self, negotiated: bytes | None, peer: Any = None) -> None:
        super().__init__(lenient=True, peerAddress=peer)
        self.negotiatedProtocol = negotiated
        self.noDelay = False
        alsoProvides(self, ITCPTransport)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()


class Server:
    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.clock = Clock()
        self.refused: list[str] = []
        self.root = Root()
        self.tls_failures: list[str] = []
        self.site = ChatSite(
            self.root,
            reactor=self.clock,
            limits=limits,
            on_refused=self.refused.append,
            on_tls_failed=self.tls_failures.append,
        )

    def connect(self, negotiated: bytes | None = None, peer: Any = None) -> tuple[Switch, Transport]:
        switch: Switch = self.site.buildProtocol(None)
        transport = Transport(negotiated, peer)
        switch.makeConnection(transport)
        return switch, transport


@pytest.fixture
def server() -> Iterator[Server]:
    """A site in memory. Connections that are left at the end are lost, and must leave no call behind."""
    server = Server()
    yield server
    for switch in list(server.site.connections):
        switch.connectionLost(Failure(ConnectionDone()))
    assert server.clock.getDelayedCalls() == []


# Which protocol


@pytest.mark.parametrize("negotiated", [None, b"http/1.1"])
def test_http1(server: Server, negotiated: bytes | None) -> None:
    switch, transport = server.connect(negotiated)
    switch.dataReceived(GET)
    assert transport.value().startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("negotiated", [None, b"h2"])
def test_http2(server: Server, negotiated: bytes | None) -> None:
    switch, transport = server.connect(negotiated)
    switch.dataReceived(PREFACE + SETTINGS)
    # Its SETTINGS come first, and are acknowledged.
    assert transport.value()[3:5] == b"\4\0"
    assert transport.value().endswith(b"\0\0\0\4\1\0\0\0\0")


def test_http2_byte_by_byte(server: Server) -> None:
    switch, transport = server.connect()
    for byte in PREFACE[:-1]:
        switch.dataReceived(bytes([byte]))
    assert transport.value() == b""
    switch.dataReceived(PREFACE[-1:] + SETTINGS)
    assert transport.value()[3:5] == b"\4\0"


def test_why_tls_failed_is_told(server: Server) -> None:
    switch, _ = server.connect()
    switch.connectionLost(Failure(SSL.Error([("SSL routines", "", "no shared cipher")])))
    switch, _ = server.connect()
    switch.connectionLost(Failure(ConnectionDone()))
    switch, _ = server.connect(b"http/1.1")
    switch.dataReceived(GET)
    switch.connectionLost(Failure(SSL.Error([("SSL routines", "", "bad record mac")])))  # not in the handshake
    assert server.tls_failures == ["no_shared_cipher"]


@pytest.mark.parametrize("first", [b"P", b"PO", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"])
def test_what_only_begins_like_http2_is_http1(server: Server, first: bytes) -> None:
    switch, transport = server.connect()
    switch.dataReceived(first)
    assert transport.value() == b""
    switch.dataReceived(b"x / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 ")


def test_negotiated_http2_without_its_preface_is_refused(server: Server) -> None:
    switch, transport = server.connect(b"h2")
    switch.dataReceived(GET)
    assert transport.disconnecting
    assert server.refused == ["malformed"]


@pytest.mark.parametrize("first", [GET, PREFACE])
def test_small_answers_are_not_delayed(server: Server, first: bytes) -> None:
    switch, transport = server.connect()
    switch.dataReceived(first)
    assert transport.noDelay


def test_both_are_offered_to_tls(server: Server) -> None:
    assert IProtocolNegotiationFactory.providedBy(server.site)
    assert server.site.acceptableProtocols() == [b"h2", b"http/1.1", b"http/1.0"]


# The handshake


@pytest.mark.parametrize("first", [b"", PREFACE[:10]])
def test_client_that_says_nothing_is_cut_off(server: Server, first: bytes) -> None:
    switch, transport = server.connect()
    server.clock.advance(5)
    if first:
        switch.dataReceived(first)
    server.clock.advance(4.9)
    assert not transport.disconnected
    server.clock.advance(0.2)
    assert transport.disconnected
    assert server.refused == ["handshake_timeout"]


@pytest.mark.parametrize("first", [GET[:10], PREFACE])
def test_protocols_have_only_the_rest_of_the_time(server: Server, first: bytes) -> None:
    switch, transport = server.connect()
    server.clock.advance(8)
    switch.dataReceived(first)
    server.clock.advance(1.9)
    assert not transport.disconnecting
    server.clock.advance(0.2)
    assert transport.disconnecting
    assert server.refused == ["handshake_timeout"]


# Handing over


def test_another_protocol_takes_over(server: Server) -> None:
    class Other(Protocol):
        def __init__(self) -> None:
            self.received: list[Any] = []

        def dataReceived(self, data: bytes) -> None:
            self.received.append(data)

        def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - as Twisted's
            self.received.append(reason.type)

    switch, transport = server.connect()
    switch.dataReceived(GET.replace(b"/ ", b"/wait ", 1) + b"early")
    other = Other()
    assert server.root.channel.detach() == (transport, b"early")
    server.root.channel.hand_over(other)
    assert server.clock.getDelayedCalls() == []
    switch.dataReceived(b"x")
    # Its connection is not the site's to close, until everything is cut.
    server.site.shutdown()
    assert not transport.disconnecting
    server.site.abort()
    assert transport.disconnected
    switch.connectionLost(Failure(ConnectionDone()))
    assert other.received == [b"x", ConnectionDone]


# The end


def test_connections_are_known_until_they_are_lost(server: Server) -> None:
    switches = [server.connect()[0] for _ in range(3)]
    assert server.site.connections == set(switches)
    switches[0].dataReceived(GET)
    for switch in switches:
        switch.connectionLost(Failure(ConnectionDone()))
    assert server.site.connections == set()


def test_shutdown_of_no_connections_is_over_at_once(server: Server) -> None:
    first, second = server.site.shutdown(), server.site.shutdown()
    assert first.called
    assert second.called
    assert server.site.buildProtocol(None) is None


def test_shutdown_waits_for_every_connection(server: Server) -> None:
    silent, silent_transport = server.connect()
    busy, busy_transport = server.connect()
    busy.dataReceived(GET.replace(b"/ ", b"/wait ", 1))
    first, second = server.site.shutdown(), server.site.shutdown()
    assert silent_transport.disconnected
    assert not busy_transport.disconnecting
    silent.connectionLost(Failure(ConnectionDone()))
    assert not first.called
    server.site.abort()
    assert busy_transport.disconnected
    busy.connectionLost(Failure(ConnectionDone()))
    assert first.called
    assert second.called


# The site


def test_no_clock_and_no_log_of_twisted(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.site.doStart()
    assert server.clock.getDelayedCalls() == []
    switch, _ = server.connect()
    switch.dataReceived(GET)
    server.site.doStop()
    assert "GET" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("idle_timeout", 0), ("streams", -1), ("body_bytes", 0)])
def test_limits_are_checked(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be more than 0, not {value}"):
        HttpLimits(**{name: value})


# How many there may be


def lose(switch: Switch) -> None:
    switch.connectionLost(Failure(ConnectionDone()))


def ipv4(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 54321)


@pytest.fixture
def few() -> Iterator[Server]:
    """A site that takes six connections, and two from one address."""
    server = Server(HttpLimits(connections=6, connections_per_address=2))
    yield server
    for switch in list(server.site.connections):
        lose(switch)
    assert server.clock.getDelayedCalls() == []
    assert server.site.count.total == 0


def test_an_address_has_so_many_connections(few: Server) -> None:
    """Also such on which nothing is asked."""
    (first, one), (_, other) = (few.connect(peer=ipv4("192.0.2.1")) for _ in range(2))
    third, too_many = few.connect(peer=ipv4("192.0.2.1"))
    assert (one.disconnecting, other.disconnecting, too_many.disconnected) == (False, False, True)
    assert few.refused == ["too_many_from_address"]
    _, elsewhere = few.connect(peer=ipv4("192.0.2.2"))
    assert not elsewhere.disconnected
    # One that was never counted makes no place when it ends, and others do.
    lose(third)
    assert few.connect(peer=ipv4("192.0.2.1"))[1].disconnected
    lose(first)
    switch, again = few.connect(peer=ipv4("192.0.2.1"))
    assert not again.disconnected
    switch.dataReceived(GET)
    assert again.value().endswith(b"hello")


def test_an_ipv6_network_counts_as_one_address(few: Server) -> None:
    peers = [IPv6Address("TCP", f"2001:db8:1:2::{number}", 1) for number in range(1, 4)]
    assert [few.connect(peer=peer)[1].disconnected for peer in peers] == [False, False, True]


def test_sockets_without_an_address_count_in_all_only(few: Server) -> None:
    transports = [few.connect(peer=UNIXAddress(None))[1] for _ in range(7)]
    assert [transport.disconnected for transport in transports] == [False] * 6 + [True]
    assert few.refused == ["too_many_connections"]


def test_a_proxy_that_will_say_for_whom_counts_in_all_only(few: Server) -> None:
    wrapped = WrappingFactory(Factory())
    for number in range(7):
        switch: Switch = few.site.buildProtocol(None)
        transport = Transport(None, ipv4("192.0.2.1"))
        ProtocolWrapper(wrapped, switch).makeConnection(transport)
        assert transport.disconnected is (number == 6)


@pytest.mark.parametrize("proxied", [False, True])
def test_what_waits_counts_for_the_address_unless_it_is_a_proxys(proxied: bool) -> None:
    """However many connections of all may be of one address."""
    site = ChatSite(
        Root(),
        reactor=Clock(),
        limits=HttpLimits(connections=2, connections_per_address=3),
        clients=Clients(proxied),
    )
    switch = site.buildProtocol(None)
    switch.makeConnection(Transport(None, ipv4("192.0.2.1")))
    switch.dataReceived(GET)
    assert switch.limited_address == (None if proxied else "192.0.2.1")
    lose(switch)


def test_a_connection_without_a_request_is_charged_to_whom_a_proxy_header_names() -> None:
    clock = Clock()
    site = ChatSite(Root(), reactor=clock, clients=Clients(False), requests=Rate(1.0, 2))
    wrapped = WrappingFactory(Factory())
    for _ in range(2):
        switch = site.buildProtocol(None)
        ProtocolWrapper(wrapped, switch).makeConnection(Transport(None, ipv4("192.0.2.1")))
        switch.dataReceived(b"GET / HTTP/1.1\r\nHost:")
        lose(switch)
    assert site.exhausted("192.0.2.1")


@pytest.mark.parametrize("pieces", [[b"\x16\x03\x01\x02\x00\x01"], [b"\x16", b"\x03\x03"]])
def test_a_client_that_speaks_tls_is_sent_away_at_once(server: Server, pieces: list[bytes]) -> None:
    switch, transport = server.connect()
    for piece in pieces:
        switch.dataReceived(piece)
    assert transport.disconnected
    assert server.refused == ["tls_on_plain_port"]
