"""What tests of the Redis relay share: a peer in memory, and relays on servers of their own."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import hiredis
import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.relay.conftest import Node
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.protocol import CommandProtocol
from twisted_chat.relay.redis.relay import RedisRelay
from twisted_chat.relay.redis.url import parse_url


class Transport(StringTransport):
    """Tells its protocol when it was aborted, within the call, and knows the options of TCP."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.options: list[str] = []
        self.gone = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options.append("no delay")

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options.append("keep alive")

    def abortConnection(self) -> None:
        self.lose()

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


class Peer:
    """The server's end of a connection in memory: sees commands, and says what the test wants."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.transport = Transport()
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    def commands(self) -> list[list[bytes]]:
        """Those that came since this was last asked."""
        reader = hiredis.Reader()
        reader.feed(self.transport.value())
        self.transport.clear()
        commands = []
        while (command := reader.gets()) is not False:
            commands.append(command)
        return commands

    def say(self, *replies: bytes) -> None:
        """Each in a piece of its own."""
        for reply in replies:
            self.protocol.dataReceived(reply)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connections are made, or fail, when the test says so."""

    def __init__(self) -> None:
        self.attempts: list[tuple[IProtocolFactory, Deferred[IProtocol]]] = []
        self.peers: list[Peer] = []
        self.cancelled = 0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = Deferred(self._cancel)
        self.attempts.append((protocolFactory, connecting))
        return connecting

    def accept(self) -> Peer:
        """The oldest attempt becomes a connection."""
        factory, connecting = self.attempts.pop(0)
        protocol = factory.buildProtocol(None)  # type: ignore[arg-type]  # nobody looks at it
        assert protocol is not None
        self.peers.append(Peer(protocol))
        connecting.callback(protocol)
        return self.peers[-1]

    def refuse(self, error: Exception) -> None:
        self.attempts.pop(0)[1].errback(error)

    def _cancel(self, _: Deferred[IProtocol]) -> None:
        self.cancelled += 1


@dataclass
class Outcome:
    """What became of a Deferred."""

    results: list[Any] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        return not self.results and not self.errors


Watch = Callable[[Deferred[Any]], Outcome]


@pytest.fixture
def watch() -> Watch:
    """Notes what becomes of a Deferred, and handles its failure."""

    def watch(deferred: Deferred[Any]) -> Outcome:
        outcome = Outcome()
        deferred.addCallbacks(outcome.results.append, lambda failure: outcome.errors.append(failure.value))
        return outcome

    return watch


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


Connect = Callable[..., Peer]


@pytest.fixture
def connect(clock: Clock) -> Connect:
    """``connect(**limits)``: a command link's protocol and its peer. Give the protocol itself for another kind."""

    def connect(protocol: CommandProtocol | None = None, **limits: Any) -> Peer:
        return Peer(protocol or CommandProtocol(clock, LinkLimits(**limits)))

    return connect


StartAt = Callable[..., Awaitable[Node]]


@pytest_twisted.async_yield_fixture
async def start_at(reactor: IReactorTime) -> AsyncIterator[StartAt]:
    """``start_at(url, history, **limits)``: a started relay; it is stopped at the end of the test."""
    nodes: list[Node] = []

    async def start_at(
        url: str,
        history: HistoryLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
        **limits: Any,
    ) -> Node:
        relay = RedisRelay(
            cast("IRedisReactor", reactor),
            parse_url(url),
            history or HistoryLimits(count=100, age=3600.0),
            LinkLimits(**{"last_retry": 0.3, **limits}),
            wall_clock,
        )
        nodes.append(Node(relay))
        await relay.start(nodes[-1].events)
        return nodes[-1]

    yield start_at
    for node in nodes:
        await node.relay.stop()


class Tunnel(Factory):
    """Leads from a TCP port to a server's Unix socket; while it is not open, it swallows everything."""

    noisy = False

    def __init__(self, reactor: Any, server: RedisServer) -> None:
        self.reactor = reactor
        self.server = server
        self.open = True
        self._mouths: list[_Mouth] = []
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port.getHost().port}"

    def buildProtocol(self, addr: object) -> _Mouth:
        self._mouths.append(_Mouth(self))
        return self._mouths[-1]

    async def close(self) -> None:
        await self._port.stopListening()
        for mouth in self._mouths:
            mouth.transport.abortConnection()


class _Mouth(Protocol):
    """One end of a connection through the tunnel."""

    def __init__(self, tunnel: Tunnel, other: _Mouth | None = None) -> None:
        self.tunnel = tunnel
        self.other = other
        self.early: list[bytes] = []
        self.transport: Any

    def connectionMade(self) -> None:
        if self.other is None:
            there = UNIXClientEndpoint(self.tunnel.reactor, str(self.tunnel.server.socket))
            connectProtocol(there, _Mouth(self.tunnel, self)).addErrback(lambda _: self.transport.abortConnection())
        else:
            self.other.other = self
            for data in self.other.early:
                self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        elif self.tunnel.open:
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


OpenTunnel = Callable[[RedisServer], Tunnel]


@pytest_twisted.async_yield_fixture
async def open_tunnel(reactor: Any) -> AsyncIterator[OpenTunnel]:
    """``open_tunnel(server)``: a new one."""
    tunnels: list[Tunnel] = []

    def open_tunnel(server: RedisServer) -> Tunnel:
        tunnels.append(Tunnel(reactor, server))
        return tunnels[-1]

    yield open_tunnel
    for tunnel in tunnels:
        await tunnel.close()
    await deferLater(reactor, 0.01)


@pytest.fixture
def tunnel(open_tunnel: OpenTunnel, redis_server: RedisServer) -> Tunnel:
    return open_tunnel(redis_server)


class Authority:
    """Signs certificates."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.path = self._write(name, self._sign(self.name, self.key.public_key(), x509.BasicConstraints(True, None)))

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Paths of a certificate for these, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        )
        certificate = self._write("server", self._sign(x509.Name([]), key.public_key(), alternatives))
        file = self.directory / "server.key"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, file

    def _sign(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self.name, subject, key, x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
        )
        return builder.add_extension(extension, critical=True).sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.directory / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def tls_options(authority: Authority, make_redis: Make) -> list[str]:
    """For a server of 127.0.0.1 that speaks TLS, also to the servers that it follows or watches."""
    certificate, key = authority.issue("127.0.0.1", "redis.example")
    files = {"cert-file": certificate, "key-file": key, "ca-cert-file": authority.path}
    options = files | {"auth-clients": "no", "replication": "yes"}
    words = [word for name, value in options.items() for word in (f"--tls-{name}", str(value))]
    probe = make_redis(*words)
    probe.listen(tls=True)
    try:
        probe.start()
    except AssertionError as error:
        if "Failed finding TLS support" in str(error) or "Bad directive" in str(error):
            pytest.skip("this server was built without TLS")
        raise
    probe.kill()
    return words
