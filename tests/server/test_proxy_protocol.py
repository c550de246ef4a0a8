"""The PROXY header: what is taken, and how what is not is told."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.server.proxy_protocol import BadProxyHeader, ProxyHeaderFactory
from twisted_chat.server.rare_log import LOG_SECONDS

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 12, b"\xc0\0\x02\x07", b"\xc0\0\x02\x01", 1234, 443)


class Behind(Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]  # it is always given
        self.lost = reason


class Connection:
    def __init__(self, factory: ProxyHeaderFactory) -> None:
        self.protocol: Any = factory.buildProtocol(None)
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "198.51.100.9", 5))
        self.protocol.makeConnection(self.transport)
        self.behind: Any = self.protocol.wrappedProtocol

    def send(self, *pieces: bytes) -> Connection:
        for piece in pieces:
            self.protocol.dataReceived(piece)
        if self.transport.disconnected:
            self.protocol.connectionLost()
        return self


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> ProxyHeaderFactory:
    return ProxyHeaderFactory(Factory.forProtocol(Behind), clock)


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    found: list[Any] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("twisted_chat.server.proxy_protocol"):
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 443\r\n", "2001:db8::7"),
        (V2, "192.0.2.7"),
        # The proxy speaks for itself, or knows nobody: then its own address counts.
        (b"PROXY UNKNOWN\r\n", "198.51.100.9"),
        (b"PROXY UNKNOWN ffff:f... whatever\r\n", "198.51.100.9"),
        (SIGNATURE + b"\x20\x00\x00\x00", "198.51.100.9"),
        (SIGNATURE + b"\x21\x00\x00\x03abc", "198.51.100.9"),
    ],
)
def test_a_header_says_whom_a_connection_is_from(factory: ProxyHeaderFactory, header: bytes, host: str) -> None:
    whole = Connection(factory).send(header + b"GET /")
    assert (whole.behind.transport.getPeer().host, whole.behind.received) == (host, b"GET /")
    bytewise = Connection(factory).send(*(bytes([byte]) for byte in header + b"GET /"))
    assert (bytewise.behind.transport.getPeer().host, bytewise.behind.received) == (host, b"GET /")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXYTCP4\r\n",
        b"PROXY TCP5 192.0.2.7 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 12x4 443\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 123456 443\r\n",
        b"PROXY TCP4 somebody 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1234 443\r\n",
        b"PROXY TCP4 \xff 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x31\x11\x00\x00",
        SIGNATURE + b"\x21\x11\x00\x02ab",
        SIGNATURE + b"\x21\x41\x00\x00",
        SIGNATURE + b"\x21\x13\x00\x00",
    ],
)
def test_what_is_no_header_ends_the_connection_and_is_counted(
    factory: ProxyHeaderFactory, lines: list[Any], data: bytes
) -> None:
    connection = Connection(factory).send(data, b"more")
    assert connection.transport.disconnected
    assert connection.behind.received == b""
    assert connection.behind.lost is not None
    assert connection.behind.lost.check(BadProxyHeader)
    (line,) = lines
    assert line["log_level"].name == "warn"
    assert line["peer"] == "198.51.100.9"


def test_the_log_says_it_once_a_minute(factory: ProxyHeaderFactory, clock: Clock, lines: list[Any]) -> None:
    for _ in range(5):
        Connection(factory).send(b"GET / HTTP/1.1\r\n")
    assert [line["unlogged"] for line in lines] == [0]
    clock.advance(LOG_SECONDS)
    Connection(factory).send(b"GET / HTTP/1.1\r\n")
    assert [line["unlogged"] for line in lines] == [0, 4]


@given(st.sampled_from([b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21", b""]), st.binary(max_size=300))
def test_whatever_comes_is_taken_or_refused(beginning: bytes, rest: bytes) -> None:
    connection = Connection(ProxyHeaderFactory(Factory.forProtocol(Behind), Clock())).send(beginning + rest)
    assert connection.transport.disconnected or connection.behind.lost is None
    if connection.transport.disconnected:
        assert connection.behind.received == b""
