"""A Redis that hangs while clients send as fast as they can: what the server keeps is bounded, and nothing is lost."""

from __future__ import annotations

import signal
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import pytest
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from tests.consumers.conftest import Serve, Worker
from tests.relay.redis_server import Make
from tests.twistd import Server, until

PATIENCE = 90.0
ATTACK = 2.0
"""Seconds, which is less than it takes to give up the link."""

ATTACKERS = 10
MOST = 40 << 20
"""Bytes by which the server may grow. Before there was a bound, a single client came to 270 MB in seven seconds."""

HONEST = 100


def memory(server: Server) -> int:
    """Bytes that it takes, resident."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def come(server: Server) -> ClientConnection:
    return connect(
        server.url.replace("http", "ws", 1) + "/sleepy",
        proxy=None,
        compression=None,
        open_timeout=PATIENCE,
        close_timeout=1,
    )


def attack(socket: ClientConnection, size: int, until: float) -> None:
    """Send frames of this size as fast as they are taken."""
    frame = Frame(Opcode.TEXT, b"x" * size).serialize(mask=True)
    data = memoryview(frame * (65_536 // len(frame) + 1))
    socket.socket.settimeout(0.2)
    at = 0
    while time.monotonic() < until:
        with suppress(TimeoutError):
            at = (at + socket.socket.send(data[at:])) % len(data)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_redis_that_hangs(
    start_server: Serve, start_worker: Callable[..., Worker], make_redis: Make, tmp_path: Path
) -> None:
    redis = make_redis()
    redis.start()
    server = start_server("--relay", redis.url, "--consumers", "remote")
    start_worker("--relay", redis.url, "--threads", "4", environ={"BEHAVIOUR_LOG": str(tmp_path / "runs")})
    with ExitStack() as stack:
        attackers = [stack.enter_context(come(server)) for _ in range(ATTACKERS)]
        honest = stack.enter_context(come(server))
        honest.send("0")
        assert honest.recv(PATIENCE) == "0"
        before = memory(server)
        redis.signal(signal.SIGSTOP)
        end = time.monotonic() + ATTACK
        # Large ones, and such that are nothing but overhead.
        threads = [
            threading.Thread(target=attack, args=(socket, (40_000, 0)[number % 2], end), daemon=True)
            for number, socket in enumerate(attackers)
        ]
        for thread in threads:
            thread.start()
        for number in range(1, HONEST):
            honest.send(str(number))
        most = before
        while time.monotonic() < end:
            most = max(most, memory(server))
            time.sleep(0.05)
        for thread in threads:
            thread.join(PATIENCE)
        redis.signal(signal.SIGCONT)
        assert most - before < MOST
        for socket in attackers:
            socket.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # what was not read is lost
            socket.socket.close()
        assert [honest.recv(PATIENCE) for _ in range(1, HONEST)] == [str(number) for number in range(1, HONEST)]

        def nothing_waits() -> bool:
            return not redis.command("EXISTS", "twisted_chat:consumers:bytes")

        until(nothing_waits, "the queue is empty, and has no bytes")
