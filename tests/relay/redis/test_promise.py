"""What is promised to members, with real nodes and a real server, through faults of all kinds.

Every member that stays, or comes back with its position, receives each acknowledged message exactly once and in the
one order, or is told ``reset``. With an AOF that is written always, nothing acknowledged is lost.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tests.relay.redis.conftest import OpenTunnel, Tunnel
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.core.errors import ChatError
from twisted_chat.core.limits import AddressRates, Limits
from twisted_chat.core.permissions import ANYONE
from twisted_chat.core.publication import Position, Publication
from twisted_chat.core.session import Session
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.redis import tops
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.relay import RedisRelay
from twisted_chat.relay.redis.url import parse_url
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire.formats import Format

ROOMS = ("one", "two")
NODES = 3
MEMBERS = 4
MESSAGES = 150
LOST = 0.03
FAULTS = 6
SEEDS = (1, 2, 3)
DEADLINE = 60.0


class Notes:
    """A wire format that keeps what it is given for one connection, instead of making bytes of it."""

    def __init__(self) -> None:
        self.heard: list[Publication | Position | None] = []

    def publication(self, publication: Publication) -> bytes:
        self.heard.append(publication)
        return b"."

    def event(self, event: bytes) -> bytes:
        return b""

    def reset(self, position: Position) -> bytes:
        self.heard.append(None)
        return b"."

    def start(self, position: Position) -> bytes:
        self.heard.append(position)
        return b"."

    def error(self, refused: ChatError) -> bytes:
        return b""


class Outlet:
    direct = None

    def write(self, data: bytes) -> None:
        """The format has noted it."""

    def writable(self) -> bool:
        return True


class Client:
    """Someone in a room, on one node or another, who comes back with the position of what they heard last."""

    def __init__(self, name: str, room: str) -> None:
        self.name = name
        self.room = room
        self.notes = Notes()
        self.resets = 0
        self.heard: list[Publication] = []
        self.at: Position | None = None
        self._node: Node | None = None
        self._subscriber: Subscriber | None = None

    def join(self, node: Node) -> None:
        self.leave()
        self._node = node
        session = Session(
            ANYONE,
            self.room,
            address=None,
            rates=AddressRates(Limits().messages_per_address),
            limits=Limits(),
            now=0.0,
            handle=self.name,
        )
        self._subscriber = Subscriber(self.name, session, Outlet(), cast("Format", self.notes))
        node.hub.join(self._subscriber, self.at)

    def leave(self) -> None:
        """Whatever is on its way to it is lost."""
        self.read()
        if self._node is not None and self._subscriber is not None:
            self._node.hub.leave(self._subscriber)
        self.notes = Notes()

    def is_live(self) -> bool:
        """Or was, if it has left."""
        self.read()
        return self.at is not None

    def read(self) -> None:
        """Check that what came continues what came before."""
        heard, self.notes.heard = self.notes.heard, []
        for each in heard:
            match each:
                case None:
                    self.resets += 1
                    self.at = None
                case Position():
                    # It is live: it stands where it says, or joined there.
                    assert self.at in (None, each), f"{self.name} was at {self.at} and is said to be at {each}"
                    self.at = each
                case Publication(position, previous, _):
                    if self.at is not None:
                        began = position.offset == 1 and self.at.offset == 0 and previous <= self.at.tag < position.tag
                        follows = (position.epoch, position.offset, previous) == (
                            self.at.epoch,
                            self.at.offset + 1,
                            self.at.tag,
                        )
                        assert began or follows, f"{self.name} was at {self.at}, then came {each}"
                    self.at = position
                    self.heard.append(each)


class Node:
    """A hub on a relay of its own, through a tunnel of its own, that misses some of the messages."""

    def __init__(self, reactor: Any, tunnel: Tunnel, lost: Callable[[], bool]) -> None:
        self.tunnel = tunnel
        self.relay = RedisRelay(
            cast("IRedisReactor", reactor),
            parse_url(tunnel.url),
            HistoryLimits(count=10_000, age=3600.0),
            LinkLimits(deadline=0.5, first_retry=0.02, last_retry=0.2),
        )
        self.hub = Hub(self.relay, reactor, Metrics())
        receive, relay = self.relay._received, cast("Any", self.relay)
        relay._received = lambda channel, data: None if lost() else receive(channel, data)


class World:
    """Nodes, clients, and a server to be treated badly."""

    def __init__(self, reactor: IReactorTime, server: RedisServer, tunnels: list[Tunnel], seed: int) -> None:
        self.random = random.Random(seed)
        self.reactor = reactor
        self.server = server
        self.nodes = [Node(reactor, tunnel, lambda: self.random.random() < LOST) for tunnel in tunnels]
        self.clients = [Client(f"client {number} of {room}", room) for room in ROOMS for number in range(MEMBERS)]
        self.acknowledged: list[tuple[str, Publication]] = []
        self.over = False

    async def start(self) -> None:
        await gatherResults([node.relay.start(node.hub) for node in self.nodes])
        for number, client in enumerate(self.clients):
            client.join(self.nodes[number % NODES])
        # From here on they hear everything.
        while not all(client.is_live() for client in self.clients):
            await self.wait(0.01)

    async def stop(self) -> None:
        for client in self.clients:
            client.leave()
        await gatherResults([node.relay.stop() for node in self.nodes])

    async def publish(self, room: str) -> None:
        """Until it is acknowledged, as a client does: again and again under the same key, by any node."""
        for number in range(MESSAGES):
            data = b"%b %d" % (room.encode(), number)
            while True:
                relay = self.random.choice(self.nodes).relay
                try:
                    published = await relay.publish(room, data, f"key {number}")
                except ChatError:
                    await self.wait(0.02)
                else:
                    self.acknowledged.append((room, published.publication))
                    break
            await self.wait(self.random.random() * 0.03)

    async def misbehave(self) -> None:
        faults: list[Callable[[], Any]] = [
            lambda: self.server.command("CLIENT", "KILL", "TYPE", "pubsub"),
            lambda: self.server.command("CLIENT", "KILL", "TYPE", "normal"),
            self.stop_server,
            self.kill_server,
            self.black_hole,
            self.move_clients,
            self.move_clients,
        ]
        for _ in range(FAULTS):
            await self.wait(self.random.random() * 0.5)
            fault = self.random.choice(faults)()
            if fault is not None and hasattr(fault, "__await__"):
                await fault

    async def stop_server(self) -> None:
        self.server.signal(signal.SIGSTOP)
        await self.wait(1.0)
        self.server.signal(signal.SIGCONT)

    async def kill_server(self) -> None:
        self.server.kill()
        await self.wait(0.2)
        self.server.start()

    async def black_hole(self) -> None:
        tunnel = self.random.choice(self.nodes).tunnel
        tunnel.open = False
        await self.wait(1.0)
        tunnel.open = True

    async def move_clients(self) -> None:
        moving = self.random.sample(self.clients, 4)
        for client in moving:
            client.leave()
        await self.wait(self.random.random() * 0.3)
        for client in moving:
            client.join(self.random.choice(self.nodes))

    async def settle(self) -> None:
        """Everyone is where the history ends."""
        ends = {room: publication.position for room, publication in self.acknowledged}
        deadline = self.reactor.seconds() + DEADLINE
        while True:
            for client in self.clients:
                client.read()
            late = [client for client in self.clients if client.at != ends[client.room]]
            if not late:
                return
            assert self.reactor.seconds() < deadline, f"{late[0].name} is at {late[0].at}, not {ends[late[0].room]}"
            await self.wait(0.05)

    def wait(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, seconds)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost tails are looked for all the time."""
    monkeypatch.setattr(tops, "EVERY", (0.3, 0.6))


@pytest.mark.parametrize("seed", SEEDS)
@pytest_twisted.ensureDeferred
async def test_each_member_hears_each_message_once_and_in_order(
    make_redis: Make, open_tunnel: OpenTunnel, reactor: IReactorTime, often: None, seed: int
) -> None:
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    server.start()
    world = World(reactor, server, [open_tunnel(server) for _ in range(NODES)], seed)
    await world.start()
    work = [world.publish(room) for room in ROOMS]
    await gatherResults([Deferred.fromCoroutine(each) for each in (*work, world.misbehave())])
    await world.settle()
    for client in world.clients:
        assert client.resets == 0, "nothing was lost, so nobody had to begin anew"
        heard = [publication.data for publication in client.heard]
        said = [publication.data for room, publication in world.acknowledged if room == client.room]
        assert heard == said
        assert len(heard) == MESSAGES
    await world.stop()
