"""Three nodes on one Redis are one server: the same order, history, presence and keys everywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import pytest
from websockets.sync.client import ClientConnection

from tests.cluster.checker import Crowd
from tests.cluster.conftest import Cluster
from tests.relay.redis_server import RedisServer

Gather = Callable[..., Crowd]
StartNodes = Callable[..., Cluster]
Frame = dict[str, Any]

PATIENCE = 90.0


def hear(socket: ClientConnection, wanted: Callable[[Frame], bool]) -> Frame:
    """The next frame that is wanted."""
    while True:
        frame: Frame = json.loads(socket.recv(PATIENCE))
        if wanted(frame):
            return frame


def event(name: str, handle: str | None = None) -> Callable[[Frame], bool]:
    return lambda frame: frame.get("event") == name and frame.get("handle", handle) == handle


@pytest.fixture
def enter(shared_cluster: Cluster, room: str) -> Iterator[Callable[..., ClientConnection]]:
    """``enter(node, query)``: a socket that is live and knows who is present."""
    with ExitStack() as sockets:

        def enter(node: int, query: str = "") -> ClientConnection:
            socket: ClientConnection = sockets.enter_context(
                shared_cluster.servers[node].socket(f"{quote(room)}?events=ready,presence,typing{query}")
            )
            hear(socket, event("presence"))
            return socket

        yield enter


Enter = Callable[..., ClientConnection]


def test_a_dozen_clients_on_three_nodes_see_the_same(shared_cluster: Cluster, gather: Gather) -> None:
    crowd = gather(shared_cluster.urls)
    crowd.talk(240)
    history = crowd.check()
    assert len(history) == crowd.acknowledged + 1
    assert {message["handle"] for message in history} == {"begin", *(client.handle for client in crowd.clients)}
    assert crowd.refusals == {}
    assert [client.came for client in crowd.clients] == [1] * len(crowd.clients)


def test_clients_that_change_nodes_miss_nothing(shared_cluster: Cluster, gather: Gather) -> None:
    crowd = gather(shared_cluster.urls)
    for part in range(3):
        crowd.talk(60)
        crowd.leave(crowd.clients[part::2])
    crowd.talk(60)
    crowd.check()
    assert all(client.came > 1 for client in crowd.clients)


def test_presence_is_that_of_all_nodes(enter: Enter) -> None:
    ann = enter(0, "&handle=ann")
    bob = enter(1, "&handle=bob")
    assert hear(ann, event("join", "bob"))
    third = enter(2)
    third.send(json.dumps({"handle": "cid", "typing": True}))
    for socket in (ann, bob):
        assert hear(socket, event("join", "cid"))
    again = enter(2, "&handle=bob")  # the same handle on another node is nobody new
    bob.close()
    again.close()
    assert hear(ann, lambda frame: frame["event"] in {"join", "leave"}) == {"event": "leave", "handle": "bob"}
    assert hear(third, event("leave", "bob"))


def test_who_comes_is_told_who_is_there_on_other_nodes(shared_cluster: Cluster, room: str, enter: Enter) -> None:
    for node, handle in enumerate(["ann", "bob", "cid"]):
        enter(node, f"&handle={handle}")
    for server in shared_cluster.servers:
        with server.socket(f"{quote(room)}?events=presence") as socket:
            assert hear(socket, event("presence"))["members"] == ["ann", "bob", "cid"]


def test_typing_is_told_on_all_nodes(enter: Enter) -> None:
    sockets = [enter(node) for node in range(3)]
    sockets[0].send(json.dumps({"handle": "ann", "typing": True}))
    for socket in sockets:
        assert hear(socket, event("typing", "ann"))


def test_a_key_counts_on_all_nodes(shared_cluster: Cluster, room: str, enter: Enter) -> None:
    first, second, third = shared_cluster.servers
    socket, other = enter(2), enter(0)
    stored = first.post("once", room=room, key="k1")
    again = second.post("once", room=room, key="k1")
    assert (stored.status_code, again.status_code) == (201, 200)
    assert again.json() == stored.json()
    is_it = lambda frame: frame.get("key") == "k1"  # noqa: E731
    assert hear(socket, is_it) == stored.json()
    socket.send(json.dumps({"handle": "ann", "message": "once", "key": "k1"}))
    assert hear(socket, is_it) == stored.json()
    last = third.post("last", room=room).json()
    assert hear(other, is_it) == stored.json()
    assert hear(other, lambda frame: "id" in frame) == last
    assert [message["message"] for message in first.history(room)] == ["once", "last"]


def test_a_key_that_comes_to_all_nodes_at_once_is_stored_once(shared_cluster: Cluster, room: str) -> None:
    for number in range(10):
        together = threading.Barrier(3)

        def post(server: Any, number: int = number, together: threading.Barrier = together) -> Any:
            together.wait(PATIENCE)
            return server.post(f"message {number}", room=room, key=f"key {number}")

        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(post, shared_cluster.servers))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 201]
        assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(shared_cluster.servers[0].history(room)) == 10


def test_history_and_pages_are_the_same_on_every_node(shared_cluster: Cluster, room: str) -> None:
    servers = shared_cluster.servers
    stored = [servers[number % 3].post(str(number), room=room).json() for number in range(9)]
    for query in ("limit=200", "limit=3", f"since={stored[3]['id']}&limit=2", f"before={stored[3]['id']}&limit=2"):
        pages = [server.get(f"/chat/{quote(room)}?{query}").json() for server in servers]
        assert pages[0] == pages[1] == pages[2]
        assert pages[0]["complete"]
    assert [server.history(room) for server in servers] == [stored] * 3


def test_an_event_stream_goes_on_at_another_node(shared_cluster: Cluster, room: str) -> None:
    first, second, third = shared_cluster.servers
    seen = []
    at = first.post("0", room=room).json()["id"]
    for number, server in enumerate((second, third, first), start=1):
        stored = first.post(str(number), room=room).json()
        with server.events(quote(room), **{"last-event-id": at}) as lines:
            seen.append(next(json.loads(line[6:]) for line in lines if line.startswith("data: ")))
        assert seen[-1] == stored
        at = stored["id"]


# Configuration


def test_redis_url_in_the_environment_is_honoured(start_nodes: StartNodes, redis: RedisServer, room: str) -> None:
    by_environment = start_nodes((), environ={"REDIS_URL": redis.tcp_url})
    by_option = start_nodes((redis.tcp_url,), environ={"REDIS_URL": "redis://127.0.0.1:1"})
    for cluster in (by_environment, by_option):
        cluster.ready()
    stored = by_environment.servers[0].post("hello", room=room).json()
    assert by_option.servers[0].history(room) == [stored]


def test_databases_of_one_redis_are_apart(start_nodes: StartNodes, redis: RedisServer, room: str) -> None:
    cluster = start_nodes((redis.tcp_url,), (f"{redis.tcp_url}/1",))
    cluster.ready()
    cluster.servers[0].post("hello", room=room)
    with cluster.servers[1].socket(quote(room)) as socket:
        cluster.servers[0].post("again", room=room)
        own = cluster.servers[1].post("mine", room=room).json()
        assert json.loads(socket.recv(PATIENCE)) == own
    assert cluster.servers[1].history(room) == [own]


@pytest.mark.parametrize(
    "urls",
    [
        ["redis://:hunter2@host:port"],
        ["redis+cluster://:hunter2@host"],
        ["redis://:hunter2@host", "memory:"],
        ["redis://:hunter2@host", "redis://:hunter2@host"],
    ],
    ids=lambda urls: " ".join(urls),
)
def test_a_wrong_url_is_told_in_one_line_without_the_password(run_twistd: Callable[..., Any], urls: list[str]) -> None:
    is_wrong(run_twistd("-n", "--pidfile=", "chat", *(part for url in urls for part in ("--relay", url))))


def test_so_is_one_in_the_environment(run_twistd: Callable[..., Any]) -> None:
    is_wrong(run_twistd("-n", "--pidfile=", "chat", REDIS_URL="redis://:hunter2@host/chat"))


def is_wrong(ended: Any) -> None:
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(("twistd chat: the relay '", "twistd chat: there is no relay '"))
    assert "hunter2" not in line
