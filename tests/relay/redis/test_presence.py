"""Presence over several nodes, some of which die."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.interfaces import IReactorTime

from tests.relay.conftest import Node
from tests.relay.redis.conftest import StartAt
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.relay.redis import presence, relay
from twisted_chat.relay.redis.presence import AT_ONCE

DEAD = 3.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are dead after some seconds, and say that they live when the test wants it."""
    monkeypatch.setattr(presence, "DEAD", DEAD)
    monkeypatch.setattr(relay, "BEAT", 3_600.0)


@pytest.fixture
def server(make_redis: Make) -> RedisServer:
    server = make_redis()
    server.start()
    return server


def cut(node: Node) -> None:
    """The node dies: it says nothing more, and its connections end."""
    dying: Any = node.relay
    dying._presence.beat = lambda: None
    for link in (dying._commands, dying._messages):
        link._endpoint = Nowhere()
        link.drop("its process was killed")


class Nowhere:
    def connect(self, _: object) -> Any:
        raise ConnectionError("there is nothing here")


def beat(*nodes: Node) -> None:
    for node in nodes:
        living: Any = node.relay
        living._presence.beat()


async def present(node: Node, room: str, *handles: str) -> None:
    async def are_there() -> bool:
        return await node.relay.present(room) == handles

    await node.until(are_there)


def leftovers(server: RedisServer) -> set[bytes]:
    """Keys, but those of nodes that are well, and the one by which the store is told from others."""
    lasting = {b"twisted_chat:nodes", b"twisted_chat:store"}
    return {key for key in server.command("KEYS", "*") if b"probe" not in key and key not in lasting}


@pytest_twisted.ensureDeferred
async def test_handles_are_counted_over_all_nodes(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    here, there = await start_at(redis_server.url), await start_at(redis_server.url)
    await here.subscribe(room)
    here.relay.enter(room, "a", "ann")
    await present(there, room, "ann")
    there.relay.enter(room, "a", "ann")
    there.relay.enter(room, "b", "bob")
    await present(here, room, "ann", "bob")
    here.relay.leave(room, "a")
    there.relay.leave(room, "b")
    await present(here, room, "ann")
    there.relay.leave(room, "a")
    await here.until(lambda: (room, "left", "ann") in here.events.presence)
    assert here.events.presence == [
        (room, "joined", "ann"),
        (room, "joined", "bob"),
        (room, "left", "bob"),
        (room, "left", "ann"),
    ]


@pytest_twisted.ensureDeferred
async def test_joins_come_in_order_with_publications(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    node = await start_at(redis_server.url)
    await node.subscribe(room)
    order: list[str] = []
    events: Any = node.events
    events.on_deliver = lambda _, publication: order.append(publication.data.decode())
    events.joined = lambda _, handle: order.append(f"joined {handle}")
    events.left = lambda _, handle: order.append(f"left {handle}")
    for number in range(10):
        node.relay.enter(room, "a", f"ann{number}")
        node.relay.publish(room, b"hello %d" % number)
        node.relay.leave(room, "a")
    await node.until(lambda: len(order) == 30)
    assert order == [f"{what}{n}" for n in range(10) for what in ("joined ann", "hello ", "left ann")]


@pytest_twisted.ensureDeferred
async def test_a_node_that_stops_takes_its_members_along(start_at: StartAt, server: RedisServer) -> None:
    here, there = await start_at(server.url), await start_at(server.url)
    await here.subscribe("r")
    for number in range(AT_ONCE + 1):
        there.relay.enter(f"room {number}", "a", "ann")
    there.relay.enter("r", "a", "ann")
    await here.until(lambda: ("r", "joined", "ann") in here.events.presence)
    await there.relay.stop()
    await here.until(lambda: ("r", "left", "ann") in here.events.presence)
    assert await here.relay.present("r") == ()
    assert leftovers(server) == set()


@pytest_twisted.ensureDeferred
async def test_members_of_a_dead_node_leave(start_at: StartAt, server: RedisServer, impatient: None) -> None:
    here, there, also = await start_at(server.url), await start_at(server.url), await start_at(server.url)
    await here.subscribe("r")
    for number in range(AT_ONCE + 1):
        there.relay.enter(f"room {number}", "a", "ann")
    there.relay.enter("r", "a", "ann")
    there.relay.enter("r", "b", "bob")
    await present(here, "r", "ann", "bob")
    here.relay.enter("r", "b", "bob")
    cut(there)

    def left() -> bool:
        beat(here, also)
        return ("r", "left", "ann") in here.events.presence

    await here.until(left)
    await present(also, "r", "bob")
    assert ("r", "left", "bob") not in here.events.presence
    here.relay.leave("r", "b")
    await present(here, "r")

    async def clean() -> bool:
        beat(here, also)
        return leftovers(server) == set() and server.command("ZCARD", "twisted_chat:nodes") == 2

    await here.until(clean)


@pytest_twisted.ensureDeferred
async def test_a_node_that_was_taken_for_dead_enters_anew(
    start_at: StartAt, server: RedisServer, impatient: None
) -> None:
    here, there = await start_at(server.url), await start_at(server.url)
    await here.subscribe("r")
    there.relay.enter("r", "a", "ann")
    await present(here, "r", "ann")

    def left() -> bool:
        beat(here)
        return ("r", "left", "ann") in here.events.presence

    await here.until(left)  # it has not said anything for a while
    there.relay.enter("r", "b", "bob")
    beat(there)

    async def both() -> bool:
        return set(await here.relay.present("r")) == {"ann", "bob"}

    await here.until(both)  # bob first, unless he was still taken away with the dead

    async def settled() -> bool:
        beat(here, there)
        return len(leftovers(server)) == 4  # members, counts, handles, rooms

    await here.until(settled)
    there.relay.leave("r", "a")
    there.relay.leave("r", "b")
    await present(here, "r")


@pytest_twisted.ensureDeferred
async def test_a_node_nobody_missed_is_not_seen_to_leave(
    start_at: StartAt, server: RedisServer, impatient: None, reactor: IReactorTime
) -> None:
    # All of them were silent, as when Redis was away: who comes back first must not bury the others.
    here, there = await start_at(server.url), await start_at(server.url)
    await here.subscribe("r")
    there.relay.enter("r", "a", "ann")
    await present(here, "r", "ann")
    await here.turn(DEAD + 0.1)
    first: Any = here.relay
    first._commands.drop("Redis was away")
    await here.until(lambda: first._commands.protocol is not None)
    beat(here)
    await here.turn(0.2)
    beat(there)
    await here.turn(DEAD + 0.1)
    beat(there)
    for _ in range(5):
        beat(here, there)
        await here.turn(0.1)
    assert here.events.presence == [("r", "joined", "ann")]
    assert await here.relay.present("r") == ("ann",)


@pytest_twisted.ensureDeferred
async def test_what_happened_while_there_was_no_link_is_told_afterwards(start_at: StartAt, server: RedisServer) -> None:
    here, there = await start_at(server.url), await start_at(server.url)
    await here.subscribe("r")
    there.relay.enter("r", "a", "ann")
    there.relay.enter("r", "b", "bob")
    await present(here, "r", "ann", "bob")
    alone: Any = there.relay
    alone._commands.drop("a cable")
    assert alone._commands.protocol is None
    there.relay.leave("r", "a")
    there.relay.enter("r", "c", "cid")
    there.relay.enter("s", "d", "dan")
    await present(here, "r", "bob", "cid")
    await present(here, "s", "dan")
    there.relay.leave("s", "d")
    await present(here, "s")


@pytest_twisted.ensureDeferred
async def test_everyone_is_there_again_after_redis_lost_its_data(start_at: StartAt, server: RedisServer) -> None:
    here, there = await start_at(server.url), await start_at(server.url)
    here.relay.enter("r", "a", "ann")
    await present(here, "r", "ann")
    there.relay.enter("r", "b", "bob")
    await present(here, "r", "ann", "bob")
    server.command("FLUSHALL")

    async def both() -> bool:
        beat(here, there)
        return set(await here.relay.present("r")) == {"ann", "bob"}

    await here.until(both)
    here.relay.leave("r", "a")
    there.relay.leave("r", "b")
    await present(here, "r")


@pytest_twisted.ensureDeferred
async def test_what_redis_refuses_is_said_again(start_at: StartAt, server: RedisServer) -> None:
    node = await start_at(server.url)
    server.command("CONFIG", "SET", "maxmemory", "1")
    node.relay.enter("r", "a", "ann")
    assert await node.relay.present("r") == ()
    server.command("CONFIG", "SET", "maxmemory", "0")
    beat(node)
    await present(node, "r", "ann")


@pytest_twisted.ensureDeferred
async def test_any_text_is_a_member_and_a_handle(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    node = await start_at(redis_server.url)
    handles = ["ann smith", "-", "+", "änn 日本", "|:{}", "\x00", "1"]
    for handle in handles:
        node.relay.enter(room, f"connection {handle}", handle)
    await present(node, room, *handles)
    for handle in handles:
        node.relay.leave(room, f"connection {handle}")
    await present(node, room)
