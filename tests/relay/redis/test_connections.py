"""Ways to a server: passwords, users, databases, sockets, TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.logger import capturedLogs, formatEvent

from tests.relay.conftest import Node
from tests.relay.redis.conftest import Authority, StartAt
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Newest, Proof
from twisted_chat.relay.redis.greeting import eviction

SECRET = "p@ss/w:rd #1?é%"
QUOTED = "p%40ss%2Fw%3Ard%20%231%3F%C3%A9%25"


async def trouble(node: Node, says: str) -> None:
    """It is not ready, for that reason."""

    async def is_said() -> bool:
        try:
            await node.relay.ready()
        except ChatError as error:
            return says in error.message
        return False

    await node.until(is_said)


@pytest.fixture
def guarded(make_redis: Make) -> RedisServer:
    server = make_redis("--requirepass", SECRET)
    server.password = SECRET
    server.listen()
    server.start()
    return server


# Passwords and users


@pytest.mark.parametrize("user", ["", "default"])
@pytest_twisted.ensureDeferred
async def test_a_password(start_at: StartAt, guarded: RedisServer, room: str, user: str) -> None:
    for url in (guarded.url, guarded.tcp_url):
        node = await start_at(url.replace("://", f"://{user}:{QUOTED}@"))
        await node.works()
        await node.publish(room, b"{}")


@pytest_twisted.ensureDeferred
async def test_without_a_password_it_says_so(start_at: StartAt, guarded: RedisServer) -> None:
    await trouble(await start_at(guarded.url), "NOAUTH")


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_tried_until_it_is_right_and_never_shown(
    start_at: StartAt, guarded: RedisServer
) -> None:
    with capturedLogs() as events:
        node = await start_at(guarded.url.replace("://", "://:wr0ng@"), first_retry=0.01, last_retry=0.05)
        await trouble(node, "refuses the user name or password: WRONGPASS")
        await node.turn(0.5)
        guarded.command("CONFIG", "SET", "requirepass", "wr0ng")
        await node.works()
    log = [formatEvent(event) for event in events]
    assert not any("wr0ng" in line for line in log)
    # Each link said it once, not each time that it tried.
    assert len([line for line in log if "WRONGPASS" in line]) == 2


@pytest_twisted.ensureDeferred
async def test_a_user_that_may_do_what_is_needed_and_no_more(
    start_at: StartAt, guarded: RedisServer, room: str
) -> None:
    allowed = ["~twisted_chat:*", "&twisted_chat:*", "+@all", "-@dangerous", "-@admin"]
    guarded.command("ACL", "SETUSER", "chat", "on", ">secret", "resetkeys", "resetchannels", *allowed)
    node = await start_at(guarded.url.replace("://", "://chat:secret@"))
    await node.works()
    await node.subscribe(room)
    node.relay.enter(room, "a", "ann")
    await node.publish(room, b"{}")
    await node.until(lambda: (room, "joined", "ann") in node.events.presence)
    assert await node.ask(room, Newest(1)) == (Proof.COMPLETE, [b"{}"])
    await node.relay.stop()


@pytest_twisted.ensureDeferred
async def test_a_user_that_may_not_subscribe_is_told(start_at: StartAt, guarded: RedisServer) -> None:
    guarded.command("ACL", "SETUSER", "chat", "on", ">secret", "~twisted_chat:*", "resetchannels", "+@all")
    await trouble(await start_at(guarded.url.replace("://", "://chat:secret@")), "NOPERM")


# Databases


@pytest_twisted.ensureDeferred
async def test_databases_are_worlds_of_their_own(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    one, two = await start_at(redis_server.url), await start_at(redis_server.url + "?db=1")
    for node in (one, two):
        await node.subscribe(room)
    one.relay.enter(room, "a", "ann")
    await one.publish(room, b"one")
    await two.publish(room, b"two")
    assert await two.ask(room, Newest(10)) == (Proof.COMPLETE, [b"two"])
    assert await one.ask(room, Newest(10)) == (Proof.COMPLETE, [b"one"])
    # Channels are the server's: what is heard must be told apart.
    assert await two.delivered(room, 1) == [b"two"]
    assert await one.delivered(room, 1) == [b"one"]
    await one.until(lambda: (room, "joined", "ann") in one.events.presence)
    assert two.events.presence == []


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_not_there(start_at: StartAt, redis_server: RedisServer) -> None:
    await trouble(await start_at(redis_server.url + "?db=99"), "out of range")


# Prefixes


@pytest_twisted.ensureDeferred
async def test_applications_with_prefixes_of_their_own_share_a_server(
    start_at: StartAt, make_redis: Make, room: str
) -> None:
    server = make_redis()
    server.start()
    shop, other, plain = [await start_at(server.url + prefix) for prefix in ("?prefix=shop", "?prefix=shop.2", "")]
    for node in (shop, other, plain):
        await node.works()
        await node.subscribe(room)
    shop.relay.enter(room, "a", "ann")
    await shop.relay.publish(room, b"shop", "key")
    assert not (await other.relay.publish(room, b"other", "key")).duplicate
    await plain.publish(room, b"plain")
    shop.relay.signal(room, b"typing")
    for node, data in ((shop, b"shop"), (other, b"other"), (plain, b"plain")):
        assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [data])
        assert await node.delivered(room, 1) == [data]
    await shop.until(lambda: (room, b"typing") in shop.events.signals)
    await shop.until(lambda: (room, "joined", "ann") in shop.events.presence)
    for node in (other, plain):
        assert await node.relay.present(room) == ()
        assert (node.events.presence, node.events.signals) == ([], [])
    assert {key.partition(b":")[0] for key in server.command("KEYS", "*")} == {b"shop", b"shop.2", b"twisted_chat"}
    channels = server.command("PUBSUB", "CHANNELS")
    assert {name.partition(b":")[0] for name in channels} == {b"shop", b"shop.2", b"twisted_chat"}


@pytest_twisted.ensureDeferred
async def test_a_user_may_be_held_to_a_prefix(start_at: StartAt, guarded: RedisServer, room: str) -> None:
    allowed = ["~shop:*", "&shop:*", "+@all", "-@dangerous", "-@admin"]
    guarded.command("ACL", "SETUSER", "shop", "on", ">secret", "resetkeys", "resetchannels", *allowed)
    url = guarded.url.replace("://", "://shop:secret@")
    node = await start_at(url + "?prefix=shop")
    await node.works()
    await node.publish(room, b"{}")
    await trouble(await start_at(url), "NOPERM")


# What is no Redis


@pytest_twisted.ensureDeferred
async def test_nothing_listens(start_at: StartAt, tmp_path: Path) -> None:
    await trouble(await start_at(f"redis+unix://{tmp_path}/nothing.sock"), "No such file")


@pytest_twisted.ensureDeferred
async def test_a_cluster_is_refused(start_at: StartAt, make_redis: Make) -> None:
    server = make_redis("--cluster-enabled", "yes")
    server.start()
    await trouble(await start_at(server.url), "Redis Cluster")


@pytest_twisted.ensureDeferred
async def test_a_server_that_forgets_is_warned_of(start_at: StartAt, make_redis: Make) -> None:
    server = make_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    with capturedLogs() as events:
        node = await start_at(server.url)
        await node.works()
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await node.works()
    assert len([event for event in events if "noeviction" in (formatEvent(event) or "")]) == 1


@pytest_twisted.ensureDeferred
async def test_what_may_not_be_checked_is_said_and_works(start_at: StartAt, guarded: RedisServer, room: str) -> None:
    guarded.command("ACL", "SETUSER", "chat", "on", ">secret", "~*", "&*", "+@all", "-info")
    with capturedLogs() as events:
        node = await start_at(guarded.url.replace("://", "://chat:secret@"))
        await node.works()
        await node.publish(room, b"{}")
    assert len([event for event in events if "could not be checked" in (formatEvent(event) or "")]) == 1


@pytest.mark.parametrize(
    ("limit", "policy", "says"),
    [
        ("0", "allkeys-lru", None),
        ("1", "noeviction", None),
        ("1", "allkeys-lfu", "who is present"),
        ("1", "volatile-ttl", "history away"),
    ],
)
def test_what_a_policy_throws_away(limit: str, policy: str, says: str | None) -> None:
    said = eviction({"maxmemory": limit, "maxmemory_policy": policy})
    assert (said is None) if says is None else (said is not None and says in said and policy in said)


# TLS


@pytest.fixture
def tls_server(make_redis: Make, tls_options: list[str]) -> RedisServer:
    server = make_redis(*tls_options)
    server.listen(tls=True)
    server.start()
    return server


@pytest_twisted.ensureDeferred
async def test_tls(start_at: StartAt, tls_server: RedisServer, authority: Authority, room: str) -> None:
    node = await start_at(f"rediss://127.0.0.1:{tls_server.port}?ca={authority.path}")
    await node.works()
    await node.subscribe(room)
    await node.publish(room, b"x" * 300_000)
    assert await node.delivered(room, 1) == [b"x" * 300_000]


@pytest_twisted.ensureDeferred
async def test_tls_refuses_what_it_cannot_verify(
    start_at: StartAt, tls_server: RedisServer, authority: Authority, tmp_path: Path
) -> None:
    other = type(authority)(tmp_path, "theirs")
    await trouble(await start_at(f"rediss://127.0.0.1:{tls_server.port}"), "certificate verify failed")
    await trouble(await start_at(f"rediss://127.0.0.1:{tls_server.port}?ca={other.path}"), "certificate verify failed")
    url = f"rediss://localhost:{tls_server.port}?ca={authority.path}"
    await trouble(await start_at(url), "the certificate is not for this host name")


@pytest_twisted.ensureDeferred
async def test_tls_to_a_server_without_and_the_other_way_round(
    start_at: StartAt, tls_server: RedisServer, guarded: RedisServer
) -> None:
    # Redis takes the beginning of TLS for a command that is not complete.
    await trouble(await start_at(f"rediss://127.0.0.1:{guarded.port}", deadline=0.5), "no answer for 0.5 seconds")
    await trouble(await start_at(f"redis://127.0.0.1:{tls_server.port}"), "lost")
