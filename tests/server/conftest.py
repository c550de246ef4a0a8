"""A whole server in memory: real resources, hub and relay, a clock in the test's hand, transports without sockets."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from txaio import tx
from zope.interface import alsoProvides

from tests.server.consumers import Consumers
from twisted_chat.auth import ApiKeys, Origins, TokenKeys
from twisted_chat.core.limits import Limits
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.server import static_files
from twisted_chat.server.admission import Admission
from twisted_chat.server.connection import Connections
from twisted_chat.server.cross_origin import CrossOrigin
from twisted_chat.server.heartbeat import PARTS
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.site import site_resource
from twisted_chat.server.tls.self_signed import development_names, make_self_signed
from twisted_chat.server.websocket import RoomSocketFactory

WALL_CLOCK = 1_795_000_000.0

HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Transport(StringTransport):
    """A transport that can be aborted, filled up and closed, and then tells its protocol."""

    def __init__(self, address: str) -> None:
        super().__init__(
            peerAddress=IPv4Address("TCP", address, 54321), hostAddress=IPv4Address("TCP", "192.0.2.1", 80)
        )
        alsoProvides(self, ITCPTransport)
        self.protocol: Any = None
        self.aborted = False
        self.connected = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keepAlive = enabled

    def abortConnection(self) -> None:
        self.aborted = True
        self.lose()

    def unregisterProducer(self) -> None:
        """Real transports take it twice."""
        if self.producer is not None:
            super().unregisterProducer()

    def settle(self) -> None:
        """What a reactor does after `loseConnection`, in a later turn, once everything is written."""
        if self.disconnecting and self.producer is None:
            self.lose()

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


@dataclass
class Answer:
    """An HTTP response, read from bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        code: str = self.json["error"]["code"]
        return code


class Peer:
    """The other end of one connection."""

    def __init__(self, server: InMemoryServer, address: str = "192.0.2.7") -> None:
        self.server = server
        self.transport = Transport(address)
        self.protocol: Any = server.site.buildProtocol(self.transport.getPeer())
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.transport.protocol.dataReceived(data)

    def received(self) -> bytes:
        """What came since the last call."""
        self.server.clock.advance(0)
        self.transport.settle()
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def close(self) -> None:
        self.transport.lose()


def read_answer(data: bytes) -> Answer:
    """One response whose body, chunked or not, is all of the rest."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunk(body)
    return Answer(int(status.split()[1]), headers, body)


def unchunk(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        data = rest[length + 2 :]
    return body


class Socket(Peer):
    """The client's end of a room socket."""

    def __init__(self, server: InMemoryServer, path: str, headers: str = "", address: str = "192.0.2.7") -> None:
        super().__init__(server, address)
        self._buffer = b""
        self.send(f"GET {path} HTTP/1.1\r\nHost: chat.example\r\n{HANDSHAKE}{headers}\r\n".encode())
        head, _, self._buffer = self.received().partition(b"\r\n\r\n")
        self.answer = read_answer(head + b"\r\n\r\n" + self._buffer)
        self.close_code: int | None = None
        self.close_reason = ""

    def say(self, fields: dict[str, Any] | bytes, opcode: int = 1) -> None:
        payload = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        length = len(payload)
        if length < 126:
            head = bytes((0x80 | opcode, 0x80 | length))
        elif length < 65_536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
        self.send(head + b"\0\0\0\0" + payload)

    def frames(self) -> list[tuple[int, bytes]]:
        """(opcode, payload) of the frames that came since the last call."""
        self._buffer += self.received()
        found = []
        while len(self._buffer) >= 2:
            length, at = self._buffer[1], 2
            if length == 126:
                (length,), at = struct.unpack_from("!H", self._buffer, 2), 4
            elif length == 127:
                (length,), at = struct.unpack_from("!Q", self._buffer, 2), 10
            found.append((self._buffer[0] & 15, self._buffer[at : at + length]))
            self._buffer = self._buffer[at + length :]
        return found

    def heard(self) -> list[dict[str, Any]]:
        """The JSON of the text frames that came since the last call; a close frame is kept in `close_code`."""
        texts = []
        for opcode, payload in self.frames():
            if opcode == 1:
                texts.append(json.loads(payload))
            elif opcode == 8 and payload:
                self.close_code = struct.unpack_from("!H", payload)[0]
                self.close_reason = payload[2:].decode()
        return texts

    def messages(self) -> list[str]:
        return [fields["message"] for fields in self.heard() if "message" in fields]


@dataclass
class InMemoryServer:
    """Everything but the sockets. Change `tokens`, `api_keys`, `origins`, `limits` before the first client."""

    limits: Limits = field(default_factory=Limits)
    history: HistoryLimits = field(default_factory=HistoryLimits)
    origins: Origins = field(default_factory=Origins)
    tokens: TokenKeys | None = None
    api_keys: ApiKeys | None = None
    trusted_proxies: int = 0
    clock_step: float = 0.0
    """By how many seconds the wall clock was set."""

    def __post_init__(self) -> None:
        self.clock = Clock()
        tx.config.loop = self.clock  # type: ignore[assignment]  # Autobahn's timers; it begins as None
        self.metrics = Metrics()
        self.relay = MemoryRelay(self.clock, self.history, wall_clock=self.clock.seconds)
        self.hub = Hub(self.relay, self.clock, self.metrics)
        self.relay.start(self.hub)
        self.connections = Connections(self.hub, self.limits, self.metrics, self.clock, self.wall_clock)
        self.sockets = RoomSocketFactory(self.connections)
        self.admission = Admission(
            origins=self.origins,
            tokens=self.tokens,
            api_keys=self.api_keys,
            limits=self.limits,
            trusted_proxies=self.trusted_proxies,
            clock=self.clock.seconds,
            wall_clock=self.wall_clock,
        )
        static = static_files.load()
        rooms = RoomResource(self.admission, self.connections, self.sockets, static["chat.html"])
        self.site = ChatSite(
            site_resource(rooms, static),
            reactor=self.clock,
            clients=self.admission,
            requests=self.limits.requests_per_address,
            waiting_bytes=self.connections.waiting_bytes,
            cross_origin=CrossOrigin(self.admission),
            on_refused=self.metrics.refused,
        )
        self.peers: list[Peer] = []

    def wall_clock(self) -> float:
        return WALL_CLOCK + self.clock.seconds() + self.clock_step

    def peer(self) -> Peer:
        """A connection on which nothing was sent yet."""
        self.peers.append(Peer(self))
        return self.peers[-1]

    def connect(self, path: str = "/chat/lobby", headers: str = "", address: str = "192.0.2.7") -> Socket:
        socket = Socket(self, path, headers, address)
        self.peers.append(socket)
        return socket

    def stream(self, path: str = "/chat/lobby", headers: str = "", address: str = "192.0.2.7") -> Peer:
        """An event stream; what it sends is read with `received`."""
        peer = Peer(self, address)
        self.peers.append(peer)
        accept = "Accept: text/event-stream\r\n"
        peer.send(f"GET {path} HTTP/1.1\r\nHost: chat.example\r\n{accept}{headers}\r\n".encode())
        return peer

    def ask(self, method: str, path: str, headers: str = "", body: bytes = b"", address: str = "192.0.2.7") -> Answer:
        """One request on a connection of its own. Bytes that are no UTF-8 are escaped as `os.fsdecode` does it."""
        peer = Peer(self, address)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: chat.example\r\n{length}{headers}\r\n"
        peer.send(head.encode(errors="surrogateescape") + body)
        answer = read_answer(peer.received())
        peer.close()
        return answer

    def post(self, fields: object, path: str = "/chat/lobby", headers: str = "", address: str = "192.0.2.7") -> Answer:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return self.ask("POST", path, f"Content-Type: application/json\r\n{headers}", body, address)

    def beat(self, ticks: int = PARTS) -> None:
        """Give each connection its turn."""
        for _ in range(ticks):
            self.connections.heartbeat.tick()

    def refusals(self, reason: str) -> float:
        """How many of a kind were counted."""
        return self.metrics.registry.get_sample_value("twisted_chat_refusals_total", {"reason": reason}) or 0.0

    def end(self) -> None:
        for peer in self.peers:
            peer.close()
        self.relay.stop()
        self.clock.advance(6)  # Autobahn leaves its batch of time-outs for closing handshakes to run out


@pytest.fixture
def make_server() -> Iterator[Callable[..., InMemoryServer]]:
    """Makes servers, with the fields of `InMemoryServer`."""
    before = tx.config.loop
    made: list[InMemoryServer] = []

    def make(**fields: Any) -> InMemoryServer:
        made.append(InMemoryServer(**fields))
        return made[-1]

    yield make
    for server in made:
        server.end()
        left = server.clock.getDelayedCalls()
        assert not left, f"delayed calls left: {left}"
    tx.config.loop = before


@pytest.fixture
def server(make_server: Callable[..., InMemoryServer]) -> InMemoryServer:
    """An open server with its defaults."""
    return make_server()


@pytest.fixture
def consumers(server: InMemoryServer) -> Iterator[Consumers]:
    """The same with consumers, which the test is."""
    made = Consumers(server)
    yield made
    made.relay.stop()


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate for this machine."""
    directory = tmp_path_factory.mktemp("development")
    make_self_signed(directory, development_names("laptop"), datetime.now(UTC))
    return directory
