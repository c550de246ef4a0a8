"""That clients get through to a server on what ``-p`` describes: over real sockets, with TLS that verifies."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from twisted_chat.server import endpoints
from twisted_chat.server.endpoints import ChatEndpoint, parse_endpoint
from twisted_chat.server.tls.certificates import CertificateDirectory
from twisted_chat.server.tls.self_signed import FILE_NAME

needs_unix_sockets = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
needs_passed_sockets = pytest.mark.skipif(os.name != "posix", reason="needs sockets that can be passed on")


@implementer(IProtocolNegotiationFactory)
class PeerFactory(Factory):
    """Answers with the address of the peer and what it said."""

    def buildProtocol(self, addr: object) -> Protocol:
        return Peer()

    def acceptableProtocols(self) -> list[bytes]:
        return [b"h2", b"http/1.1"]


class Peer(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(f"{getattr(self.transport.getPeer(), 'host', None)} says ".encode() + data)


class Static(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"hello"


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


Listen = Callable[[str, IProtocolFactory], Coroutine[Deferred[Any], Any, tuple[ChatEndpoint, Any]]]


@pytest.fixture
def listen(reactor: Any, development: Path) -> Iterator[Listen]:
    ports: list[IListeningPort] = []

    async def listen(description: str, factory: IProtocolFactory) -> tuple[ChatEndpoint, Any]:
        certificates = CertificateDirectory(development, reactor)
        parsed = parse_endpoint(reactor, description, lambda _: certificates)
        ports.append(await parsed.endpoint.listen(factory))
        return parsed, ports[-1]

    yield listen
    for port in ports:
        pytest_twisted.blockon(port.stopListening())


class Answer:
    """What a client got to hear."""

    def __init__(
        self, development: Path, connect: Callable[[], socket.socket], alpn: Sequence[str], header: bytes, sent: bytes
    ) -> None:
        context = ssl.create_default_context(cafile=str(development / FILE_NAME))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        with connect() as clear:
            clear.settimeout(30)
            clear.sendall(header)
            with context.wrap_socket(clear, server_hostname="localhost") as tls:
                self.protocol = tls.selected_alpn_protocol()
                tls.sendall(sent)
                self.data = tls.recv(1000)


class Ask:
    """Python's own TLS client, in a thread because it blocks."""

    def __init__(self, reactor: Any, development: Path) -> None:
        self._reactor = reactor
        self._development = development

    async def __call__(
        self,
        connect: Callable[[], socket.socket],
        *,
        alpn: Sequence[str] = (),
        header: bytes = b"",
        sent: bytes = b"hello",
    ) -> Answer:
        threads = self._reactor.getThreadPool()
        return await deferToThreadPool(self._reactor, threads, Answer, self._development, connect, alpn, header, sent)


@pytest.fixture
def ask(reactor: Any, development: Path) -> Ask:
    return Ask(reactor, development)


def to(port: int, host: str = "127.0.0.1") -> Callable[[], socket.socket]:
    return lambda: socket.create_connection((host, port), timeout=30)


@pytest_twisted.ensureDeferred
async def test_a_client_comes_through_tls(listen: Listen, ask: Ask) -> None:
    parsed, port = await listen("tls:0:interface=127.0.0.1", PeerFactory())
    number = port.getHost().port
    assert parsed.url(port) == f"https://127.0.0.1:{number}/"
    answer = await ask(to(number), alpn=["h2", "http/1.1"])
    assert (answer.protocol, answer.data) == ("h2", b"127.0.0.1 says hello")
    assert (await ask(to(number), alpn=["http/1.1"])).protocol == "http/1.1"
    assert (await ask(to(number))).protocol is None


@pytest_twisted.ensureDeferred
async def test_tls_on_every_address_takes_ipv4_and_what_else_there_is(listen: Listen, ask: Ask) -> None:
    parsed, port = await listen("tls:0", PeerFactory())
    number = port.getHost().port
    assert parsed.url(port) == f"https://localhost:{number}/"
    assert (await ask(to(number))).data.endswith(b"127.0.0.1 says hello")
    if endpoints.dual_stack():
        assert (await ask(to(number, "::1"))).data == b"::1 says hello"


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_sites_of_twisted_over_tls(listen: Listen, ask: Ask, reactor: Any) -> None:
    _, port = await listen("tls:0:interface=127.0.0.1", Site(Static(), reactor=reactor))
    answer = await ask(to(port.getHost().port), alpn=["http/1.1"], sent=REQUEST)
    assert answer.protocol == "http/1.1"
    assert answer.data.startswith(b"HTTP/1.1 200")


@pytest_twisted.ensureDeferred
async def test_ssl_offers_what_the_factory_speaks(listen: Listen, ask: Ask, reactor: Any, development: Path) -> None:
    key = str(development / FILE_NAME).replace("\\", r"\\").replace(":", r"\:")
    description = f"ssl:0:privateKey={key}:interface=127.0.0.1"
    parsed, port = await listen(description, PeerFactory())
    number = port.getHost().port
    assert parsed.url(port) == f"https://127.0.0.1:{number}/"
    assert (await ask(to(number), alpn=["http/1.1", "h2"])).protocol == "h2"
    assert (await ask(to(number))).data == b"127.0.0.1 says hello"
    _, port = await listen(description, Site(Static(), reactor=reactor))
    answer = await ask(to(port.getHost().port), alpn=["http/1.1"], sent=REQUEST)
    assert answer.protocol == "http/1.1"
    assert answer.data.startswith(b"HTTP/1.1 200")


@pytest_twisted.ensureDeferred
async def test_the_proxy_header_comes_before_tls(listen: Listen, ask: Ask) -> None:
    parsed, port = await listen("tls:haproxy:tcp:0:interface=127.0.0.1", PeerFactory())
    assert parsed.url(port) is None
    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n"
    answer = await ask(to(port.getHost().port), alpn=["h2"], header=header)
    assert (answer.protocol, answer.data) == ("h2", b"192.0.2.7 says hello")


@pytest.fixture
def socket_path() -> Iterator[str]:
    # tmp_path is too long for a socket's address on macOS.
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory, "chat"))


@needs_unix_sockets
@pytest_twisted.ensureDeferred
async def test_tls_over_a_unix_socket(socket_path: str, listen: Listen, ask: Ask) -> None:
    parsed, port = await listen(f"tls:unix:{socket_path}", PeerFactory())
    assert parsed.url(port) is None

    def connect() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(socket_path)
        return client

    assert (await ask(connect)).data.endswith(b" says hello")


ACTIVATED = """
import os, sys
from pathlib import Path

# What systemd does: the socket is descriptor 3, and the environment says whose it is.
os.dup2(int(sys.argv[1]), 3)
os.environ.update({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
if sys.argv[2]:
    os.environ["LISTEN_FDNAMES"] = sys.argv[2]

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted_chat.server.tls.certificates import CertificateDirectory
from twisted_chat.server.endpoints import parse_endpoint

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"activated: " + data)

certificates = CertificateDirectory(Path(sys.argv[4]), reactor)
parsed = parse_endpoint(reactor, sys.argv[3], lambda _: certificates)
parsed.endpoint.listen(Factory.forProtocol(Echo)).addCallback(lambda port: print(parsed.url(port), flush=True))
reactor.run()
"""


@needs_passed_sockets
@pytest.mark.parametrize(
    ("names", "description"),
    [
        ("https", "tls:systemd:domain=INET:name=https"),
        ("https", "tls:systemd:domain=INET:index=0"),
        ("", "tls:systemd:domain=INET:index=0"),
    ],
)
def test_tls_over_a_socket_of_systemd(development: Path, names: str, description: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        fileno = listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATED, str(fileno), names, description, str(development)],
            pass_fds=[fileno],
            stdout=subprocess.PIPE,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"https://127.0.0.1:{port}/\n".encode()
        assert Answer(development, to(port), (), b"", b"hello").data == b"activated: hello"
    finally:
        process.terminate()
        process.communicate(timeout=30)
