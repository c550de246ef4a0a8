"""Bodies that never end, from one address, over both HTTP versions: the process stays small, and others are served."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.ports import free_port
from tests.twistd import Server

STREAMS: Final = 250
PIECES: Final = [b"x" * 15_000] * 4
"""What comes of each body."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc for its size")


def resident(server: Server) -> int:
    """Bytes of the server's memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def held(admin: int) -> int:
    """Bytes that the server says it holds of bodies that have not come whole."""
    page = httpx.get(f"http://127.0.0.1:{admin}/metrics", trust_env=False, timeout=60).text
    found = re.search(r"^twisted_chat_unfinished_bytes (\S+)$", page, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def begin_http2(connection: socket.socket) -> None:
    """Post on as many streams as there may be, and end none."""
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.initiate_connection()
    streams = range(1, 2 * STREAMS, 2)
    head = [(":method", "POST"), (":path", "/chat/a"), (":scheme", "http"), (":authority", "127.0.0.1")]
    for stream in streams:
        h2.send_headers(stream, [*head, ("content-type", "application/json")])
    connection.sendall(h2.data_to_send())
    # As if the window of the connection had been opened again, which the server does for all that it takes.
    for piece in PIECES:
        for stream in streams:
            connection.sendall(len(piece).to_bytes(3, "big") + b"\0\0" + stream.to_bytes(4, "big") + piece)


def begin_http1(connection: socket.socket) -> None:
    head = (
        b"POST /chat/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 65536\r\n\r\n"
    )
    connection.sendall(head)
    connection.sendall(b"".join(PIECES))


@pytest.mark.parametrize(("begin", "connections"), [(begin_http1, 400), (begin_http2, 8)], ids=["http/1.1", "http/2"])
def test_bodies_that_never_end(
    twistd: Callable[..., Server], begin: Callable[[socket.socket], None], connections: int
) -> None:
    # 24 MB over HTTP/1.1, 120 MB over HTTP/2, if all of it were kept.
    admin = free_port()
    # With the rate of requests as it is, HTTP/2 would be ended before it holds much.
    rates = ("--limit-requests-per-address", "100000:100000")
    server = twistd("--relay", "memory:", "--admin-port", f"tcp:{admin}:interface=127.0.0.1", *rates)
    assert server.post("before").status_code == 201
    before = resident(server)
    with ExitStack() as opened:
        for _ in range(connections):
            begin(opened.enter_context(connect(server)))
        # The same address still posts and reads, since what comes at once needs no room among the unfinished.
        assert server.post("during").status_code == 201
        assert [message["message"] for message in server.history()] == ["before", "during"]
        grown = resident(server) - before
        assert 1 << 20 < held(admin) <= 8 << 20
    # Eight mebibytes of an address, and what so many streams and their refusals take.
    assert grown < 40 << 20, f"{grown >> 20} MiB"
    assert server.post("after").status_code == 201
