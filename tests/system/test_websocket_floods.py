"""Floods of WebSocket frames that carry nothing, against a real server: it serves the others meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.twistd import PATIENCE, Server

ROOT = Path(__file__).parents[2]
SECONDS = 4.0
"""Of the attack; before there were limits, everybody waited for all of it, and for as long again."""

LONGEST_WAIT = 2.0
"""Seconds for a round trip, on a machine that is busy with the attackers too; usually it takes milliseconds."""


@contextmanager
def attacked(server: Server, *attacks: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of attackers, all of one address, at work."""
    command = [sys.executable, "-m", "tests.attack.attackers", "--port", str(server.port), "--seconds", str(SECONDS)]
    process = subprocess.Popen([*command, *attacks], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="attackers have an address of 127.0.0.0/8 of their own"
)
@pytest.mark.parametrize("attack", ["pings", "fragments"])
def test_others_do_not_wait(twistd: Callable[..., Server], attack: str) -> None:
    server = twistd("--relay", "memory:", "--limit-messages-per-connection", "1000:1000")
    waits: list[float] = []
    with server.socket() as ann, server.socket() as bob, attacked(server, attack) as process:
        while process.poll() is None:
            sent, text = time.monotonic(), f"{len(waits)}"
            ann.send(json.dumps({"handle": "ann", "message": text}))
            for member in (ann, bob):
                assert json.loads(member.recv(PATIENCE))["message"] == text, "each of them, in order"
            waits.append(time.monotonic() - sent)
            time.sleep(0.02)
        assert process.returncode == 0
    assert max(waits) < LONGEST_WAIT
    assert len(waits) > 10
    assert "Traceback" not in server.log
