"""Clients that want to bring the server down by HTTP/2, against a real one: it stays small, and serves the others."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, RstStreamFrame, WindowUpdateFrame

from tests.twistd import Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
GET = Encoder().encode([(":method", "GET"), (":path", "/chat/lobby"), (":scheme", "http"), (":authority", "localhost")])
POST = Encoder().encode(
    [(":method", "POST"), (":path", "/chat/lobby"), (":scheme", "http"), (":authority", "localhost")]
)
CONNECTIONS = 5
MANY = ("--limit-requests-per-address", "1000000")
"""All clients have one address, and what is tried is not how many requests it may have."""

ENOUGH = 16 << 20
"""Bytes that one connection sends if nobody stops it."""


def request(stream: int, block: bytes, *flags: str) -> bytes:
    return HeadersFrame(stream, block, flags=["END_HEADERS", *flags]).serialize()


def rapid_reset() -> Iterator[bytes]:
    for stream in count(1, 2):
        yield request(stream, GET, "END_STREAM") + RstStreamFrame(stream, 8).serialize()


def made_to_reset() -> Iterator[bytes]:
    for stream in count(1, 2):
        yield request(stream, GET, "END_STREAM") + WindowUpdateFrame(stream, 2**31 - 1).serialize()


def settings() -> Iterator[bytes]:
    """Each of 65,536 numbers that there may be; whoever keeps them holds 50 MB."""
    for start in count(0, 2_000):
        body = b"".join(struct.pack(">HL", (start + number) % 65_000 + 100, 1) for number in range(2_000))
        yield len(body).to_bytes(3) + b"\4\0\0\0\0\0" + body


def endless(first: bytes, frame: bytes) -> Callable[[], Iterator[bytes]]:
    def attack() -> Iterator[bytes]:
        yield first
        while True:
            yield frame

    return attack


ATTACKS = {
    "rapid reset": rapid_reset,
    "made to reset": made_to_reset,
    "settings": settings,
    "pings, never reading": endless(b"", PingFrame(0).serialize() * 100),
    "an endless head": endless(HeadersFrame(1, GET).serialize(), ContinuationFrame(1, b"\0" * 16_000).serialize()),
    "a frame of 16 MiB": endless(b"\xff\xff\xff\0\0\0\0\0\1", b"x" * 65_536),
    "data without any": endless(request(1, POST), DataFrame(1).serialize() * 100),
    "window updates": endless(request(1, POST), WindowUpdateFrame(1, 1).serialize() * 100),
}


def sent_until_stopped(port: int, pieces: Iterator[bytes]) -> int:
    """How many bytes the server let a connection send, which reads nothing meanwhile."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(PREFACE)
        try:
            while sent < ENOUGH:
                # A read of the server's; in small pieces this would take for ever.
                batch = b"".join(next(pieces) for _ in range(20))
                connection.sendall(batch)
                sent += len(batch)
        except OSError:
            pass
    return sent


def resident(server: Server) -> int:
    """Bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see how large it is")
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_the_server_stays_small_and_serves_others(
    twistd: Callable[..., Server], attack: Callable[[], Iterator[bytes]]
) -> None:
    server = twistd(*MANY)
    url = f"{server.url}/chat/lobby"
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=30) as other:
        assert other.get(url).http_version == "HTTP/2"
        before = resident(server)
        for _ in range(CONNECTIONS):
            assert sent_until_stopped(server.port, attack()) < ENOUGH
            # On the connection that it had before.
            assert other.get(url).status_code == 200
        assert resident(server) - before < 25 << 20
    assert "Traceback" not in server.log
