"""Servers in processes of their own, their service manager, and certificates for them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.ports import free_port
from tests.relay.redis_server import needed_server, running
from tests.service_manager import ServiceManager
from tests.twistd import Server, run


@pytest.fixture
def twistd(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers in the test's directory: with options of ``twistd chat``, and the environment `environ`.

    `endpoint`: what stands after ``-p``, with ``{port}`` for a free port; `before`: options of ``twistd`` itself.
    """
    servers: list[Server] = []

    def start(
        *options: str | Path,
        environ: Mapping[str, str] | None = None,
        endpoint: str = "tcp:{port}:interface=127.0.0.1",
        directory: Path = tmp_path,
        before: tuple[str, ...] = (),
    ) -> Server:
        given = (*map(str, options), *(() if "--drain" in options else ("--drain", "1")))
        servers.append(Server(directory, given, environ or {}, endpoint, before))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def run_twistd(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``twistd`` with arguments, one that is expected to end."""

    return partial(run, tmp_path)


@pytest.fixture
def port() -> int:
    """One that is free."""
    return free_port()


class Authority:
    """A certificate authority that clients in a test trust."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "authority.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test's authority")])
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = self._builder(self._name, self._key, timedelta(days=30)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        certificate = builder.add_extension(self._identifier, critical=False).sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=90))
            .not_valid_after(now + lifetime)
        )

    def issue(self, directory: Path, *names: str, lifetime: timedelta = timedelta(days=60)) -> int:
        """Writes a certificate for `names` and its key into `directory`, as certbot does; its serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([]), key, lifetime).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        directory.mkdir(parents=True, exist_ok=True)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "privkey.pem").write_bytes(private)
        (directory / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return certificate.serial_number


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def service_manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceManager]:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("needs Unix sockets")
    # A short path: a socket's address has room for some hundred bytes.
    manager = ServiceManager(tmp_path_factory.mktemp("n") / "s")
    yield manager
    manager.close()


@pytest.fixture
def redis() -> Iterator[str]:
    """The URL of a server of the test's own."""
    with running(needed_server()) as server:
        yield server.url
