"""What ``-p`` describes: how it is read, what is refused, and where a browser finds it."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from twisted_chat.server import endpoints
from twisted_chat.server.descriptions import BACKLOG
from twisted_chat.server.endpoints import ChatEndpoint, EndpointError, parse_endpoint
from twisted_chat.server.proxy_protocol import ProxyHeaderEndpoint
from twisted_chat.server.tls.certificates import CertificateDirectory, CertificateError
from twisted_chat.server.tls.self_signed import FILE_NAME, make_self_signed
from twisted_chat.server.tls.transport import DirectTLS

needs_passed_sockets = pytest.mark.skipif(os.name != "posix", reason="needs sockets that can be passed on")


@pytest.fixture
def memory() -> MemoryReactorClock:
    return MemoryReactorClock()


Asked = list[str | None]


class Certificates:
    """The default directory is the development one; remembers what was asked for."""

    def __init__(self, reactor: Any, default: Path) -> None:
        self._reactor = reactor
        self._default = default
        self.asked: Asked = []

    def __call__(self, directory: str | None) -> CertificateDirectory:
        self.asked.append(directory)
        return CertificateDirectory(self._default if directory is None else Path(directory), self._reactor)


@pytest.fixture
def certificates(memory: MemoryReactorClock, development: Path) -> Certificates:
    return Certificates(memory, development)


def no_certificates(directory: str | None) -> CertificateDirectory:
    raise AssertionError("no TLS, no certificates")


# How it is read


@pytest.mark.parametrize(
    ("description", "port", "backlog", "interface"),
    [
        ("tcp:8080", 8080, BACKLOG, ""),
        ("8080", 8080, BACKLOG, ""),
        ("tcp:8080:interface=127.0.0.1", 8080, BACKLOG, "127.0.0.1"),
        ("8080:127.0.0.1", 8080, BACKLOG, "127.0.0.1"),
        ("TCP:port=8080:backlog=10", 8080, 10, ""),
        ("tcp:8080:127.0.0.1:10", 8080, 10, "127.0.0.1"),
        ("tcp6:8080", 8080, BACKLOG, "::"),
        ("tcp6:8080:10", 8080, 10, "::"),
        (r"tcp6:8080:interface=\:\:1", 8080, BACKLOG, "::1"),
        ("tcp:0", 0, BACKLOG, ""),
    ],
)
def test_tcp(memory: MemoryReactorClock, description: str, port: int, backlog: int, interface: str) -> None:
    parsed = parse_endpoint(memory, description, no_certificates)
    assert (parsed.secure, parsed.proxied, parsed.description) == (False, False, description)
    factory = Factory()
    parsed.endpoint.listen(factory)
    assert memory.tcpServers == [(port, factory, backlog, interface)]


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("unix:/run/chat.sock", ("/run/chat.sock", BACKLOG, 0o660, False)),
        ("unix:/run/a\\=b\\:c:mode=660:lockfile=0", ("/run/a=b:c", BACKLOG, 0o660, False)),
        ("unix:address=/run/a=b:backlog=7", ("/run/a=b", 7, 0o660, False)),
    ],
)
def test_unix(memory: MemoryReactorClock, description: str, expected: tuple[str, int, int, bool]) -> None:
    parsed = parse_endpoint(memory, description, no_certificates)
    assert not parsed.secure
    parsed.endpoint.listen(Factory())
    ((address, _, backlog, mode, want_pid),) = memory.unixServers
    assert (address, backlog, mode, want_pid) == expected


@pytest.mark.parametrize(
    ("description", "port", "backlog", "interface"),
    [
        ("tls:443:interface=0.0.0.0", 443, BACKLOG, "0.0.0.0"),
        ("tls:8443:interface=127.0.0.1:backlog=10", 8443, 10, "127.0.0.1"),
        (r"tls:8443:interface=\:\:1", 8443, BACKLOG, "::1"),
        ("TLS:port=8443:interface=localhost", 8443, BACKLOG, "localhost"),
        ("tls:tcp:8443", 8443, BACKLOG, ""),
        ("tls:tcp6:8443", 8443, BACKLOG, "::"),
    ],
)
def test_tls(
    memory: MemoryReactorClock,
    certificates: Certificates,
    description: str,
    port: int,
    backlog: int,
    interface: str,
) -> None:
    parsed = parse_endpoint(memory, description, certificates)
    assert (parsed.secure, parsed.proxied) == (True, False)
    assert certificates.asked == [None]
    site = Factory()
    parsed.endpoint.listen(site)
    ((listening_port, factory, listening_backlog, listening_interface),) = memory.tcpServers
    assert (listening_port, listening_backlog, listening_interface) == (port, backlog, interface)
    assert isinstance(factory, TLSMemoryBIOFactory)
    assert factory.wrappedFactory is site
    # The one that does not wait for the next turn of the reactor.
    assert factory.protocol is DirectTLS


@pytest.mark.parametrize(("dual", "interface"), [(True, "::"), (False, "")])
def test_tls_on_every_address(
    memory: MemoryReactorClock,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    dual: bool,
    interface: str,
) -> None:
    monkeypatch.setattr(endpoints, "dual_stack", lambda: dual)
    parse_endpoint(memory, "tls:443", certificates).endpoint.listen(Factory())
    assert memory.tcpServers[0][3] == interface


def test_tls_with_a_directory(memory: MemoryReactorClock, certificates: Certificates, tmp_path: Path) -> None:
    own = tmp_path / "a:b=c"
    make_self_signed(own, ["a.example"], datetime.now(UTC))
    escaped = str(own).replace("\\", r"\\").replace(":", r"\:").replace("=", r"\=")
    for description in (f"tls:{escaped}:8443", f"tls:{escaped}", f"tls:path={escaped}:port=8443:interface=127.0.0.1"):
        assert parse_endpoint(memory, description, certificates).secure
    assert certificates.asked == [str(own)] * 3
    parse_endpoint(memory, f"tls:{escaped}", certificates).endpoint.listen(Factory())
    assert memory.tcpServers[0][0] == 443


def test_a_directory_may_have_a_number_for_a_name(
    memory: MemoryReactorClock, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_self_signed(Path("8443"), ["a.example"], datetime.now(UTC))
    parse_endpoint(memory, "tls:./8443:443", certificates)
    assert certificates.asked == ["./8443"]


def test_what_is_wrong_with_certificates_passes_through(memory: MemoryReactorClock, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="no usable certificate in"):
        parse_endpoint(memory, "tls:443", Certificates(memory, tmp_path))


def test_proxy_protocol(memory: MemoryReactorClock, certificates: Certificates) -> None:
    clear = parse_endpoint(memory, "haproxy:tcp:8080:interface=127.0.0.1", no_certificates)
    assert (clear.secure, clear.proxied) == (False, True)
    assert isinstance(clear.endpoint, ProxyHeaderEndpoint)
    secure = parse_endpoint(memory, "tls:haproxy:tcp:8443", certificates)
    assert (secure.secure, secure.proxied) == (True, True)
    site = Factory()
    secure.endpoint.listen(site)
    ((_, outer, backlog, _),) = memory.tcpServers
    assert backlog == BACKLOG
    # PROXY header first, TLS in what follows it, the site in TLS.
    assert isinstance(outer, WrappingFactory)
    assert isinstance(outer.wrappedFactory, TLSMemoryBIOFactory)
    assert outer.wrappedFactory.wrappedFactory is site


def test_types_that_plugins_bring(memory: MemoryReactorClock) -> None:
    assert not parse_endpoint(memory, "stdio:", no_certificates).secure


# What is refused


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("", "a type is missing"),
        (":8080", "a type is missing"),
        ("a=b", "a type is missing"),
        ("udp:8080", "'udp' is no type of endpoint; right would be tcp:8080"),
        ("http", "'http' is no type of endpoint"),
        ("autobahn:nowhere", "; right would be what the documentation of autobahn: says"),
        ("tcp:", "an argument is empty"),
        ("tcp", "the port is missing; right would be tcp:8080:interface=127.0.0.1"),
        ("tcp:http", "'http' is not a port from 0 to 65535"),
        ("tcp:-1", "'-1' is not a port"),
        ("tcp:65536", "'65536' is not a port"),
        ("70000", "'70000' is not a port"),
        ("tcp:port=", "'' is not a port"),
        ("tcp:80:interface=::1", r"an argument is empty (a colon inside of one is written \:)"),
        ("tcp6:80:interface=1:2:3:4", r"the interface is given twice (a colon inside of one is written \:)"),
        ("tcp:80:a:1:interface", r"'interface' is one argument too many (a colon inside of one is written \:)"),
        ("tcp:80:127.0.0.1:interface=127.0.0.1", "the interface is given twice"),
        ("tcp:80:iface=lo", "tcp: has no iface=, only port=, interface=, backlog="),
        ("tcp:80:backlog=0", "'0' is not a backlog"),
        ("tcp:80:backlog=many", "'many' is not a backlog"),
        ("unix:/run/a.sock:mode=rw", "'rw' is not an octal mode like 660"),
        ("unix:/run/a.sock:lockfile=no", "lockfile is 0 or 1, not 'no'"),
        ("unix", "the address is missing"),
        ("tls", "the port is missing"),
        ("tls:", "an argument is empty"),
        ("tls::443", "an argument is empty"),
        ("tls:https", "'https' is neither a port nor a directory; right would be tls:443, tls:DIRECTORY:443"),
        ("tls:nowhere:443", "'nowhere' is neither a port nor a directory"),
        ("tls:443:8443", "443 and 8443 cannot both be its port (a directory would be ./443)"),
        ("tls:99999", "'99999' is not a port"),
        ("tls:interface=127.0.0.1", "the port is missing"),
        ("tls:tcp:x", "'x' is not a port"),
        ("tls:ssl:443", "it is TLS inside of TLS"),
        ("tls:tls:443", "it is TLS inside of TLS"),
        ("haproxy:tls:443", "the PROXY header comes before TLS, not in it; right would be tls:haproxy:tcp:443"),
        ("haproxy:ssl:443", "the PROXY header comes before TLS"),
        ("haproxy:haproxy:tcp:443", "the PROXY protocol goes over tcp, tcp6, unix or systemd, not 'haproxy'"),
        ("haproxy:stdio", "the PROXY protocol goes over tcp, tcp6, unix or systemd, not 'stdio'"),
        ("haproxy", "a type is missing"),
        ("tls:haproxy:tcp:x", "'x' is not a port"),
        ("systemd", "the domain is missing"),
        ("systemd:domain=INET", "either name= or index= says which socket it is"),
        ("systemd:domain=INET:index=0:name=a", "either name= or index= says which socket it is"),
        ("systemd:domain=IPX:index=0", "the domain is INET, INET6 or UNIX, not 'IPX'"),
        ("systemd:domain=INET:index=-1", "'-1' is not an index of 0 or more"),
        ("systemd:domain=INET:index=9999", "descriptor 10002 is not a listening socket"),
        ("systemd:domain=INET:index=99999999999999999999", "is not a listening socket"),
        ("systemd:domain=INET:name=web", "no socket named 'web' was passed on"),
        ("tls:systemd:domain=INET:name=web", "no socket named 'web' was passed on"),
        ("ssl:443", "server.pem: no such file or directory; right would be ssl:443:privateKey=privkey.pem"),
        ("ssl:x", "'x' is not a port"),
        ("ssl:443:privateKey=nowhere.pem", "nowhere.pem: no such file or directory"),
    ],
)
def test_mistakes(
    memory: MemoryReactorClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, description: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EndpointError) as raised:
        parse_endpoint(memory, description, no_certificates)
    message = str(raised.value)
    assert message.startswith(f"cannot listen on {description!r}: ")
    assert problem in message
    assert "; right would be " in message
    assert "\n" not in message


@needs_passed_sockets
def test_descriptors_that_are_no_listening_sockets(memory: MemoryReactorClock, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as udp:
        for fileno in (file.fileno(), idle.fileno(), udp.fileno()):
            index = fileno - endpoints.FIRST_DESCRIPTOR
            with pytest.raises(EndpointError, match=f"descriptor {fileno} is not a listening socket"):
                parse_endpoint(memory, f"systemd:domain=INET:index={index}", no_certificates)


@needs_passed_sockets
def test_the_domain_of_a_socket_is_checked(memory: MemoryReactorClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        index = listening.fileno() - endpoints.FIRST_DESCRIPTOR
        with pytest.raises(EndpointError, match="the domain of that socket is INET;"):
            parse_endpoint(memory, f"systemd:domain=INET6:index={index}", no_certificates)
        parse_endpoint(memory, f"systemd:domain=INET:index={index}", no_certificates)


def test_ssl_is_checked_before_it_listens(
    memory: MemoryReactorClock, development: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = (development / FILE_NAME).read_bytes()
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = PrivateFormat.PKCS8
    Path("good.pem").write_bytes(content)
    Path("good.crt").write_bytes(content[content.index(b"-----BEGIN CERTIFICATE") :])
    Path("other.key").write_bytes(key.private_bytes(Encoding.PEM, pkcs8, NoEncryption()))
    Path("secret.key").write_bytes(key.private_bytes(Encoding.PEM, pkcs8, BestAvailableEncryption(b"secret")))
    parameters = dsa.generate_parameters(1024).generate_private_key()
    Path("dsa.key").write_bytes(parameters.private_bytes(Encoding.PEM, pkcs8, NoEncryption()))
    Path("text.pem").write_text("hello")
    for arguments, problem in {
        "privateKey=other.key:certKey=good.crt": "key in other.key is not that of a certificate in good.crt",
        "privateKey=secret.key:certKey=good.crt": "secret.key: the private key is encrypted",
        "privateKey=dsa.key": "the private key in dsa.key is not that of a certificate in dsa.key",
        "privateKey=text.pem": "text.pem: no PEM in it",
        "privateKey=good.pem:extraCertChain=other.key": "there is no certificate in other.key",
        "privateKey=good.pem:extraCertChain=nowhere.pem": "nowhere.pem: no such file or directory",
        "privateKey=good.pem:dhParameters=nowhere.pem": "nowhere.pem",
        "privateKey=good.pem:dhParameters=text.pem": "OpenSSL does not take it: ",
        "privateKey=good.pem:sslmethod=SSLv9": "SSLv9",
    }.items():
        with pytest.raises(EndpointError) as raised:
            parse_endpoint(memory, f"ssl:443:{arguments}", no_certificates)
        assert problem in str(raised.value)
        assert "\n" not in str(raised.value)
    parsed = parse_endpoint(memory, "ssl:443:privateKey=good.pem:certKey=good.crt", no_certificates)
    assert (parsed.secure, parsed.proxied) == (True, False)
    parsed.endpoint.listen(Factory())
    assert [(server[0], server[3]) for server in memory.sslServers] == [(443, BACKLOG)]


# Where a browser finds it


@pytest.mark.parametrize(
    ("secure", "proxied", "address", "url"),
    [
        (True, False, IPv4Address("TCP", "0.0.0.0", 8443), "https://localhost:8443/"),
        (True, False, IPv6Address("TCP", "::", 443), "https://localhost/"),
        (True, False, IPv4Address("TCP", "192.0.2.1", 80), "https://192.0.2.1:80/"),
        (False, False, IPv4Address("TCP", "127.0.0.1", 8080), "http://127.0.0.1:8080/"),
        (False, False, IPv4Address("TCP", "", 80), "http://localhost/"),
        (False, False, IPv6Address("TCP", "::1", 8080), "http://[::1]:8080/"),
        (False, False, IPv6Address("TCP", "fe80::1%eth0", 8080), "http://[fe80::1%25eth0]:8080/"),
        (False, True, IPv4Address("TCP", "0.0.0.0", 8080), None),
        (False, False, UNIXAddress("/run/chat.sock"), None),
    ],
)
def test_url(
    memory: MemoryReactorClock,
    secure: bool,
    proxied: bool,
    address: IPv4Address | IPv6Address | UNIXAddress,
    url: str | None,
) -> None:
    some = parse_endpoint(memory, "tcp:80", no_certificates).endpoint
    assert ChatEndpoint(some, "", secure, proxied).url(address) == url
