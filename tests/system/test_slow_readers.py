"""Clients that read slowly but steadily are not cut off, whatever they are asked meanwhile; those that hang are."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Generator, Iterator

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.threaded_tls import threaded_context
from tests.twistd import PATIENCE, Server, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what a client has taken")

INTERVAL = 1
"""Seconds between pings, and to answer one."""
OPTIONS = ("--limit-ping-interval", str(INTERVAL), "--limit-ping-timeout", str(INTERVAL), "--relay", "memory:")
QUICK = ("--limit-messages-per-connection", "10000:10000", "--limit-messages-per-address", "10000:10000")
COUNT = 50
TEXT = "x" * 4_000
READ = 4_096
"""Bytes that a slow client reads at a time."""
PAUSE = 0.1
"""Seconds between two reads: all messages take several times as long as a client has to answer."""


def connected(server: Server, protocol: str = "http/1.1") -> socket.socket:
    """A connection of a client with room for little."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ)
    plain.settimeout(30)
    plain.connect(("127.0.0.1", server.port))
    if not server.secure:
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(plain)


def websocket(server: Server) -> Generator[str, None, None]:
    """What a WebSocket client gets that answers pings when it has read them."""
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{server.port}/chat/lobby"), max_size=None)
    protocol.send_request(protocol.connect())
    with connected(server) as connection:
        while True:
            for data in protocol.data_to_send():
                connection.sendall(data)
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    yield str(json.loads(bytes(event.data))["message"])
                elif isinstance(event, Response):
                    yield ""
            data = connection.recv(READ)
            if not data:
                return
            protocol.receive_data(data)


def event_stream(server: Server) -> Generator[str, None, None]:
    """What a client of HTTP/1.1 gets that asks for an event stream."""
    with connected(server) as connection:
        connection.sendall(b"GET /chat/lobby HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        yield from _events(iter(lambda: connection.recv(READ), b""))


def event_stream_of_http2(server: Server) -> Generator[str, None, None]:
    """The same on HTTP/2, with a window that is larger than everything, so that no frame tells that it takes it."""
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.local_settings.initial_window_size = 1 << 24
    h2.local_settings.acknowledge()
    h2.initiate_connection()
    h2.increment_flow_control_window(1 << 24)
    head = [(":method", "GET"), (":path", "/chat/lobby"), (":scheme", "http"), (":authority", "localhost")]
    h2.send_headers(1, [*head, ("accept", "text/event-stream")], end_stream=True)
    with connected(server, "h2") as connection:

        def bodies() -> Iterator[bytes]:
            while True:
                connection.sendall(h2.data_to_send())
                data = connection.recv(READ)
                if not data:
                    return
                yield b"".join(event.data or b"" for event in h2.receive_data(data) if isinstance(event, DataReceived))

        yield from _events(bodies())


def _events(parts: Iterator[bytes]) -> Iterator[str]:
    came, seen, opened = b"", 0, False
    for part in parts:
        came += part
        if not opened and b"\n\n" in came:
            opened = True
            yield ""
        found = re.findall(rb'"message": ?"(\d+) x+"', re.sub(rb"\r\n[0-9a-f]+\r\n", b"", came))
        yield from (f"{number.decode()} {TEXT}" for number in found[seen:])
        if len(found) == seen:
            yield ""  # so that whoever reads may pause
        seen = len(found)


CLIENTS = (websocket, event_stream, event_stream_of_http2)
ENDPOINTS = pytest.mark.parametrize("endpoint", ["tcp", "tls"])


def start(twistd: Callable[..., Server], endpoint: str, *options: str) -> Server:
    tls = ("--self-signed",) if endpoint == "tls" else ()
    return twistd(*tls, *OPTIONS, *QUICK, *options, endpoint=f"{endpoint}:{{port}}:interface=127.0.0.1")


def fill(server: Server) -> None:
    """Post everything, without waiting for anybody who reads it."""
    context = threaded_context() if server.secure else None
    with httpx.Client(trust_env=False, verify=context or True, timeout=PATIENCE) as poster:
        for number in range(COUNT):
            message = {"handle": "ann", "message": f"{number} {TEXT}"}
            poster.post(f"{server.url}/chat/lobby", json=message).raise_for_status()


@ENDPOINTS
def test_clients_that_read_slowly_get_everything_in_order(twistd: Callable[..., Server], endpoint: str) -> None:
    server = start(twistd, endpoint)
    clients = [client(server) for client in CLIENTS]
    assert [next(client) for client in clients] == ["", "", ""]
    fill(server)
    began, got = time.monotonic(), [list[str]() for _ in clients]
    while any(len(each) < COUNT for each in got):
        for client, messages in zip(clients, got, strict=True):
            if len(messages) < COUNT and (text := next(client)):
                messages.append(text)
                if len(messages) == COUNT:
                    client.close()  # one that hangs would rightly be cut off
        time.sleep(PAUSE)
    assert got == [[f"{number} {TEXT}" for number in range(COUNT)]] * 3
    assert time.monotonic() - began > 2 * (INTERVAL + INTERVAL), "they read so fast that no ping had to wait"
    assert "ping_timeout" not in server.log


@ENDPOINTS
def test_clients_that_stop_reading_are_cut_off(twistd: Callable[..., Server], endpoint: str) -> None:
    server = start(twistd, endpoint, "--limit-outbox-bytes", "65536")
    clients = [client(server) for client in CLIENTS]
    assert [next(client) for client in clients] == ["", "", ""]
    fill(server)
    until(lambda: re.search(r"websocket in 'lobby' .*: ping_timeout", server.log))
    until(lambda: re.search(r"event_stream in 'lobby' .*: client_left", server.log))
    # An event stream on HTTP/1.1 answers nothing: it is cut off when too much waits for it.
    while not re.search(r"event_stream in 'lobby' .*: too_slow", server.log):
        fill(server)
    for client in clients:
        client.close()
