"""The protocol that is spoken: versions, suites, resumption, ALPN."""

from __future__ import annotations

import json
import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.server.tls.conftest import Client, EchoFactory, Issued, Server, TCPTransport, client_context
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.tls.certificates import CertificateDirectory
from twisted_chat.server.tls.transport import DirectTLS

DAY = timedelta(days=1)


# The protocol


@implementer(IProtocolNegotiationFactory)
class NegotiatingFactory(EchoFactory):
    def acceptableProtocols(self) -> list[bytes]:
        return [b"h2", b"http/1.1"]


def offering(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    return context


@pytest.fixture
def directory(tmp_path: Path) -> CertificateDirectory:
    Issued("a.example").write(tmp_path, "a")
    Issued("b.example").write(tmp_path, "b")
    directory: CertificateDirectory = Server(tmp_path).directory
    return directory


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_and_suites(directory: CertificateDirectory, version: ssl.TLSVersion) -> None:
    tls = Client(directory, "b.example", context=offering(version, "ALL")).shake().tls
    cipher = tls.cipher()
    assert cipher is not None
    assert "GCM" in cipher[0]


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256"])
def test_suites_that_are_refused(directory: CertificateDirectory, suite: str) -> None:
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        Client(directory, "b.example", context=offering(ssl.TLSVersion.TLSv1_2, suite)).shake()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_are_refused(directory: CertificateDirectory) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        Client(directory, context=offering(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")).shake()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a.example", "b.example", None])
def test_sessions_are_resumed(directory: CertificateDirectory, version: ssl.TLSVersion, name: str | None) -> None:
    context = offering(version, "ALL")
    first = Client(directory, name, context=context).shake()
    assert first.echo(b"x") == b"x"
    again = Client(directory, name, context=context, session=first.tls.session).shake()
    assert again.tls.session_reused
    assert again.echo(b"x") == b"x"


@pytest.mark.parametrize("name", ["a.example", "b.example", None])
@pytest.mark.parametrize(
    ("factory", "offered", "chosen"),
    [
        (NegotiatingFactory, ["http/1.1", "h2"], "h2"),
        (NegotiatingFactory, ["http/1.1"], "http/1.1"),
        (NegotiatingFactory, [], None),
        (EchoFactory, ["h2", "http/1.1"], "http/1.1"),
        (EchoFactory, [], None),
    ],
)
def test_alpn(
    directory: CertificateDirectory,
    name: str | None,
    factory: type[Factory],
    offered: list[str],
    chosen: str | None,
) -> None:
    client = Client(directory, name, alpn=offered, factory=factory()).shake()
    assert client.tls.selected_alpn_protocol() == chosen
    assert client.echo(b"hello") == b"hello"


def test_alpn_of_twisteds_site(directory: CertificateDirectory) -> None:
    site = Site(Resource(), reactor=Clock())
    # Which it speaks depends on what else is installed.
    offered = [protocol.decode() for protocol in site.acceptableProtocols()]
    for chosen in offered:
        client = Client(directory, "b.example", alpn=[chosen], factory=site).shake()
        assert client.tls.selected_alpn_protocol() == chosen
    assert "http/1.1" in offered


def test_alpn_without_a_common_protocol(directory: CertificateDirectory) -> None:
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        Client(directory, alpn=["acme-tls/1"], factory=NegotiatingFactory()).shake()


def test_http_1_0_is_negotiated(directory: CertificateDirectory) -> None:
    site = ChatSite(Resource(), reactor=Clock())
    client = Client(directory, "a.example", alpn=["http/1.0"], factory=site).shake()
    assert client.tls.selected_alpn_protocol() == "http/1.0"


def test_http_without_tls_is_answered_in_http(directory: CertificateDirectory) -> None:
    factory = TLSMemoryBIOFactory(directory, False, EchoFactory(), clock=Clock())
    factory.protocol = DirectTLS
    protocol: Any = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1234))
    transport = TCPTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"GET /chat/lobby HTTP/1.1\r\nHost: a.example\r\n\r\n")
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    length = int(re.findall(rb"content-length: (\d+)", head)[0])
    assert json.loads(body[:length])["error"]["code"] == "tls_required"
    assert transport.disconnecting


@pytest.fixture
def two_kinds(tmp_path: Path) -> tuple[Issued, Path]:
    """A root, and a directory with an RSA and an EC certificate for one name, each with an intermediate of its own."""
    root = Issued(common_name="root", ca=True)
    for kind, key in (("rsa", rsa.generate_private_key(65537, 2048)), ("ec", ec.generate_private_key(ec.SECP256R1()))):
        between = Issued(common_name=f"between {kind}", issuer=root, ca=True)
        Issued("a.example", issuer=between, key=key).write(tmp_path, kind, between)
    return root, tmp_path


@pytest.mark.parametrize(("ciphers", "kind"), [("ECDHE+aRSA", "rsa"), ("ECDHE+aECDSA", "ec")])
def test_each_client_is_served_the_kind_of_key_that_it_can_use(
    two_kinds: tuple[Issued, Path], ciphers: str, kind: str
) -> None:
    root, path = two_kinds
    context = client_context([], root)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    client = Client(Server(path).directory, "a.example", context=context).shake()  # which verifies the chain
    assert isinstance(client.certificate.public_key(), rsa.RSAPublicKey) is (kind == "rsa")
    issuer = client.certificate.issuer.rfc4514_string()
    assert issuer == f"CN=between {kind}"
    assert client.echo(b"hello") == b"hello"


def test_a_client_that_can_use_both_is_served_the_cheaper_one(two_kinds: tuple[Issued, Path]) -> None:
    root, path = two_kinds
    client = Client(Server(path).directory, "a.example", root=root).shake()
    assert isinstance(client.certificate.public_key(), ec.EllipticCurvePublicKey)
