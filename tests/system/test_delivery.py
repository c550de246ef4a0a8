"""Written past the transport's buffers or through them: a client that stalls and comes back misses nothing."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.threaded_tls import threaded_context
from tests.twistd import Server, until

MESSAGES = 1000
LIMITS = (
    *("--limit-messages-per-address", "1000000"),
    *("--limit-messages-per-connection", "1000000"),
    *("--limit-outbox-bytes", str(64 << 20)),
    *("--limit-ping-interval", "3600"),  # who reads nothing hears no ping, however long this takes
)


def text(number: int) -> str:
    """Up to 12 KB, much more in all than the system keeps for a client that does not read."""
    return f"{number} " + "€" * (number * 37 % 4_000)


def slow_socket(server: Server) -> socket.socket:
    """One for which the system keeps little."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", server.port))
    return made


@pytest.mark.parametrize("endpoint", ["tcp:{port}:interface=127.0.0.1", "tls:{port}:interface=127.0.0.1"])
def test_a_client_that_stalls_and_comes_back_misses_nothing(
    twistd: Callable[..., Server],
    port: int,
    endpoint: str,
    authority: Any,
    tmp_path: Path,
) -> None:
    authority.issue(tmp_path / "live", "localhost")
    admin = f"tcp:{port}:interface=127.0.0.1"
    certificates = ("--certificates", tmp_path / "live") if endpoint.startswith("tls") else ()
    server = twistd("--relay", "memory:", "--admin-port", admin, *LIMITS, *certificates, endpoint=endpoint)
    secured: dict[str, Any] = {}
    if certificates:
        secured = {"ssl": threaded_context(authority.file), "server_hostname": "localhost"}

    def waiting() -> float:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text
        found = re.search(r"^twisted_chat_outbox_bytes (\S+)$", page, re.MULTILINE)
        assert found is not None
        return float(found[1])

    with (
        server.socket(max_queue=1, sock=slow_socket(server), ping_interval=None, **secured) as slow,
        server.socket(**secured) as quick,
    ):
        for number in range(MESSAGES):
            quick.send(json.dumps({"handle": "ann", "message": text(number)}))
            if number % 10 == 0:
                slow.send(json.dumps({"handle": "bob", "typing": True}))  # what it says is heard all the while
            assert json.loads(quick.recv())["message"] == text(number)
        until(waiting, "bytes that wait for the slow one")
        for number in range(MESSAGES):
            assert json.loads(slow.recv())["message"] == text(number)
        until(lambda: waiting() == 0, "the end of what waits")


def test_a_client_that_compresses_and_one_that_does_not_hear_the_same(twistd: Callable[..., Server]) -> None:
    server = twistd("--relay", "memory:", "--compression")
    with server.socket() as compressing, server.socket(compression=None) as plain:
        assert [extension.name for extension in compressing.protocol.extensions] == ["permessage-deflate"]
        assert not plain.protocol.extensions
        for number, sender in enumerate([compressing, plain] * 3):
            sender.send(json.dumps({"handle": "ann", "message": text(number)}))
            assert [json.loads(member.recv())["message"] for member in (compressing, plain)] == [text(number)] * 2
