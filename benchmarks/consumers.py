"""What Python behind the sockets does: each client is told what it said, by a consumer.

In one process: our server runs the consumer in a thread, as a coroutine, and Daphne runs that of Channels. Through
Redis: ours goes to a worker and back; that of Channels answers by way of its channel layer, without leaving Daphne.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks import contenders, installation
from benchmarks.bench import P50, P99, Bench, Figure
from benchmarks.contenders import Contender
from benchmarks.installation import PEERS
from benchmarks.load import Load, generate
from benchmarks.servers import PATIENCE, BrokenError, Running, redis, started

CLIENTS: Final = 100
UNDER_WAY: Final = 16
"""Messages that are on the way at all times."""

RATE: Final = 200.0
"""Messages a second, at which all of them have air."""

ECHOES: Final[Figure[Load]] = Figure("echoes/s", "more", lambda load: load.deliveries)

COROUTINES: Final = "twisted_chat, coroutines"
REMOTE: Final = ("--consumers", "remote")


def measure(bench: Bench) -> None:
    threads = _ours("--routing", "echo_consumers:threads")
    coroutines = _ours("--routing", "echo_consumers:coroutines", name=COROUTINES)
    if bench.quick:
        _side_by_side(bench, "in one process", [threads, coroutines])
        return
    with redis() as port:
        _side_by_side(bench, "in one process", [threads, coroutines, _channels("Channels, Daphne", port)])
        relay = f"redis://127.0.0.1:{port}"
        remote = _ours(*REMOTE, relay=relay)
        peer = _channels("Channels, channels_redis", port, THROUGH_REDIS="1")
        _side_by_side(bench, "through Redis, a worker", [remote, peer], relay)


def _side_by_side(bench: Bench, how: str, contenders: list[Contender], relay: str | None = None) -> None:
    def saturated(server: Running) -> Load:
        with _worker(server, relay):
            return _saturated(server, bench.seconds)

    def at_a_rate(server: Running) -> Load:
        with _worker(server, relay):
            _saturated(server, 0.5)
            return generate(server, CLIENTS, o=True, k=CLIENTS, c=8, l=bench.seconds, r=RATE)

    title = f"an echo {how}, {CLIENTS} clients"
    bench.side_by_side("consumers", f"{title}, {UNDER_WAY} messages under way", [ECHOES], contenders, saturated)
    bench.side_by_side("consumers", f"{title}, {RATE:.0f} messages/s", [P50, P99], contenders, at_a_rate)


def _ours(*options: str, relay: str = "memory:", name: str = contenders.OURS) -> Contender:
    made = contenders.twisted_chat(*options, relay=relay, name=name)
    return replace(made, environ={"PYTHONPATH": str(PEERS)})


def _saturated(server: Running, seconds: float) -> Load:
    generate(server, CLIENTS, o=True, k=CLIENTS, c=8, t=0.5, W=UNDER_WAY)
    return generate(server, CLIENTS, o=True, k=CLIENTS, c=8, t=seconds, W=UNDER_WAY)


def _channels(name: str, redis_port: int, **environ: str) -> Contender:
    def command(port: int) -> list[str]:
        daphne = Path(installation.python_for("channels")).with_name("daphne")
        return [str(daphne), "-v", "0", "-b", "127.0.0.1", "-p", str(port), "channels_echo:application"]

    return Contender(name, command, environ={"REDIS_PORT": str(redis_port), "PYTHONPATH": str(PEERS)} | environ)


@contextmanager
def _worker(server: Running, relay: str | None) -> Iterator[None]:
    """Beside our server, where that leaves its consumers to others."""
    if relay is None or not server.contender.ours:
        yield
        return
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [twistd, "-n", "--pidfile=", "chat-worker", "--relay", relay, "--routing", "echo_consumers:coroutines"]
    directory = server.directory / "worker"
    directory.mkdir()
    with started(command, {"PYTHONPATH": str(PEERS)}, directory):
        deadline = time.monotonic() + PATIENCE
        while "runs consumers of" not in (directory / "log").read_text(errors="replace"):
            if time.monotonic() > deadline:
                raise BrokenError("the worker does not start")
            time.sleep(0.05)
        yield
