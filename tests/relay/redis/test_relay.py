"""What is particular to the relay through Redis when all is well; the rest is in ``test_contract.py``."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, gatherResults
from twisted.logger import capturedLogs, formatEvent

from tests.conftest import LoggedFailures
from tests.relay.conftest import Backend, Events
from tests.relay.redis.conftest import StartAt
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Proof
from twisted_chat.relay.interface import HistoryLimits, RelayError
from twisted_chat.relay.redis import open_redis
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.refusals import PUBLISHING

NAMES = Names()


def test_importing_what_opens_it_installs_no_reactor() -> None:
    code = "import sys, twisted_chat.relay.redis; sys.exit('twisted.internet.reactor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bad_url_is_refused_at_once(reactor: Any) -> None:
    with pytest.raises(RelayError, match="from 1 to 65535"):
        open_redis("redis://h:0", reactor=reactor, history=HistoryLimits())


def test_a_system_without_unix_sockets_says_so(reactor: Any) -> None:
    with pytest.raises(RelayError, match="no Unix sockets"):
        open_redis("redis+unix:///r.sock", reactor=object(), history=HistoryLimits())  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_what_one_node_publishes_the_others_deliver(
    start_at: StartAt, redis_server: RedisServer, room: str
) -> None:
    here, there = await start_at(redis_server.url), await start_at(redis_server.url)
    await here.subscribe(room)
    await there.subscribe(room)
    calls = [node.relay.publish(room, b"%d" % number) for number in range(50) for node in (here, there)]
    stored = sorted(
        (one.publication for one in await gatherResults(calls)), key=lambda publication: publication.position.offset
    )
    for node in (here, there):
        await node.delivered(room, 100)
        assert node.events.publications(room) == stored
    there.relay.signal(room, b"typing")
    await here.until(lambda: (room, b"typing") in here.events.signals)


@pytest_twisted.ensureDeferred
async def test_a_key_is_known_to_all_nodes(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    here, there = await start_at(redis_server.url), await start_at(redis_server.url)
    first = await here.relay.publish(room, b"one", "key")
    again = await there.relay.publish(room, b"two", "key")
    assert again.duplicate
    assert again.publication == first.publication


@pytest_twisted.ensureDeferred
async def test_the_history_of_a_room_waits_until_the_room_is_heard(
    start_at: StartAt, redis_server: RedisServer, room: str
) -> None:
    node = await start_at(redis_server.url)
    relay: Any = node.relay
    await node.until(lambda: bool(relay._subscriptions.live))
    heard: list[bytes] = []
    subscriber = relay._messages.protocol
    data_received = subscriber.dataReceived
    subscriber.dataReceived = heard.append  # nothing comes through, for a moment
    node.relay.subscribe(room)
    asked, other = node.relay.history(room, Newest(1)), node.relay.history(room + "/other", Newest(1))
    await other
    assert not asked.called
    await node.until(lambda: bool(heard))
    del subscriber.dataReceived
    data_received(b"".join(heard))
    await asked


@pytest_twisted.ensureDeferred
async def test_a_question_may_be_given_up_while_it_waits(
    start_at: StartAt, redis_server: RedisServer, room: str
) -> None:
    node = await start_at(redis_server.url)
    node.relay.subscribe(room)
    for asked in (node.relay.history(room, Newest(1)), node.relay.present(room), node.relay.ready()):
        asked.cancel()
        with pytest.raises(CancelledError):
            await asked
    await node.publish(room, b"{}")
    assert await node.ask(room, Newest(1)) == (Proof.COMPLETE, [b"{}"])


@pytest_twisted.ensureDeferred
async def test_what_a_later_version_says_is_passed_over(
    start_at: StartAt, redis_server: RedisServer, room: str
) -> None:
    node = await start_at(redis_server.url)
    await node.subscribe(room)
    for payload in (b"", b"x", b"z1:2:3"):
        redis_server.command("PUBLISH", NAMES.channel(room), payload)
    await node.publish(room, b"{}")
    assert await node.delivered(room, 1) == [b"{}"]


@pytest_twisted.ensureDeferred
async def test_what_is_no_publication_is_logged_and_not_delivered(
    start_at: StartAt, redis_server: RedisServer, room: str, logged_failures: LoggedFailures
) -> None:
    node = await start_at(redis_server.url)
    await node.subscribe(room)
    redis_server.command("PUBLISH", NAMES.channel(room), b"pgarbage")
    await node.publish(room, b"{}")
    assert await node.delivered(room, 1) == [b"{}"]
    assert len(logged_failures.flush(ValueError)) == 1


@pytest_twisted.ensureDeferred
async def test_a_key_of_another_kind_is_logged_and_said_to_nobody(
    start_at: StartAt, redis_server: RedisServer, room: str
) -> None:
    node = await start_at(redis_server.url)
    redis_server.command("SET", NAMES.position_key(room), "mine")
    with capturedLogs() as events, pytest.raises(ChatError) as refusal:
        await node.relay.publish(room, b"{}")
    assert refusal.value.reason is Reason.TRY_AGAIN
    assert "WRONGTYPE" not in refusal.value.message
    [line] = [formatEvent(event) for event in events]
    assert "WRONGTYPE" in line


@pytest_twisted.ensureDeferred
async def test_refusals_are_logged_when_they_begin_and_when_they_end(
    start_at: StartAt, make_redis: Make, room: str
) -> None:
    server = make_redis()
    server.start()
    node = await start_at(server.url)
    with capturedLogs() as events:
        server.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(3):
            with pytest.raises(ChatError):
                await node.relay.publish(room, b"{}")
        server.command("CONFIG", "SET", "maxmemory", "0")
        for _ in range(3):
            await node.relay.publish(room, b"{}")
    lines = [formatEvent(event) for event in events]
    assert [line for line in lines if "OOM" in line] == [lines[0]]
    assert lines[1:] == [f"{PUBLISHING.works} by {server.url}"]


@pytest_twisted.ensureDeferred
async def test_more_than_a_link_takes_is_refused(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    node = await start_at(redis_server.url, commands=10)
    calls = [node.relay.publish(room, b"%d" % number) for number in range(50)]
    refused: list[Any] = []
    for call in calls[10:]:
        call.addErrback(lambda failure: refused.append(failure.value))
    stored = await gatherResults(calls[:10])
    assert [one.publication.data for one in stored] == [b"%d" % number for number in range(10)]
    assert {error.reason for error in refused} == {Reason.TRY_AGAIN}
    assert "more to do" in refused[0].message
    await node.publish(room, b"again")


@pytest_twisted.ensureDeferred
async def test_many_rooms(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    node, other = await start_at(redis_server.url), await start_at(redis_server.url)
    rooms = [f"{room} {number}" for number in range(1_500)]
    for each in rooms:
        node.relay.subscribe(each)
    await gatherResults([node.relay.history(each, Newest(0)) for each in rooms])
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")

    def resumed() -> set[str]:
        return {name for what, names in node.events.links if what == "resumed" for name in names or ()}

    await node.until(lambda: resumed() == set(rooms))
    await gatherResults([other.relay.publish(each, b"{}") for each in rooms])
    await node.until(lambda: len(node.events.delivered) == len(rooms))


@pytest_twisted.ensureDeferred
async def test_stopping_closes_its_connections(make_redis: Make, start_at: StartAt) -> None:
    server = make_redis()
    server.start()
    before = len(server.command("CLIENT", "LIST").splitlines())
    node = await start_at(server.url)
    await node.relay.ready()
    clients = server.command("CLIENT", "LIST").splitlines()
    assert len(clients) == before + 2
    assert sum(b"name=twisted_chat " in client for client in clients) == 2
    await node.relay.stop()

    def closed() -> bool:
        return len(server.command("CLIENT", "LIST").splitlines()) == before

    await node.until(closed)


@pytest_twisted.ensureDeferred
async def test_starting_after_stopping_is_refused(redis: Backend, tmp_path: Any, events: Events) -> None:
    relay = redis(tmp_path, HistoryLimits())
    await relay.stop()
    with pytest.raises(RelayError, match="stopped"):
        await relay.start(events)


@pytest_twisted.ensureDeferred
async def test_it_stops_though_a_probe_was_not_heard(start_at: StartAt, redis_server: RedisServer) -> None:
    node = await start_at(redis_server.url)
    await node.works()
    relay: Any = node.relay
    lost: list[bytes] = []
    relay._probe.heard = lost.append
    errors: list[ChatError] = []
    relay.ready().addErrback(lambda failure: errors.append(failure.value))
    await node.until(lambda: bool(lost))
    del relay._probe.heard
    await relay.stop()
    (error,) = errors
    assert error.reason is Reason.TRY_AGAIN


@pytest_twisted.ensureDeferred
async def test_being_ready_leaves_nothing_behind(start_at: StartAt, make_redis: Make) -> None:
    server = make_redis()
    server.start()
    node = await start_at(server.url)
    await node.works()
    for _ in range(50):
        assert await node.relay.ready() == ()
    probed = [key for key in server.command("KEYS", "*") if b"probe" in key]
    assert probed
    for key in probed:
        assert 0 < server.command("PTTL", key) <= 10_000
    assert all(b"{%00probe%2F" in key for key in probed)
    [stream] = [key for key in probed if key.endswith(b":stream")]
    assert server.command("XLEN", stream) <= 150
