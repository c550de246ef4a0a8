"""Stopping: the order of it, what each kind of client sees, and who is in a hurry."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedOK

from tests.service_manager import ServiceManager
from tests.twistd import Server, until

StartServer = Callable[..., Server]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems have no signal that stops a process in order")

PATIENCE = 90.0
UPGRADE = (
    b"GET /chat/lobby HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextmanager
def deaf_client(server: Server) -> Iterator[socket.socket]:
    """A room socket whose client never answers anything."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(UPGRADE)
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        yield client


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += client.recv(1)
    return data


def read_all(client: socket.socket) -> bytes:
    """Everything until the server ends the connection, whichever way."""
    data = b""
    try:
        while more := client.recv(65_536):
            data += more
    except ConnectionResetError:
        pass
    return data


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


@contextmanager
def half_a_post(server: Server, message: str) -> Iterator[Callable[[], bytes]]:
    """A request of which a part has arrived; sends the rest, and returns the answer."""
    body = b'{"handle": "bob", "message": "%b"}' % message.encode()
    head = b"POST /chat/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(head % len(body) + b"\r\n\r\n" + body[:10])

        def finish() -> bytes:
            client.sendall(body[10:])
            return read_all(client)

        yield finish


def test_everyone_is_sent_away_in_order(
    twistd: StartServer, tmp_path: Path, port: int, service_manager: ServiceManager
) -> None:
    server = twistd(
        "--admin-port", f"tcp:{port}:interface=127.0.0.1", environ={"NOTIFY_SOCKET": str(service_manager.path)}
    )
    service_manager.hears("READY=1")
    # A client that never answers keeps the server in the middle of its stop for a while.
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as admin,
        ThreadPoolExecutor() as threads,
        server.socket() as talker,
        server.events() as lines,
        deaf_client(server) as deaf,
        half_a_post(server, "late") as finish_post,
    ):
        ready = {"ready": True, "state": "ready", "obstacles": [], "nodes": 1}
        # Its probe is a write: a disk that is busy with other tests may be slow to answer.
        until(lambda: admin.get("/readyz").json() == ready)
        stream = threads.submit(list, lines)
        until(lambda: 'connections{transport="event_stream"} 1.0' in admin.get("/metrics").text)
        assert 'connections{transport="websocket"} 2.0' in admin.get("/metrics").text
        server.signal(signal.SIGTERM)

        # The service manager, and whoever balances load, know it first.
        stopping = service_manager.hears("STOPPING=1")
        assert "EXTEND_TIMEOUT_USEC=13000000" in stopping, "a second of draining, and twice six of grace"
        until(lambda: refused(server.port), "the port to be closed")
        answer = admin.get("/readyz")
        assert (answer.status_code, answer.json()["obstacles"][0]["code"]) == (503, "draining")

        # Who was there is told to come back, and when.
        with pytest.raises(ConnectionClosedOK) as closed:
            talker.recv(PATIENCE)
        assert closed.value.rcvd_then_sent
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert re.fullmatch(r"going_away: the server restarts; retry=\d+\.\d", closed.value.rcvd.reason)
        told = stream.result(PATIENCE)
        assert any(re.fullmatch(r"retry: \d{3,4}", line) for line in told)
        assert '"code":"going_away"' in told[-2]
        closing = deaf.recv(1000)
        assert (closing[0], closing[2:4]) == (0x88, (1001).to_bytes(2, "big"))

        # What was under way is finished and kept: the database is open until then.
        answered = finish_post()
        assert answered.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"\r\nConnection: close\r\n" in answered
        assert (tmp_path / "chat.db-wal").exists()

        # Who does not answer is cut off.
        assert read_all(deaf) == b""
        assert server.wait() == -signal.SIGTERM, "twistd ends by the signal that it got, as Twisted has it"
    assert not (tmp_path / "chat.db-wal").exists(), "the database was closed in order"
    assert "Traceback" not in server.log
    server.start()
    assert [message["message"] for message in server.history()] == ["late"]


@pytest.mark.parametrize("hurry", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_who_asks_twice_does_not_wait(twistd: StartServer, tmp_path: Path, hurry: signal.Signals) -> None:
    server = twistd("--drain", "600")
    with deaf_client(server) as deaf:
        server.post("hi")
        server.signal(hurry)
        assert read_until(deaf, b"retry=")  # the message, and the beginning of the farewell
        server.signal(hurry)
        read_all(deaf)
        assert server.wait() == -hurry
    server.logged("told to stop again: the 1 clients that are left are cut off")
    assert "closing handshake timeout" not in server.log, "nobody waited for an answer"
    assert "Traceback" not in server.log
    assert not (tmp_path / "chat.db-wal").exists(), "in a hurry, and still in order"


def test_nobody_there_is_nobody_to_wait_for(twistd: StartServer) -> None:
    server = twistd("--drain", "600")
    with httpx.Client(trust_env=False, timeout=PATIENCE) as idle:
        assert idle.get(f"{server.url}/chat/").status_code == 200
        assert server.terminate() == -signal.SIGTERM
    assert "clients away" not in server.log
    assert "Traceback" not in server.log
