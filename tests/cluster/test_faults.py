"""Whatever happens to Redis, to a node or to the network between them: what was promised to clients holds."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed

from tests.cluster.checker import Crowd
from tests.cluster.conftest import Cluster
from tests.cluster.tunnel import Tunnel
from tests.relay.redis_server import Make, RedisServer
from tests.twistd import until

Gather = Callable[..., Crowd]
StartNodes = Callable[..., Cluster]
Dig = Callable[[int], "Tunnel"]

PATIENCE = 90.0
AT_ONCE = 1.0
"""Seconds: less than anything that the relay waits for; the fastest of some counts, for the machine may be busy."""


def stayed(crowd: Crowd) -> bool:
    """Nobody lost a connection."""
    return all(client.came == 1 for client in crowd.clients)


# Redis


def test_redis_is_killed_again_and_again(cluster: Cluster, redis: RedisServer, gather: Gather) -> None:
    crowd = gather(cluster.urls)
    for _ in range(3):
        crowd.talk(36)
        redis.kill()
        redis.start()
    crowd.talk(36)
    crowd.check()
    assert stayed(crowd)
    assert all(node.is_alive() for node in cluster.nodes)
    cluster.ready()


def test_redis_is_stuck(cluster: Cluster, redis: RedisServer, gather: Gather) -> None:
    crowd = gather(cluster.urls)
    crowd.talk(36)
    redis.signal(signal.SIGSTOP)
    for server in cluster.servers:
        server.logged("no answer for 5 seconds")
    assert not any(node.is_ready() for node in cluster.nodes)
    redis.signal(signal.SIGCONT)
    crowd.talk(36)
    crowd.check()
    assert stayed(crowd)
    cluster.ready()


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_redis_cuts_connections(cluster: Cluster, redis: RedisServer, gather: Gather, kind: str) -> None:
    crowd = gather(cluster.urls)
    for _ in range(5):
        crowd.talk(24)
        assert redis.command("CLIENT", "KILL", "TYPE", kind) > 0
        cluster.ready()
    crowd.talk(24)
    crowd.check()
    assert stayed(crowd)


def test_everything_is_deleted(cluster: Cluster, redis: RedisServer, gather: Gather) -> None:
    crowd = gather(cluster.urls)
    crowd.talk(36)
    redis.command("FLUSHALL")
    deleted = time.monotonic()
    crowd.talk(60)
    history = crowd.check(resets=True, kept_since=deleted)
    assert "begin" not in [message["message"] for message in history]
    assert [client.record.resets for client in crowd.clients] == [1] * len(crowd.clients)
    assert stayed(crowd)


def test_a_history_that_died_with_redis_is_not_continued(
    start_nodes: StartNodes, make_redis: Make, gather: Gather
) -> None:
    redis = make_redis()  # keeps nothing on the disk
    redis.start()
    cluster = start_nodes(*[(redis.tcp_url,)] * 2)
    cluster.ready()
    crowd = gather(cluster.urls)
    crowd.talk(36)
    redis.kill()
    killed = time.monotonic()
    redis.start()
    crowd.talk(60)
    crowd.check(resets=True, kept_since=killed)
    assert all(client.record.resets for client in crowd.clients)
    assert stayed(crowd)


def test_redis_is_full(cluster: Cluster, redis: RedisServer, gather: Gather) -> None:
    crowd = gather(cluster.urls)
    crowd.talk(36)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    crowd.until(
        lambda: all(client.refusals["storage_full"] for client in crowd.clients), "everyone to be told storage_full"
    )
    full = cluster.servers[0].post("more", room=crowd.room)
    assert (full.status_code, full.json()["error"]["code"]) == (507, "storage_full")
    kept = [server.history(quote(crowd.room)) for server in cluster.servers]
    assert kept[0] == kept[1] == kept[2] != []
    assert all(node.is_alive() for node in cluster.nodes)
    redis.command("CONFIG", "SET", "maxmemory", "0")
    crowd.talk(36)
    history = crowd.check()
    assert "more" not in [message["message"] for message in history]
    assert stayed(crowd)
    cluster.ready()


def test_redis_comes_later(start_nodes: StartNodes, make_redis: Make, room: str) -> None:
    redis = make_redis()
    cluster = start_nodes(*[(redis.tcp_url,)] * 2)
    first, second = cluster.servers
    assert not any(node.is_ready() for node in cluster.nodes)
    assert "no connection to" in cluster.nodes[0].obstacles()
    with first.socket(f"{quote(room)}?handle=bob") as socket, second.socket(quote(room)) as other:
        early: list[dict[str, Any]] = [{}, {"key": "k"}]
        for key in early:
            took = []
            for _ in range(5):
                began = time.monotonic()
                refused = first.post("too early", room=room, **key)
                took.append(time.monotonic() - began)
            assert min(took) < AT_ONCE
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "try_again")
            assert "retry-after" in refused.headers
        asked = first.get(f"/chat/{quote(room)}")
        assert (asked.status_code, asked.json()["error"]["code"]) == (503, "try_again")
        socket.send(json.dumps({"handle": "bob", "message": "too early", "key": "k"}))
        told = json.loads(socket.recv(PATIENCE))["error"]
        assert (told["code"], told["key"]) == ("try_again", "k")
        redis.start()
        cluster.ready()
        stored = second.post("now", room=room).json()
        for each in (socket, other):
            assert json.loads(each.recv(PATIENCE)) == stored
    assert first.history(room) == [stored]
    assert all(node.is_alive() for node in cluster.nodes)


def test_a_wrong_password_becomes_right(start_nodes: StartNodes, make_redis: Make, room: str) -> None:
    redis = make_redis("--requirepass", "another")
    redis.password = "another"
    redis.start()
    cluster = start_nodes((f"redis://:hunter2@127.0.0.1:{redis.port}",))
    [node], [server] = cluster.nodes, cluster.servers
    assert "refuses the user name or password" in node.obstacles()
    server.logged("refuses the user name or password")
    assert server.post("too early", room=room).status_code == 503
    redis.command("CONFIG", "SET", "requirepass", "hunter2")
    cluster.ready()
    assert server.post("now", room=room).status_code == 201
    assert "hunter2" not in server.log
    assert node.is_alive()


# The network


def test_a_node_loses_redis_without_word(start_nodes: StartNodes, redis: RedisServer, dig: Dig, gather: Gather) -> None:
    tunnel = dig(redis.port)
    cluster = start_nodes((f"redis://127.0.0.1:{tunnel.port}",), (redis.tcp_url,), (redis.tcp_url,))
    cluster.ready()
    crowd = gather(cluster.urls)
    crowd.talk(36)
    tunnel.shut()
    cluster.servers[0].logged("no answer for 5 seconds")
    # The others go on, and those of this node post there.
    crowd.talk(36)
    until(lambda: [node.is_ready() for node in cluster.nodes] == [False, True, True], "two that are ready")
    tunnel.open()
    cluster.ready()
    crowd.talk(36)
    crowd.check()
    assert stayed(crowd)


# A node


def test_a_node_is_killed(cluster: Cluster, gather: Gather, room: str) -> None:
    first, second, _ = cluster.servers
    # Nobody reads these to the end, and with a full queue they would not see that they are closed.
    watcher = second.socket(f"{quote(room)}?events=presence", max_queue=None)
    ghost = first.socket(f"{quote(room)}?handle=ghost", max_queue=None)
    with watcher, ghost:
        crowd = gather(cluster.urls)
        crowd.talk(36)
        first.kill()
        left = set()
        while "ghost" not in left:
            frame = json.loads(watcher.recv(PATIENCE))
            if frame.get("event") == "leave":
                left.add(frame["handle"])
        # All others came back elsewhere before it was noticed that the node is dead.
        assert left == {"ghost"}
        crowd.talk(36)
        first.start()
        crowd.talk(36)
        crowd.check()
    assert [client.came for client in crowd.clients] == [2 if n % 3 == 0 else 1 for n in range(len(crowd.clients))]
    handles = {client.handle for client in crowd.clients}
    with first.socket(f"{quote(room)}?events=presence") as late:
        frame = json.loads(late.recv(PATIENCE))
        assert (frame["event"], set(frame["members"])) == ("presence", handles)


def test_nodes_are_replaced_one_by_one(cluster: Cluster, gather: Gather) -> None:
    crowd = gather(cluster.urls)
    for server in cluster.servers:
        crowd.talk(24)
        assert server.terminate() == -signal.SIGTERM
        crowd.talk(24)
        server.start()
    crowd.talk(24)
    crowd.check()
    assert not stayed(crowd)


# Several Redis servers


def test_one_of_two_redis_servers_is_down(start_nodes: StartNodes, make_redis: Make, gather: Gather) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    up, down = make_redis(*options), make_redis(*options)
    for redis in (up, down):
        redis.start()
    urls = (up.tcp_url, down.tcp_url)
    cluster = start_nodes(urls, urls[::-1])
    cluster.ready()
    first, second = cluster.servers
    rooms = [f"room {number}" for number in range(24)]
    for room in rooms:
        assert first.post("before", room=room).status_code == 201
    stored = b" ".join(down.command("KEYS", "*stream")).decode()
    concerned = {room for room in rooms if f"{{{quote(room)}}}" in stored}
    assert 0 < len(concerned) < len(rooms)
    crowd = gather(cluster.urls, next(room for room in rooms if room not in concerned), clients=6)
    waiting = gather(cluster.urls, next(iter(concerned)), clients=6)
    crowd.talk(30)
    waiting.talk(30)
    down.kill()
    for server in cluster.servers:
        server.logged("no connection to")
    assert not any(node.is_ready() for node in cluster.nodes)
    assert all(node.is_ready_in_part() for node in cluster.nodes)
    waiting.until(lambda: all(client.refusals["try_again"] for client in waiting.clients), "everyone to be refused")
    for number, server in enumerate(cluster.servers):
        for room in rooms:
            assert server.post(f"meanwhile {number}", room=room).status_code == (503 if room in concerned else 201)
    crowd.talk(30)
    assert crowd.refusals == {}
    down.start()
    cluster.ready()
    waiting.talk(30)
    for each in (crowd, waiting):
        each.check()
        assert stayed(each)
    for room in rooms:
        said = [message["message"] for message in second.history(room) if message["handle"] == "ann"]
        assert said == (["before"] if room in concerned else ["before", "meanwhile 0", "meanwhile 1"])


def test_sockets_outlive_a_redis_that_is_away(cluster: Cluster, redis: RedisServer, room: str) -> None:
    server = cluster.servers[0]
    with server.socket(quote(room)) as socket:
        redis.kill()
        assert server.post("lost", room=room).status_code == 503
        with pytest.raises((TimeoutError, ConnectionClosed)) as waited:
            socket.recv(1)
        assert waited.type is TimeoutError
        redis.start()
        cluster.ready()
        stored = cluster.servers[1].post("back", room=room).json()
        assert json.loads(socket.recv(PATIENCE)) == stored
