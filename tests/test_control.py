"""Orders to all nodes: carried out everywhere, known after a restart, caught up on, and kept from fading."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_chat.control import LOOK, PATIENCE, ROOM, SKEW, Control
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.names import room_name
from twisted_chat.core.publication import History, Position, Publication, Question
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay

WALL = 1_795_000_000.0


class Clients:
    """Notes which connections were to be ended."""

    def __init__(self) -> None:
        self.users: list[tuple[str, float, ChatError]] = []
        self.rooms: list[tuple[str, ChatError]] = []

    def close_user(self, user: str, age: float, error: ChatError) -> None:
        self.users.append((user, age, error))

    def close_room(self, room: str, error: ChatError) -> None:
        self.rooms.append((room, error))


class Relay(MemoryRelay):
    """Does not answer questions while it is `silent`; what is asked meanwhile waits."""

    silent = False

    def __init__(self, clock: Clock, history: HistoryLimits) -> None:
        super().__init__(clock, history, wall_clock=clock.seconds)
        self.waiting: list[tuple[Deferred[History], str, Question]] = []

    def history(self, room: str, question: Question) -> Deferred[History]:
        if not self.silent:
            return super().history(room, question)
        answer: Deferred[History] = Deferred()
        self.waiting.append((answer, room, question))
        return answer

    def speak(self) -> None:
        self.silent = False
        waiting, self.waiting = self.waiting, []
        for answer, room, question in waiting:
            super().history(room, question).chainDeferred(answer)


class Node:
    """A node's hub and control. While it is `away` nothing reaches it."""

    def __init__(self, cluster: Cluster) -> None:
        clock, relay = cluster.clock, cluster.relay
        self.hub = Hub(relay, clock, Metrics())
        self.clients = Clients()
        self.control = Control(
            self.hub, relay, self.clients, clock, lambda: WALL + clock.seconds(), cluster.history_limits
        )
        self.away = False
        self.started: list[None] = []
        cluster.nodes.append(self)
        self.control.start().addCallback(self.started.append)

    def refuses(self, room: str) -> bool:
        try:
            self.control.check(room)
        except ChatError as error:
            return error.reason is Reason.ROOM_REFUSED
        return False


class Cluster:
    """Nodes at one relay; what it calls back."""

    def __init__(self, history: HistoryLimits) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.history_limits = history
        self.relay = Relay(self.clock, history)
        self.nodes: list[Node] = []
        self.relay.start(self)

    def node(self) -> Node:
        return Node(self)

    def stop(self, node: Node) -> None:
        self.nodes.remove(node)
        node.control.stop()
        if self.nodes:
            self.relay.subscribe(ROOM)  # the others are on it as well

    def give(self, **order: Any) -> None:
        """An order that came from elsewhere."""
        self.relay.publish(ROOM, json.dumps(order).encode())

    def orders(self) -> list[dict[str, Any]]:
        """All that are kept."""
        kept = self.relay._rooms[ROOM].publications
        return [json.loads(publication.data) for publication in kept]

    def deliver(self, room: str, publication: Publication) -> None:
        for node in self.nodes:
            if not node.away:
                node.hub.deliver(room, publication)

    def signal(self, room: str, data: bytes) -> None:
        raise AssertionError("nobody signals here")

    def joined(self, room: str, handle: str) -> None:
        raise AssertionError("nobody joins here")

    def left(self, room: str, handle: str) -> None:
        raise AssertionError("nobody leaves here")

    def interrupted(self, rooms: Collection[str] | None = None) -> None:
        raise AssertionError("this relay does not lose its link")

    def resumed(self, rooms: Collection[str] | None = None) -> None:
        raise AssertionError("this relay does not lose its link")

    def top(self, room: str, position: Position) -> None:
        raise AssertionError("this relay loses nothing")


MakeCluster = Callable[..., Cluster]


@pytest.fixture
def make_cluster() -> Iterator[MakeCluster]:
    made: list[Cluster] = []

    def make(**limits: Any) -> Cluster:
        made.append(Cluster(HistoryLimits(**limits)))
        return made[-1]

    yield make
    for cluster in made:
        for node in list(cluster.nodes):
            cluster.stop(node)
        cluster.relay.stop()
        assert cluster.clock.getDelayedCalls() == []


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster()


def test_no_client_can_have_the_room() -> None:
    with pytest.raises(ChatError):
        room_name(ROOM)


def test_the_room_counts_as_none_and_its_follower_as_nobody(cluster: Cluster) -> None:
    node = cluster.node()
    assert node.started == [None]
    assert (node.hub.rooms, node.hub.member_count()) == ({}, 0)


# Disconnecting


def test_a_user_is_disconnected_on_every_node(cluster: Cluster) -> None:
    nodes = [cluster.node(), cluster.node()]
    stored: list[Position] = []
    nodes[0].control.disconnect("u1", "bye").addCallback(stored.append)
    assert stored[0].offset == 1
    for node in nodes:
        [(user, age, error)] = node.clients.users
        # Those that are there now are meant, though the clocks differ.
        assert (user, age) == ("u1", -SKEW)
        assert (error.reason, error.message) == (Reason.DISCONNECTED, "bye")


def test_a_reason_may_be_left_out(cluster: Cluster) -> None:
    node = cluster.node()
    node.control.disconnect("u1")
    assert node.clients.users[0][2].message == "an operator ended your connections"


def test_an_order_that_is_read_at_start_is_not_about_who_comes_later(cluster: Cluster) -> None:
    cluster.give(do="disconnect", user="u1")
    cluster.clock.advance(1)
    node = cluster.node()
    [(user, age, _)] = node.clients.users
    assert (user, age) == ("u1", 1.0)


def test_a_node_that_was_away_catches_up(cluster: Cluster) -> None:
    here, away = cluster.node(), cluster.node()
    away.hub.interrupted()
    away.away = True
    here.control.disconnect("u1")
    here.control.refuse("team")
    assert (away.clients.users, away.refuses("team")) == ([], False)
    cluster.clock.advance(60)
    away.away = False
    away.hub.resumed()
    [(_, age, _)] = away.clients.users
    assert age == 60 - SKEW, "who came since is not meant"
    assert away.refuses("team")


# Refusing


def test_a_refused_room_is_closed_on_every_node(cluster: Cluster) -> None:
    nodes = [cluster.node(), cluster.node()]
    nodes[0].control.refuse("team")
    for node in nodes:
        [(room, error)] = node.clients.rooms
        assert (room, error.reason, error.message) == ("team", Reason.ROOM_REFUSED, "this room is closed")
        assert node.refuses("team")
        assert not node.refuses("lobby")
        assert node.control.refused() == {"team": None}
    nodes[1].control.admit("team")
    assert [node.refuses("team") for node in nodes] == [False, False]
    assert nodes[0].control.refused() == {}
    assert len(nodes[0].clients.rooms) == 1


def test_a_refusal_ends(cluster: Cluster) -> None:
    node = cluster.node()
    until = WALL + cluster.clock.seconds() + 60
    node.control.refuse("team", until)
    assert node.control.refused() == {"team": until}
    with pytest.raises(ChatError, match=r"closed until 2026-11-18T11:24:20Z"):
        node.control.check("team")
    cluster.clock.advance(59)
    assert node.refuses("team")
    cluster.clock.advance(1)
    assert not node.refuses("team")
    assert node.control.refused() == {}


def test_a_refusal_outlives_the_node(cluster: Cluster) -> None:
    first = cluster.node()
    for room in ("red", "blue", "green"):
        first.control.refuse(room)
    first.control.admit("blue")
    first.control.refuse("green", WALL + cluster.clock.seconds() + 60)
    cluster.stop(first)
    cluster.clock.advance(120)
    second = cluster.node()
    assert second.started == [None]
    assert second.control.refused() == {"red": None}
    assert [second.refuses(room) for room in ("red", "blue", "green")] == [True, False, False]


def test_start_does_not_wait_for_ever(cluster: Cluster) -> None:
    cluster.give(do="refuse", room="team")
    cluster.relay.silent = True
    node = cluster.node()
    cluster.clock.advance(PATIENCE - 0.1)
    assert node.started == []
    cluster.clock.advance(0.1)
    assert node.started == [None]
    assert not node.refuses("team")
    cluster.relay.speak()
    assert node.refuses("team")
    assert [room for room, _ in node.clients.rooms] == ["team"], "who came meanwhile has to go"


def test_there_is_a_most_of_refused_rooms(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(count=8)
    control = cluster.node().control
    assert control.most == 2
    for room in ("red", "blue"):
        control.check_most(room)
        control.refuse(room)
    control.check_most("red")
    with pytest.raises(ChatError, match="2 rooms are refused, and that is the most"):
        control.check_most("green")
    control.admit("red")
    control.check_most("green")


# Not fading


def test_a_refusal_is_said_again_before_other_orders_displace_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(count=8)
    nodes = [cluster.node(), cluster.node()]
    nodes[0].control.refuse("team")
    for _ in range(20):
        for number in range(3):
            nodes[0].control.disconnect(f"u{number}")
        cluster.clock.advance(LOOK)
    said = [order for order in cluster.orders() if order["do"] == "refuse"]
    assert said, "it is not kept any more"
    assert said[0]["room"] == "team"
    for node in nodes:
        cluster.stop(node)
    assert cluster.node().refuses("team")


def test_it_is_said_again_by_one_node_only(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(count=8)
    nodes = [cluster.node(), cluster.node(), cluster.node()]
    nodes[0].control.refuse("team")
    for number in range(5):
        nodes[0].control.disconnect(f"u{number}")
    for node in nodes:
        node.away = True  # so none knows yet what another has just said
    cluster.clock.advance(LOOK)
    assert [order["do"] for order in cluster.orders()].count("refuse") == 2


def test_a_refusal_is_said_again_before_it_is_too_old(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(age=3_600.0)
    node = cluster.node()
    node.control.refuse("team")
    for _ in range(1_000):
        cluster.clock.advance(LOOK)
    assert len(cluster.orders()) <= 2
    cluster.stop(node)
    assert cluster.node().refuses("team")


def test_what_is_over_is_not_said_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(age=3_600.0)
    node = cluster.node()
    node.control.refuse("red", WALL + cluster.clock.seconds() + 60)
    node.control.refuse("blue")
    node.control.admit("blue")
    for _ in range(500):
        cluster.clock.advance(LOOK)
    cluster.relay._sweep()
    assert cluster.orders() == []


def test_who_says_it_again_without_knowing_better_does_not_undo_what_was_decided_later(cluster: Cluster) -> None:
    node = cluster.node()
    node.control.refuse("team")
    [first] = cluster.relay._rooms[ROOM].publications
    cluster.clock.advance(1)
    node.control.admit("team")
    cluster.give(do="refuse", room="team", until=None, tag=first.position.tag)
    assert not node.refuses("team")
    assert not cluster.node().refuses("team")
    node.control.refuse("team")
    assert node.refuses("team")


def test_a_history_that_was_lost_gets_the_refusals_back(cluster: Cluster) -> None:
    node = cluster.node()
    node.control.refuse("team")
    node.hub.interrupted()
    del cluster.relay._rooms[ROOM]
    node.hub.resumed()
    assert node.refuses("team")
    cluster.clock.advance(LOOK)
    assert [order["room"] for order in cluster.orders()] == ["team"]
    assert cluster.node().refuses("team")


# What is no order


@pytest.mark.parametrize(
    "data",
    [
        b"no JSON",
        b"[]",
        b"7",
        b"{}",
        b'{"do": "dance"}',
        b'{"do": "disconnect"}',
        b'{"do": "disconnect", "user": 7}',
        b'{"do": "refuse", "room": null}',
        b'{"do": "refuse", "room": "team", "until": "soon"}',
        b'{"do": "refuse", "room": "team", "until": 1e300}',
        b'{"do": "admit"}',
        b"\xff",
    ],
)
def test_what_is_not_understood_is_passed_over(cluster: Cluster, data: bytes) -> None:
    node = cluster.node()
    cluster.relay.publish(ROOM, data)
    assert (node.clients.users, node.clients.rooms, node.control.refused()) == ([], [], {})
    node.control.refuse("lobby")
    assert node.refuses("lobby")


def test_what_need_not_be_known_is_forgotten(cluster: Cluster) -> None:
    node = cluster.node()
    node.control.refuse("team")
    for number in range(3_000):
        node.control.admit(f"room {number}")
    assert len(node.control._decisions) <= 2_000
    assert node.refuses("team")


def test_after_the_end_no_order_is_carried_out(cluster: Cluster) -> None:
    node, other = cluster.node(), cluster.node()
    cluster.stop(node)
    other.control.disconnect("u1")
    assert (node.clients.users, len(other.clients.users)) == ([], 1)
    node.control.stop()


def test_an_order_that_is_not_stored_fails(cluster: Cluster) -> None:
    node = cluster.node()
    cluster.relay.stop()
    failures: list[Any] = []
    node.control.refuse("team").addErrback(failures.append)
    assert failures[0].value.reason is Reason.TRY_AGAIN
