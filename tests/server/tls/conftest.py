"""Certificates for tests, a directory that serves them, and clients that shake hands with it in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, LogLevel, capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from twisted_chat.server.tls import certificates
from twisted_chat.server.tls.certificates import CertificateDirectory

START = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Issued:
    """A certificate and its key; signs others if it may."""

    def __init__(
        self,
        *names: str,
        issuer: Issued | None = None,
        begins: timedelta = -DAY,
        ends: timedelta = 60 * DAY,
        common_name: str = "",
        key: PrivateKey | None = None,
        ca: bool = False,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.subject if issuer else self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START + begins)
            .not_valid_after(START + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([general(name) for name in names]), False)
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, directory: Path, name: str, *chain: Issued) -> None:
        """As a flat directory has it."""
        (directory / f"{name}.crt").write_bytes(b"".join([self.pem, *(each.pem for each in chain)]))
        (directory / f"{name}.key").write_bytes(self.key_pem)


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class EchoFactory(Factory):
    """Knows nothing of ALPN."""

    protocol = Echo


def client_context(alpn: Sequence[str], root: Issued | None) -> ssl.SSLContext:
    """Verifies the server if it knows a `root`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if root is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=root.pem.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TCPTransport(StringTransport):
    """Takes what an HTTP server sets on a TCP connection."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Client:
    """Python's own TLS client, connected to a server in memory."""

    def __init__(
        self,
        directory: CertificateDirectory,
        name: str | None = None,
        *,
        alpn: Sequence[str] = (),
        root: Issued | None = None,
        context: ssl.SSLContext | None = None,
        factory: IProtocolFactory | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        server = TLSMemoryBIOFactory(directory, False, factory or EchoFactory(), clock=Clock())
        server.protocol = TLSMemoryBIOProtocol
        protocol = server.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1234))
        assert protocol is not None
        self._server = protocol
        self._transport = TCPTransport()
        self._server.makeConnection(self._transport)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.context = context or client_context(alpn, root)
        self.tls = self.context.wrap_bio(self._in, self._out, server_hostname=name, session=session)

    def shake(self) -> Client:
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                assert self._pump(), "the server says nothing"
            else:
                self._pump()
                return self
        raise AssertionError("a handshake without end")

    def _pump(self) -> bool:
        if self._out.pending:
            self._server.dataReceived(self._out.read())
        data = self._transport.value()
        self._transport.clear()
        self._in.write(data)
        return bool(data)

    def echo(self, data: bytes) -> bytes:
        self.tls.write(data)
        self._pump()
        return self.tls.read()

    @property
    def certificate(self) -> x509.Certificate:
        der = self.tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


class Server:
    """A directory of certificates as it is served, and its time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.directory = CertificateDirectory(path, self.clock, now=self.now)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock.seconds())

    def serves(self, name: str | None = None) -> x509.Certificate:
        return Client(self.directory, name).shake().certificate

    def poll(self) -> None:
        self.clock.advance(certificates.INTERVAL)


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    """What is logged during the test."""
    with capturedLogs() as events:
        yield events


@pytest.fixture
def texts(log: Sequence[LogEvent]) -> Callable[[LogLevel], list[str]]:
    """The lines that were logged at a level."""

    def texts(level: LogLevel) -> list[str]:
        return [event["log_format"].format(**event) for event in log if event["log_level"] is level]

    return texts
