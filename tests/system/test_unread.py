"""Clients that join and do not read, over real sockets: little waits for them, and that is known."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from h2.settings import SettingCodes

from tests.threaded_tls import threaded_context
from tests.twistd import PATIENCE, Server, until

KEPT: Final = 200
LONGEST: Final = "\N{GRINNING FACE}" * 4_096
"""16 KiB in UTF-8."""
NUMBER: Final = re.compile(rb'"message":"(\d+) ')
BURST: Final = 40
"""Less than may wait for one client."""
CLIENTS: Final = 100
ASKING: Final = 60
MIB: Final = 1 << 20
PLENTY: Final = 2**31 - 1
LIMITS: Final = (
    *("--limit-messages-per-address", "100000:100000"),
    *("--limit-messages-per-connection", "100000:100000"),
    *("--limit-ping-interval", "1000"),
    *("--limit-ping-timeout", "1000"),
    *("--history-count", str(2 * KEPT)),
)
TCP: Final = "tcp:{port}:interface=127.0.0.1"
TLS: Final = "tls:{port}:interface=127.0.0.1"

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see how large it is"
)


def connected(server: Server, *protocols: str, address: str = "127.0.0.1") -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    connection.settimeout(PATIENCE)
    connection.bind((address, 0))
    connection.connect(("127.0.0.1", server.port))
    if not server.secure:
        return connection
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols or ("http/1.1",))
    return context.wrap_socket(connection)


def web_socket(server: Server, path: str) -> socket.socket:
    connection = connected(server)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return connection


def event_stream(server: Server, path: str) -> socket.socket:
    connection = connected(server)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    return connection


def over_http2(
    server: Server, window: int, connection_window: int, *fields: tuple[str, str]
) -> tuple[socket.socket, H2Connection]:
    connection = connected(server, "h2")
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
    h2.local_settings.acknowledge()
    h2.initiate_connection()
    if connection_window > 65_535:
        h2.increment_flow_control_window(connection_window - 65_535)
    head = [(":scheme", "https"), (":authority", "localhost"), *fields]
    h2.send_headers(1, head, end_stream=(":method", "GET") in fields)
    connection.sendall(h2.data_to_send())
    return connection, h2


def connect_fields(path: str) -> tuple[tuple[str, str], ...]:
    method, protocol = (":method", "CONNECT"), (":protocol", "websocket")
    return method, protocol, (":path", path), ("sec-websocket-version", "13")


def web_socket_2(server: Server, path: str) -> socket.socket:
    """A WebSocket over HTTP/2 whose windows never fill."""
    return over_http2(server, PLENTY, PLENTY, *connect_fields(path))[0]


def web_socket_2_shut(server: Server, path: str) -> socket.socket:
    """A WebSocket over HTTP/2 whose window is never opened."""
    return over_http2(server, 0, PLENTY, *connect_fields(path))[0]


def event_stream_2(server: Server, path: str) -> socket.socket:
    """An event stream over HTTP/2 whose windows never fill."""
    fields = ((":method", "GET"), (":path", path), ("accept", "text/event-stream"))
    return over_http2(server, PLENTY, PLENTY, *fields)[0]


WAYS: Final = (web_socket, event_stream, web_socket_2, event_stream_2, web_socket_2_shut)


def resident(server: Server) -> int:
    """Bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


class Metrics:
    """What the server says of itself."""

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self._url = f"http://127.0.0.1:{port}/metrics"

    def number(self, name: str) -> float:
        page = httpx.get(self._url, trust_env=False, timeout=PATIENCE).text
        return sum(float(found) for found in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


@pytest.fixture(params=[TCP, TLS], ids=["tcp", "tls"])
def server(request: pytest.FixtureRequest, twistd: Callable[..., Server], port: int) -> Server:
    tls = ("--self-signed",) if request.param == TLS else ()
    admin = ("--admin-port", f"tcp:{port}:interface=127.0.0.1")
    return twistd(*tls, *admin, *LIMITS, "--relay", "memory:", endpoint=request.param)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def say(server: Server, texts: list[str]) -> None:
    """Publish by one member, as fast as the server takes it."""
    with server.socket(max_size=None, ssl=threaded_context() if server.secure else None) as member:
        for text in texts:
            member.send(json.dumps({"handle": "ann", "message": text}))
        heard = 0
        while heard < len(texts):
            heard += "message" in json.loads(member.recv(PATIENCE))


class Http2Reader:
    """Reads one HTTP/2 stream, whose windows it opens as it does."""

    def __init__(self, server: Server, path: str) -> None:
        self.socket, self._h2 = over_http2(server, 65_535, 65_535, *connect_fields(path))

    def recv(self, most: int) -> bytes:
        body = b""
        for event in self._h2.receive_data(self.socket.recv(most)):
            if isinstance(event, DataReceived):
                body += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
        self.socket.sendall(self._h2.data_to_send())
        return body


class SlowReader:
    """Reads a little at a time, and knows the numbers of the messages that it has heard."""

    def __init__(self, way: Any) -> None:
        self.socket: socket.socket = getattr(way, "socket", way)
        self.heard: list[int] = []
        self._way = way
        self._came, self._at = bytearray(), 0

    def read(self) -> None:
        self._came += self._way.recv(16_384)
        for match in NUMBER.finditer(self._came, self._at):
            self.heard.append(int(match[1]))
            self._at = match.end()


def test_those_that_read_slowly_and_steadily_miss_nothing(server: Server, closing: ExitStack) -> None:
    texts = [f"{number} {LONGEST[:-10]}" for number in range(KEPT + BURST)]
    say(server, texts[:KEPT])
    # Beside them are some that do not read at all.
    for number in range(20):
        closing.enter_context(WAYS[number % len(WAYS)](server, f"/chat/lobby?history={KEPT}"))
    readers = [
        SlowReader(way(server, f"/chat/lobby?history={KEPT}")) for way in (web_socket, event_stream, Http2Reader)
    ]
    for reader in readers:
        closing.enter_context(reader.socket)
    said_more = False
    while reading := [reader for reader in readers if reader.heard[-1:] != [len(texts) - 1]]:
        for reader in reading:
            reader.read()
        time.sleep(0.001)
        if not said_more and all(len(reader.heard) >= KEPT // 2 for reader in readers):
            said_more = True
            say(server, texts[KEPT:])
    for reader in readers:
        assert reader.heard == list(range(len(texts)))


def test_clients_that_do_not_read_cost_little(server: Server, port: int, closing: ExitStack) -> None:
    metrics = Metrics(server, port)
    say(server, [LONGEST] * KEPT)
    before = resident(server)
    for number in range(CLIENTS):
        way = WAYS[number % len(WAYS)]
        # Every other one is live at once: what waits for it comes with the burst.
        closing.enter_context(way(server, f"/chat/lobby?history={KEPT if number // len(WAYS) % 2 else 0}"))
    until(lambda: metrics.number("twisted_chat_connections") == CLIENTS, "all that joined")
    until(lambda: metrics.number("twisted_chat_outbox_bytes") > 0, "bytes that wait")
    assert metrics.number("twisted_chat_outbox_bytes") < 20 * MIB
    assert resident(server) - before < 60 * MIB
    say(server, [LONGEST] * KEPT)
    assert MIB < metrics.number("twisted_chat_outbox_bytes") < 64 * MIB
    assert metrics.number("twisted_chat_outbox_bytes_limit") == 256 * MIB
    assert resident(server) - before < 120 * MIB


def page(server: Server, address: str) -> socket.socket:
    """A connection that asks for a long history three times."""
    connection = connected(server, address=address)
    connection.sendall(f"GET /chat/lobby?limit={KEPT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 3)
    return connection


def pages_2(server: Server, address: str) -> socket.socket:
    """The same over HTTP/2 with a stream for each, whose windows never fill."""
    connection = connected(server, "h2", address=address)
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = PLENTY
    h2.local_settings.acknowledge()
    h2.initiate_connection()
    h2.increment_flow_control_window(PLENTY - 65_535)
    head = [(":scheme", "https"), (":authority", "localhost"), (":method", "GET")]
    for stream in (1, 3, 5):
        h2.send_headers(stream, [*head, (":path", f"/chat/lobby?limit={KEPT}")], end_stream=True)
    connection.sendall(h2.data_to_send())
    return connection


@pytest.mark.parametrize("relay", ["memory:", "sqlite:"])
def test_histories_that_are_not_read_cost_little(
    twistd: Callable[..., Server], port: int, closing: ExitStack, relay: str
) -> None:
    admin = ("--admin-port", f"tcp:{port}:interface=127.0.0.1")
    server = twistd("--self-signed", *admin, *LIMITS, "--relay", relay, endpoint=TLS)
    metrics = Metrics(server, port)
    say(server, [LONGEST] * KEPT)
    before = resident(server)
    for number in range(ASKING):
        closing.enter_context((page, pages_2)[number % 2](server, "127.0.0.2"))
    until(lambda: metrics.number("twisted_chat_refusals_total") > ASKING // 2, "answers that are refused")
    assert MIB < metrics.number("twisted_chat_outbox_bytes") < 64 * MIB
    assert resident(server) - before < 80 * MIB
    # Another address has what it asks for.
    answer = server.get(f"/chat/lobby?limit={KEPT}")
    assert [message["message"] for message in answer.json()["messages"]] == [LONGEST] * KEPT
