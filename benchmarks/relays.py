"""How many messages a second the relays acknowledge to 100 senders, beside what stands behind each at its best.

SQLite is set against a durable transaction for each message, in a plain loop. Redis is set against the publish script
alone: the same calls, already encoded, as fast as Redis takes them. The relays run in this process, as in the server.
"""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from benchmarks.bench import Bench
from benchmarks.installation import MissingError
from benchmarks.results import Comparison, Row
from benchmarks.servers import BrokenError, redis
from twisted_chat.core.publication import Position, Publication
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.redis import open_redis
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.publications import Storage
from twisted_chat.relay.redis.scripts import PUBLISH
from twisted_chat.relay.sqlite import SqliteRelay

DATA: Final = b'{"handle":"ann","message":"%b"}' % (b"x" * 128)
SENDERS: Final = 100
ROOMS: Final = 10
HISTORY: Final = HistoryLimits(count=1000)
PATIENCE: Final = 60.0


class Nobody:
    """Takes what a relay calls back."""

    def deliver(self, room: str, publication: Publication) -> None: ...
    def signal(self, room: str, data: bytes) -> None: ...
    def joined(self, room: str, handle: str) -> None: ...
    def left(self, room: str, handle: str) -> None: ...
    def interrupted(self, rooms: Collection[str] | None = None) -> None: ...
    def resumed(self, rooms: Collection[str] | None = None) -> None: ...
    def top(self, room: str, position: Position) -> None: ...


def measure(bench: Bench) -> None:
    _sqlite(bench)
    if not bench.quick:
        _redis(bench)


def _sqlite(bench: Bench) -> None:
    runs: dict[str, Callable[[Path], float]] = {
        "SqliteRelay": lambda directory: in_a_process("sqlite", str(directory / "chat.db"), SENDERS, bench.seconds),
        "SqliteRelay, 1 sender": lambda directory: in_a_process("sqlite", str(directory / "one.db"), 1, bench.seconds),
        "MemoryRelay": lambda _: in_a_process("memory", "", SENDERS, bench.seconds),
        "INSERT one by one": lambda directory: one_by_one(directory, bench.seconds),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(bench.rounds):
        for name, run in runs.items():
            bench.progress.doing(f"relays: {name}")
            with tempfile.TemporaryDirectory(prefix="chat-bench-") as directory:
                taken[name].append(run(Path(directory)))
    _add(bench, f"SQLite, messages acknowledged to {SENDERS} senders", taken)


def _redis(bench: Bench) -> None:
    taken: dict[str, list[float]] = {name: [] for name in ("RedisRelay", "RedisRelay, 1 sender", "the script alone")}
    try:
        with redis() as port:
            for _ in range(bench.rounds):
                bench.progress.doing("relays: Redis")
                url = f"redis://127.0.0.1:{port}"
                taken["RedisRelay"].append(in_a_process("redis", url, SENDERS, bench.seconds))
                taken["RedisRelay, 1 sender"].append(in_a_process("redis", url, 1, bench.seconds))
                taken["the script alone"].append(script_alone(port, bench.seconds))
    except MissingError as error:
        bench.add(Comparison("relays", "Redis", "messages/s", "more", (), missing={"Redis": str(error)}))
    else:
        _add(bench, f"Redis, messages acknowledged to {SENDERS} senders", taken)


def _add(bench: Bench, title: str, taken: dict[str, list[float]]) -> None:
    rows = tuple(Row.of(name, values) for name, values in taken.items())
    bench.add(Comparison("relays", title, "messages/s", "more", rows, base=rows[0].name))


# What stands behind


def one_by_one(directory: Path, seconds: float) -> float:
    """Messages a second into the same table, with a durable transaction for each."""
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


def script_alone(port: int, seconds: float) -> float:
    """Calls of the publish script a second: `SENDERS` of them on the way at a time, on one connection."""
    storage = Storage(Names(), HISTORY)
    batch = b"".join(_encoded(storage, f"room{number % ROOMS}") for number in range(SENDERS))
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(_command(b"SCRIPT", b"LOAD", PUBLISH.text))
        if not connection.recv(1 << 16).startswith(b"$"):
            raise BrokenError("Redis does not take the publish script")
        began, count = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            connection.sendall(batch)
            replies, waiting = b"", SENDERS
            while waiting:
                received = connection.recv(1 << 20)
                if not received or received[:1] == b"-":
                    raise BrokenError(f"Redis refuses the publish script: {received[:200]!r}")
                waiting = SENDERS - (replies := replies + received).count(b"*2\r\n")
            count += SENDERS
        return count / (time.monotonic() - began)


def _encoded(storage: Storage, room: str) -> bytes:
    script, keys, args = storage.publish(room, DATA, None)
    texts = [each if isinstance(each, bytes) else str(each).encode() for each in (*keys, *args)]
    return _command(b"EVALSHA", script.sha, str(len(keys)).encode(), *texts)


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


# The relays, each in a process of its own: a reactor runs once


def in_a_process(kind: str, where: str, senders: int, seconds: float) -> float:
    """Messages a second that a relay acknowledges. Raises `BrokenError`."""
    command = [sys.executable, "-m", "benchmarks.relays", kind, where, str(senders), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise BrokenError(f"the {kind} relay: not done {PATIENCE:.0f} seconds after its time") from None
    try:
        return float(done.stdout)
    except ValueError:
        raise BrokenError(f"the {kind} relay: {(done.stderr or done.stdout).strip()[-500:]}") from None


async def rate(relay: Any, senders: int, seconds: float) -> float:
    """Acknowledged messages a second."""
    await relay.start(Nobody())
    for number in range(ROOMS):
        relay.subscribe(f"room{number}")
    until = time.monotonic() + seconds
    count = 0

    async def send(number: int) -> None:
        nonlocal count
        while time.monotonic() < until:
            await relay.publish(f"room{number % ROOMS}", DATA)
            count += 1

    began = time.monotonic()
    await gatherResults([Deferred.fromCoroutine(send(number)) for number in range(senders)])
    took = time.monotonic() - began
    await relay.stop()
    return count / took


def _relay(reactor: Any, kind: str, where: str) -> Any:
    made: dict[str, Callable[[], Any]] = {
        "memory": lambda: MemoryRelay(reactor, HISTORY),
        "sqlite": lambda: SqliteRelay(reactor, Path(where), HISTORY),
        "redis": lambda: open_redis(where, reactor=reactor, history=HISTORY),
    }
    return made[kind]()


async def _main(reactor: Any, kind: str, where: str, senders: str, seconds: str) -> None:
    result = await rate(_relay(reactor, kind, where), int(senders), float(seconds))
    sys.stdout.write(f"{result}\n")


def main() -> None:
    arguments = sys.argv[1:]
    react(lambda reactor: Deferred.fromCoroutine(_main(reactor, *arguments)))


if __name__ == "__main__":
    main()
