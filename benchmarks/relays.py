"""How many messages a second each relay acknowledges, beside SQLite with a transaction for each message.

    python benchmarks/relays.py [--seconds 3] [--senders 100] [--redis redis://127.0.0.1]

`senders` coroutines each publish, wait for the acknowledgement and publish again. Only the ratios of one run mean
something: the disk and the processor belong to whatever else runs. What is written to Redis expires after ten minutes.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from twisted_chat.core.publication import Position, Publication
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.redis import open_redis
from twisted_chat.relay.sqlite import SqliteRelay

DATA = b'{"handle":"ann","message":"%b"}' % (b"x" * 100)


class Nobody:
    """Takes what a relay calls back."""

    def deliver(self, room: str, publication: Publication) -> None: ...
    def signal(self, room: str, data: bytes) -> None: ...
    def joined(self, room: str, handle: str) -> None: ...
    def left(self, room: str, handle: str) -> None: ...
    def interrupted(self, rooms: Collection[str] | None = None) -> None: ...
    def resumed(self, rooms: Collection[str] | None = None) -> None: ...
    def top(self, room: str, position: Position) -> None: ...


async def rate(relay: Any, senders: int, seconds: float) -> float:
    """Acknowledged messages a second."""
    await relay.start(Nobody())
    for number in range(10):
        relay.subscribe(f"room{number}")
    until = time.monotonic() + seconds
    count = 0

    async def send(number: int) -> None:
        nonlocal count
        while time.monotonic() < until:
            for _ in range(10):
                await relay.publish(f"room{number % 10}", DATA)
                count += 1

    began = time.monotonic()
    await gatherResults([Deferred.fromCoroutine(send(number)) for number in range(senders)])
    took = time.monotonic() - began
    await relay.stop()
    return count / took


async def rate_through(url: str, reactor: Any, history: HistoryLimits, senders: int, seconds: float) -> float:
    """The same through the Redis that `url` names."""
    return await rate(open_redis(url, reactor=reactor, history=history), senders, seconds)


def one_by_one(directory: Path, seconds: float) -> float:
    """The same table, a durable transaction for each message."""
    connection = sqlite3.connect(directory / "naive.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE messages (room TEXT, number INTEGER, data BLOB, PRIMARY KEY (room, number))")
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        connection.execute("INSERT INTO messages VALUES ('room', ?, ?)", (count, DATA))
        count += 1
    connection.close()
    return count / seconds


async def compare(reactor: Any, senders: int, seconds: float, redis: str | None) -> None:
    history = HistoryLimits(count=1000)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        runs: list[tuple[str, Callable[[], Awaitable[float]]]] = [
            ("memory", lambda: rate(MemoryRelay(reactor, history), senders, seconds)),
            ("sqlite", lambda: rate(SqliteRelay(reactor, directory / "chat.db", history), senders, seconds)),
            ("sqlite, one sender", lambda: rate(SqliteRelay(reactor, directory / "one.db", history), 1, seconds)),
        ]
        if redis is not None:
            expiring = HistoryLimits(count=1000, age=600)
            for label, number in (("redis", senders), ("redis, one sender", 1)):
                runs.append((label, partial(rate_through, redis, reactor, expiring, number, seconds)))
        naive = one_by_one(directory, seconds)
        print(f"{'INSERT one by one':20} {naive:10,.0f} messages/s   1.0")
        for label, run in runs:
            result = await run()
            print(f"{label:20} {result:10,.0f} messages/s {result / naive:5.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--senders", type=int, default=100)
    parser.add_argument("--redis", metavar="URL", help="also measure the relay through this Redis")
    options = parser.parse_args()

    def run(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(compare(reactor, options.senders, options.seconds, options.redis))

    react(run)


if __name__ == "__main__":
    main()
