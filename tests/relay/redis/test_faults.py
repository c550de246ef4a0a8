"""What the relay does when Redis is away, stuck, full, demoted or emptied: each on a real server."""

from __future__ import annotations

import signal
from collections.abc import Awaitable
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.relay.conftest import Node
from tests.relay.redis.conftest import StartAt, Tunnel
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Position, Proof, Since
from twisted_chat.relay.redis import publisher, tops
from twisted_chat.relay.redis.endpoints import IRedisReactor, redis_endpoint
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.refusals import PUBLISHING
from twisted_chat.relay.redis.url import parse_url


@pytest.fixture
def server(make_redis: Make) -> RedisServer:
    server = make_redis()
    server.start()
    return server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and not answered waits until there is a link again."""
    monkeypatch.setattr(publisher, "PATIENCE", 90.0)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost tails are looked for all the time."""
    monkeypatch.setattr(tops, "EVERY", (0.1, 0.2))


async def refused(answer: Awaitable[Any]) -> ChatError:
    with pytest.raises(ChatError) as refusal:
        await answer
    return refusal.value


async def fails(node: Node, says: str = "") -> None:
    """It is not ready any more, for that reason."""

    async def is_not_ready() -> bool:
        try:
            await node.relay.ready()
        except ChatError as error:
            return says in error.message
        return False

    await node.until(is_not_ready)


def links(node: Node) -> list[str]:
    return [what for what, _ in node.events.links]


# Away


@pytest_twisted.ensureDeferred
async def test_redis_may_come_later(start_at: StartAt, make_redis: Make, room: str) -> None:
    server = make_redis()
    node = await start_at(server.url)
    await fails(node, server.url)
    for answer in (node.relay.publish(room, b"1"), node.relay.publish(room, b"1", "key"), node.relay.present(room)):
        refusal = await refused(answer)
        assert refusal.reason is Reason.TRY_AGAIN
        assert "cannot be reached" in refusal.message
    assert (await refused(node.relay.history(room, Newest(1)))).reason is Reason.TRY_AGAIN
    node.relay.subscribe(room)
    node.relay.enter(room, "a", "ann")
    node.relay.signal(room, b"nobody hears this")
    server.start()
    await node.works()
    assert links(node)[:1] == ["resumed"]
    await node.publish(room, b"1")
    assert await node.delivered(room, 1) == [b"1"]

    async def ann_is_here() -> bool:
        return await node.relay.present(room) == ("ann",)

    await node.until(ann_is_here)


@pytest_twisted.ensureDeferred
async def test_redis_is_killed_and_comes_back_with_what_was_acknowledged(
    start_at: StartAt, make_redis: Make, room: str
) -> None:
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    server.start()
    node, other = await start_at(server.url), await start_at(server.url)
    await node.subscribe(room)
    stored = await node.publish(room, b"1", b"2")
    await node.delivered(room, 2)  # the acknowledgement comes on another link, and may come first
    under_way = [node.relay.publish(room, b"x", f"key {number}") for number in range(5)]
    server.kill()
    outcomes: list[Any] = []
    for each in under_way:
        each.addBoth(outcomes.append)
    await fails(node)
    await node.until(lambda: "interrupted" in links(node) and len(outcomes) == 5)
    server.start()
    await node.works()
    await other.works()
    assert links(node)[-1] == "resumed"
    answer = await other.relay.history(room, Since(stored[0].position, 100))
    assert answer.proof is Proof.COMPLETE
    assert answer.publications[0] == stored[1]
    acknowledged = [one.publication for one in outcomes if not hasattr(one, "value")]
    assert set(acknowledged) <= set(answer.publications)
    [after] = await node.publish(room, b"3")
    assert (await node.delivered(room, 3))[-1] == b"3"
    assert after.position.epoch == stored[0].position.epoch


@pytest_twisted.ensureDeferred
async def test_history_that_was_lost_is_not_continued(start_at: StartAt, server: RedisServer, room: str) -> None:
    node = await start_at(server.url)
    await node.publish(room, b"1")
    [second] = await node.publish(room, b"2")
    server.kill()
    server.start()
    await node.works()
    answer = await node.relay.history(room, Since(second.position, 100))
    assert answer.proof is Proof.LOST
    assert answer.top.epoch != second.position.epoch


# Stuck


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_stopped_is_noticed(start_at: StartAt, server: RedisServer, room: str) -> None:
    node = await start_at(server.url, deadline=2.0)
    await node.subscribe(room)
    server.signal(signal.SIGSTOP)
    with_key, without = node.relay.publish(room, b"1", "key"), node.relay.publish(room, b"2")
    assert "repeat it with the same key" in (await refused(without)).message
    assert (await refused(with_key)).reason is Reason.TRY_AGAIN
    await node.until(lambda: links(node)[-1:] == ["interrupted"])
    assert (await refused(node.relay.publish(room, b"3"))).reason is Reason.TRY_AGAIN
    server.signal(signal.SIGCONT)
    await node.works()
    # What the stopped server had in its buffers was executed: that is what "unknown" means.
    again = await node.relay.publish(room, b"1", "key")
    assert (await node.ask(room, Newest(10)))[1].count(b"1") == 1
    assert again.publication.data == b"1"


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_noticed(start_at: StartAt, tunnel: Tunnel, room: str) -> None:
    node = await start_at(tunnel.url, deadline=2.0)
    await node.subscribe(room)
    tunnel.open = False
    assert (await refused(node.relay.publish(room, b"1"))).reason is Reason.TRY_AGAIN
    await node.until(lambda: links(node)[-1:] == ["interrupted"])
    tunnel.open = True
    await node.works()
    assert links(node)[-1] == "resumed"


@pytest_twisted.ensureDeferred
async def test_it_stops_though_redis_is_stuck(start_at: StartAt, server: RedisServer, room: str) -> None:
    # Which never answers: without a deadline neither of them would end.
    node = await start_at(server.url, deadline=0.5)
    server.signal(signal.SIGSTOP)
    answer = node.relay.publish(room, b"1")
    stopped = node.relay.stop()
    assert (await refused(answer)).reason is Reason.TRY_AGAIN
    await stopped


# Connections that are killed


@pytest_twisted.ensureDeferred
async def test_killed_subscribers_miss_nothing_for_good(start_at: StartAt, server: RedisServer, room: str) -> None:
    node = await start_at(server.url)
    await node.subscribe(room)
    [first] = await node.publish(room, b"1")
    server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await node.until(lambda: links(node)[-1:] == ["interrupted"])
    missed = await node.publish(room, b"2", b"3")
    await node.until(lambda: links(node)[-1:] == ["resumed"])
    assert room in (node.events.links[-1][1] or ())
    answer = await node.relay.history(room, Since(first.position, 10))
    assert list(answer.publications) == missed
    await node.publish(room, b"4")
    await node.until(lambda: b"4" in [one.data for one in node.events.publications(room)])


@pytest_twisted.ensureDeferred
async def test_publications_with_keys_outlive_killed_connections(
    start_at: StartAt, server: RedisServer, room: str, patient: None
) -> None:
    node = await start_at(server.url)
    calls: list[Deferred[Any]] = []
    for number in range(10):
        calls += [node.relay.publish(room, b"%d" % n, f"key {n}") for n in range(number * 20, number * 20 + 20)]
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await gatherResults(calls)
        await node.works()
    expected = [b"%d" % number for number in range(200)]
    assert (await node.ask(room, Newest(100)))[1] == expected[-100:]
    assert (await node.top(room)).offset == 200


@pytest_twisted.ensureDeferred
async def test_a_reader_that_is_too_slow_is_disconnected_and_comes_back(
    start_at: StartAt, server: RedisServer, room: str
) -> None:
    server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 100kb 100kb 1")
    slow, fast = await start_at(server.url), await start_at(server.url)
    await slow.subscribe(room)
    relay: Any = slow.relay
    relay._messages.protocol.transport.pauseProducing()
    await gatherResults([fast.relay.publish(room, b"x" * 1_000) for _ in range(3_000)])
    relay._messages.protocol.transport.resumeProducing()
    await slow.until(lambda: "interrupted" in links(slow))
    await slow.works()
    assert links(slow)[-1] == "resumed"


@pytest_twisted.ensureDeferred
async def test_too_many_clients(start_at: StartAt, server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxclients", "1")
    node = await start_at(server.url)
    await fails(node, "max number of clients")
    relay: Any = node.relay
    links = (relay._commands, relay._messages)
    await node.until(lambda: any(link.protocol is not None for link in links))
    lucky = next(link for link in links if link.protocol is not None)
    await lucky.execute("CONFIG", "SET", "maxclients", "100")  # nobody else can connect
    await node.works()


@pytest_twisted.ensureDeferred
async def test_scripts_that_were_flushed_are_loaded_again(start_at: StartAt, server: RedisServer, room: str) -> None:
    node = await start_at(server.url)
    for number in range(5):
        before = [node.relay.publish(room, b"%d" % n) for n in range(number * 20, number * 20 + 10)]
        server.command("SCRIPT", "FLUSH")
        after = [node.relay.publish(room, b"%d" % n) for n in range(number * 20 + 10, number * 20 + 20)]
        await gatherResults(before + after)
    assert (await node.ask(room, Newest(100)))[1] == [b"%d" % n for n in range(100)]


# Full, demoted, emptied


@pytest_twisted.ensureDeferred
async def test_a_full_server_refuses_and_changes_nothing(start_at: StartAt, server: RedisServer, room: str) -> None:
    node = await start_at(server.url)
    await node.subscribe(room)
    stored = await node.publish(room, b"1")
    server.command("CONFIG", "SET", "maxmemory", "1")
    for key in (None, "key"):
        refusal = await refused(node.relay.publish(room, b"2", key))
        assert refusal.reason is Reason.STORAGE_FULL
    assert [trouble.code for trouble in await node.relay.ready()] == ["writing"]
    answer = await node.relay.history(room, Newest(10))
    assert answer.publications == tuple(stored)
    server.command("CONFIG", "SET", "maxmemory", "0")
    await node.works()
    assert await node.relay.ready() == ()
    second = await node.relay.publish(room, b"2", "key")
    assert (second.duplicate, second.publication.position.offset) == (False, 2)
    assert await node.delivered(room, 2) == [b"1", b"2"]


@pytest_twisted.ensureDeferred
async def test_too_few_replicas(start_at: StartAt, server: RedisServer, room: str) -> None:
    node = await start_at(server.url)
    server.command("CONFIG", "SET", "min-replicas-to-write", "1")
    assert "too few copies" in (await refused(node.relay.publish(room, b"1"))).message
    server.command("CONFIG", "SET", "min-replicas-to-write", "0")
    await node.publish(room, b"1")
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"1"])


@pytest_twisted.ensureDeferred
async def test_a_demoted_server_is_left(start_at: StartAt, server: RedisServer, make_redis: Make, room: str) -> None:
    master = make_redis()
    master.listen()
    master.start()
    node = await start_at(server.url)
    await node.subscribe(room)
    server.command("REPLICAOF", "127.0.0.1", str(master.port))
    relay: Any = node.relay
    before = relay._commands.protocol
    assert "another machine" in (await refused(node.relay.publish(room, b"1"))).message
    assert not before.usable
    assert (await refused(node.relay.publish(room, b"1"))).reason is Reason.TRY_AGAIN
    # What it still has can be read, on one connection.
    await node.works()
    assert [trouble.code for trouble in await node.relay.ready()] == ["writing"]
    connection = relay._commands.protocol
    assert (await refused(node.relay.publish(room, b"1"))).reason is Reason.TRY_AGAIN
    assert relay._commands.protocol is connection
    server.command("REPLICAOF", "NO", "ONE")

    async def it_writes() -> bool:
        return await node.relay.ready() == ()

    await node.until(it_writes)
    await node.publish(room, b"2")
    await node.until(lambda: b"2" in [one.data for one in node.events.publications(room)])


@pytest_twisted.ensureDeferred
async def test_an_emptied_server_is_noticed_and_histories_begin_anew(
    start_at: StartAt, server: RedisServer, room: str, often: None
) -> None:
    node = await start_at(server.url)
    await node.subscribe(room)
    [first] = await node.publish(room, b"1")
    await node.until(lambda: (room, first.position) in node.events.tops)
    server.command("FLUSHALL")
    await node.until(lambda: (room, Position("", 0, 0)) in node.events.tops)
    assert (await node.relay.history(room, Since(first.position, 10))).proof is Proof.LOST
    [again] = await node.publish(room, b"2")
    assert again.position.epoch != first.position.epoch
    assert again.position.offset == 1
    assert again.previous >= first.position.tag


@pytest_twisted.ensureDeferred
async def test_a_lost_tail_is_told(start_at: StartAt, server: RedisServer, room: str, often: None) -> None:
    node, other = await start_at(server.url), await start_at(server.url)
    await node.subscribe(room)
    relay: Any = node.relay
    heard = relay._messages.protocol._received
    relay._messages.protocol._received = lambda name, data: None if b"lost" in data else heard(name, data)
    [lost] = await other.publish(room, b"lost")
    await node.until(lambda: (room, lost.position) in node.events.tops)
    assert node.events.publications(room) == []


@pytest_twisted.ensureDeferred
async def test_a_stream_that_does_not_fit_its_position_begins_a_new_history(
    start_at: StartAt, server: RedisServer, room: str
) -> None:
    # Half of the data was restored from a backup, say.
    node = await start_at(server.url)
    stored = await node.publish(room, b"1", b"2", b"3")
    [position] = server.command("KEYS", "*position")
    server.command("HSET", position, "o", "1", "t", str(stored[0].position.tag))
    [stream] = server.command("KEYS", "*stream")
    server.command("XADD", stream, "9999999999999999-9", "p", "0", "d", "later")
    again = await node.publish(room, b"4", b"5")
    assert [one.position.offset for one in again] == [1, 2]
    assert again[0].position.epoch != stored[0].position.epoch
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"4", b"5"])


@pytest_twisted.ensureDeferred
async def test_links_that_lead_to_two_servers_are_found_out(
    start_at: StartAt, server: RedisServer, make_redis: Make, reactor: IReactorTime
) -> None:
    # As after a fail-over that only one of them has followed.
    elsewhere = make_redis()
    elsewhere.start()
    node = await start_at(server.url, deadline=2.0)
    await node.works()
    relay: Any = node.relay
    right = relay._messages._endpoint
    relay._messages._endpoint = redis_endpoint(cast("IRedisReactor", reactor), parse_url(elsewhere.url), LinkLimits())
    relay._messages.drop("fail-over")
    await node.until(lambda: relay._subscriptions.live)
    assert "not heard" in (await refused(node.relay.ready())).message
    relay._messages._endpoint = right
    await node.works()


# Refused


@pytest.mark.parametrize(("rules", "works"), [(("-xadd",), True), (("-evalsha",), False), (("~other:*",), False)])
@pytest_twisted.ensureDeferred
async def test_what_a_user_may_not_do_is_a_line_and_not_a_traceback_for_each_post(
    start_at: StartAt, server: RedisServer, room: str, rules: tuple[str, ...], works: bool
) -> None:
    """`works`: reading does, and so a part does."""
    server.command("ACL", "SETUSER", "chat", "on", ">secret", "~twisted_chat:*", "&*", "+@all")
    node = await start_at(server.url.replace("://", "://chat:secret@"))
    [stored] = await node.publish(room, b"1")
    with capturedLogs() as events:
        resets = ("resetkeys",) if "~" in rules[0] else ()
        server.command("ACL", "SETUSER", "chat", *resets, *rules)
        for _ in range(20):
            assert (await refused(node.relay.publish(room, b"2"))).reason is Reason.TRY_AGAIN
        if works:
            assert (await node.relay.history(room, Newest(10))).publications == (stored,)
            [trouble] = await node.relay.ready()
            assert trouble.code == "writing"
            assert server.url in trouble.message
        else:
            assert (await refused(node.relay.ready())).reason is Reason.TRY_AGAIN
        server.command("ACL", "SETUSER", "chat", "allkeys", "+@all")
        await node.publish(room, b"3")
    lines = [formatEvent(event) or "" for event in events if event["log_level"] >= LogLevel.warn]
    assert len([line for line in lines if PUBLISHING.fails in line]) == 1
    assert not any("Traceback" in line for line in lines)
    assert len(lines) <= 3


@pytest_twisted.ensureDeferred
async def test_scripts_that_are_forgotten_at_once(start_at: StartAt, server: RedisServer, room: str) -> None:
    server.command("ACL", "SETUSER", "chat", "on", ">secret", "~*", "&*", "+@all")
    node = await start_at(server.url.replace("://", "://chat:secret@"))
    with capturedLogs() as events:
        server.command("ACL", "SETUSER", "chat", "-script")
        server.command("SCRIPT", "FLUSH")
        for _ in range(5):
            assert (await refused(node.relay.publish(room, b"1"))).reason is Reason.TRY_AGAIN
        server.command("ACL", "SETUSER", "chat", "+script")
        await node.publish(room, b"2")
    assert len([event for event in events if PUBLISHING.fails in (formatEvent(event) or "")]) == 1


@pytest_twisted.ensureDeferred
async def test_what_may_be_published_and_not_heard_is_not_ready(
    start_at: StartAt, server: RedisServer, room: str
) -> None:
    server.command("ACL", "SETUSER", "chat", "on", ">secret", "~*", "&*", "+@all")
    node = await start_at(server.url.replace("://", "://chat:secret@"), deadline=0.5)
    await node.works()
    server.command("ACL", "SETUSER", "chat", "-publish")
    await node.publish(room, b"it is stored all the same")
    await fails(node, "was not heard")


@pytest_twisted.ensureDeferred
async def test_a_server_that_takes_no_writes_is_left_in_time(
    start_at: StartAt, server: RedisServer, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted_chat.relay.redis.relay.REPLICA", 0.0)
    monkeypatch.setattr("twisted_chat.relay.redis.relay.BEAT", 0.05)
    server.command("REPLICAOF", "127.0.0.1", "1")
    node = await start_at(server.url, first_retry=0.01, last_retry=0.05)
    relay: Any = node.relay
    connections: set[int] = set()

    def is_another() -> bool:
        connections.add(id(relay._commands.protocol))
        return len(connections - {id(None)}) > 1

    await node.until(is_another)
    server.command("REPLICAOF", "NO", "ONE")
    await node.until(lambda: relay._commands.protocol is not None and not relay._commands.protocol.is_replica)
    await node.publish(room, b"1")
