"""Sockets that one process binds and others listen on: real ones, of every kind of endpoint."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

from twisted_chat.processes.sockets import SPREADS, BindingReactor, SharedPort, descriptors
from twisted_chat.server.endpoints import FIRST_DESCRIPTOR, parse_endpoint
from twisted_chat.server.tls.certificates import CertificateDirectory
from twisted_chat.server.tls.self_signed import FILE_NAME, development_names, make_self_signed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs sockets that can be passed on")

LOCAL = "tcp:0:interface=127.0.0.1"


class Naming(Factory):
    """Tells who connects the name of the process that took it."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def buildProtocol(self, addr: object) -> Protocol:
        return Name(self.name)


class Name(Protocol):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._name)
        self.transport.loseConnection()


class Machine:
    """A supervisor and processes, all in this one."""

    def __init__(self, reactor: Any, certificates: Path) -> None:
        self._reactor = reactor
        self._certificates = certificates
        self.ports: list[IListeningPort] = []

    async def bind(self, description: str, *, spread: bool = SPREADS) -> Any:
        return await self._listen(BindingReactor(self._reactor, 2, spread=spread), description, Factory(), None)

    async def serve(self, description: str, port: Any, number: int) -> Any:
        """A process begins, with a copy of its socket."""
        descriptor = os.dup(descriptors([port], number)[0])
        return await self._listen(self._reactor, description, Naming(b"%d" % number), descriptor)

    async def _listen(self, reactor: Any, description: str, factory: Factory, inherited: int | None) -> Any:
        directory = CertificateDirectory(self._certificates, self._reactor)
        port = await parse_endpoint(reactor, description, lambda _: directory, inherited).endpoint.listen(factory)
        self.ports.append(port)
        return port

    async def stop(self, port: IListeningPort) -> None:
        self.ports.remove(port)
        await maybeDeferred(port.stopListening)

    def ask(self, connect: Callable[[], socket.socket]) -> Deferred[bytes]:
        """What a client hears, in a thread because it waits."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _hear, connect)


def _hear(connect: Callable[[], socket.socket]) -> bytes:
    with connect() as client:
        client.settimeout(30)
        heard = b""
        while more := client.recv(100):
            heard += more
        return heard


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_self_signed(directory, development_names("laptop"), datetime.now(UTC))
    return directory


@pytest.fixture
def machine(certificates: Path) -> Iterator[Machine]:
    from twisted.internet import reactor

    machine = Machine(reactor, certificates)
    yield machine
    for port in reversed(machine.ports):
        pytest_twisted.blockon(port.stopListening())


@pytest.fixture
def socket_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory, "chat"))


def to(port: Any) -> Callable[[], socket.socket]:
    """Over the port's address."""
    host = port.getHost()
    return lambda: socket.create_connection((host.host, host.port), timeout=30)


def through_tls(connect: Callable[[], socket.socket], certificates: Path) -> Callable[[], socket.socket]:
    context = ssl.create_default_context(cafile=str(certificates / FILE_NAME))
    return lambda: context.wrap_socket(connect(), server_hostname="localhost")


def mode(path: str) -> int | None:
    """Of a file; None where there is none."""
    try:
        return stat.S_IMODE(Path(path).stat().st_mode)
    except FileNotFoundError:
        return None


def chmod(path: str, bits: int) -> None:
    Path(path).chmod(bits)


def to_path(path: str) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(path)
        return client

    return connect


@pytest.mark.skipif(not SPREADS, reason="only some systems spread connections")
@pytest_twisted.ensureDeferred
async def test_the_system_spreads_connections(machine: Machine) -> None:
    port = await machine.bind(LOCAL)
    assert len(set(descriptors([port], 1) + descriptors([port], 2))) == 2
    for number in (1, 2):
        await machine.serve(LOCAL, port, number)
    heard = [await machine.ask(to(port)) for _ in range(40)]
    assert set(heard) == {b"1", b"2"}


@pytest.mark.parametrize("spread", {SPREADS, False})
@pytest_twisted.ensureDeferred
async def test_who_connects_while_nobody_is_there_waits(machine: Machine, spread: bool) -> None:
    port = await machine.bind(LOCAL, spread=spread)
    waiting = [machine.ask(to(port)) for _ in range(5)]
    gone = await machine.serve(LOCAL, port, 1)
    await machine.stop(gone)
    for number in (1, 2):
        await machine.serve(LOCAL, port, number)
    assert {await each for each in waiting} <= {b"1", b"2"}


@pytest_twisted.ensureDeferred
async def test_elsewhere_there_is_one_queue(machine: Machine) -> None:
    port = await machine.bind(LOCAL, spread=False)
    assert descriptors([port], 1) == descriptors([port], 2)
    served = [await machine.serve(LOCAL, port, number) for number in (1, 2)]
    await machine.stop(served[0])
    assert await machine.ask(to(port)) == b"2", "the end of one is not that of the queue"


@pytest.mark.parametrize(
    "description", [LOCAL, r"tcp6:0:interface=\:\:1", "tls:0:interface=127.0.0.1", "tls:tcp:0:interface=127.0.0.1"]
)
@pytest_twisted.ensureDeferred
async def test_endpoints_of_tcp(machine: Machine, certificates: Path, description: str) -> None:
    try:
        port = await machine.bind(description)
    except CannotListenError:
        pytest.skip("there is no IPv6 here")
    for number in (1, 2):
        await machine.serve(description, port, number)
    connect = to(port)
    if description.startswith("tls"):
        connect = through_tls(connect, certificates)
    assert await machine.ask(connect) in {b"1", b"2"}


@pytest_twisted.ensureDeferred
async def test_ssl(machine: Machine, certificates: Path) -> None:
    description = f"ssl:0:interface=127.0.0.1:privateKey={certificates / FILE_NAME}"
    port = await machine.bind(description)
    for number in (1, 2):
        await machine.serve(description, port, number)
    assert await machine.ask(through_tls(to(port), certificates)) in {b"1", b"2"}


@pytest_twisted.ensureDeferred
async def test_behind_a_proxy(machine: Machine) -> None:
    description = f"haproxy:{LOCAL}"
    port = await machine.bind(description)
    for number in (1, 2):
        await machine.serve(description, port, number)

    def connect() -> socket.socket:
        client = to(port)()
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n")
        return client

    assert await machine.ask(connect) in {b"1", b"2"}


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_outlives_processes(machine: Machine, socket_path: str) -> None:
    description = f"unix:{socket_path}:mode=640"
    port = await machine.bind(description)
    first = await machine.serve(description, port, 1)
    assert await machine.ask(to_path(socket_path)) == b"1"
    await machine.stop(first)
    assert mode(socket_path) == 0o640
    await machine.serve(description, port, 2)
    assert await machine.ask(to_path(socket_path)) == b"2"
    await machine.stop(machine.ports[-1])
    await machine.stop(port)
    assert mode(socket_path) is None


@pytest.mark.parametrize("domain", ["INET", "UNIX"])
@pytest_twisted.ensureDeferred
async def test_a_socket_of_systemd_stays_its_own(machine: Machine, socket_path: str, domain: str) -> None:
    with socket.socket(getattr(socket, f"AF_{domain}")) as listening:
        listening.bind(("127.0.0.1", 0) if domain == "INET" else socket_path)
        if domain == "UNIX":
            chmod(socket_path, 0o600)
        listening.listen(100)
        description = f"systemd:domain={domain}:index={os.dup(listening.fileno()) - FIRST_DESCRIPTOR}"
        port = await machine.bind(description)
        served = [await machine.serve(description, port, number) for number in (1, 2)]
        connect = to(port) if domain == "INET" else to_path(socket_path)
        assert await machine.ask(connect) in {b"1", b"2"}
        for each in (*served, port):
            await machine.stop(each)
        # It is as it was, and somebody else can take it.
        waiting = machine.ask(connect)
        again = f"systemd:domain={domain}:index={os.dup(listening.fileno()) - FIRST_DESCRIPTOR}"
        port = await machine.bind(again)
        await machine.serve(again, port, 2)
        assert await waiting == b"2"
        if domain == "UNIX":
            assert mode(socket_path) == 0o600


@pytest_twisted.ensureDeferred
async def test_a_port_that_others_would_share_is_taken(machine: Machine) -> None:
    with socket.socket() as taken:
        if hasattr(socket, "SO_REUSEPORT"):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(CannotListenError, match=f"127.0.0.1:{number}"):
            await machine.bind(f"tcp:{number}:interface=127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_when_all_is_closed_connections_are_refused(machine: Machine) -> None:
    port = await machine.bind(LOCAL)
    assert isinstance(port, SharedPort)
    served = [await machine.serve(LOCAL, port, number) for number in (1, 2)]
    connect = to(port)
    for each in (*served, port):
        await machine.stop(each)
    with pytest.raises(ConnectionRefusedError):
        await machine.ask(connect)
