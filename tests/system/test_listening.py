"""Endpoints other than a port: a unix socket, and a proxy that tells who is behind it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import unix_connect

from tests.twistd import Server

StartServer = Callable[..., Server]

PATIENCE = 90.0


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("needs Unix sockets")
    return tmp_path_factory.mktemp("u") / "http.sock"


@pytest.fixture
def local(socket_path: Path) -> Iterator[httpx.Client]:
    """A client of that socket."""
    transport = httpx.HTTPTransport(uds=str(socket_path))
    with httpx.Client(transport=transport, base_url="http://chat.example", timeout=PATIENCE) as client:
        yield client


def test_a_unix_socket(twistd: StartServer, socket_path: Path, local: httpx.Client) -> None:
    server = twistd("--limit-connections-per-address", "1", endpoint=f"unix:{socket_path}")
    server.logged(f"listening on unix:{socket_path}")
    assert socket_path.stat().st_mode & 0o777 == 0o660
    with (
        unix_connect(str(socket_path), "ws://chat.example/chat/lobby", open_timeout=PATIENCE) as one,
        # Which have no address to count by.
        unix_connect(str(socket_path), "ws://chat.example/chat/lobby", open_timeout=PATIENCE) as other,
    ):
        assert local.post("/chat/lobby", json={"handle": "ann", "message": "hi"}).status_code == 201
        for client in (one, other):
            assert json.loads(client.recv(PATIENCE))["message"] == "hi"

    # What a crash leaves behind is in nobody's way; an orderly end leaves nothing.
    server.kill()
    assert socket_path.exists()
    socket_path.with_name("http.sock.lock").symlink_to("1")  # a process that lives, as it does in a container
    server.start()
    assert len(local.get("/chat/lobby").json()["messages"]) == 1
    assert server.terminate() == -signal.SIGTERM
    assert not socket_path.exists()


def proxied(server: Server, client: str, request: bytes) -> bytes:
    """The answer to a request that a proxy passes on for `client`, an address."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        family = "TCP6" if ":" in client else "TCP4"
        connection.sendall(f"PROXY {family} {client} {client} 40000 443\r\n".encode() + request)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


def posting(message: str) -> bytes:
    body = json.dumps({"handle": "ann", "message": message}).encode()
    head = "POST /chat/lobby HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_limits_count_the_addresses_behind_a_proxy(twistd: StartServer) -> None:
    server = twistd("--limit-messages-per-address", "0.001:2", endpoint="haproxy:tcp:{port}:interface=127.0.0.1")
    statuses = [
        proxied(server, client, posting("hi"))[:12]
        for client in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8::3")
    ]
    created, too_many = b"HTTP/1.1 201", b"HTTP/1.1 429"
    assert statuses == [created, created, too_many, created, created, created, too_many]

    # Who comes around the proxy comes in vain.
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as direct:
        direct.sendall(posting("hi"))
        with pytest.raises(ConnectionResetError):
            direct.recv(100)
    assert len(proxied(server, "192.0.2.3", b"GET /chat/lobby HTTP/1.0\r\n\r\n").split(b'"id"')) == 1 + 5
    assert "Traceback" not in server.log
