"""What nodes tell of themselves, and who sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from twisted_chat.core.errors import ChatError
from twisted_chat.core.names import room_name
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.nodes import ROOM, TELL, Nodes
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay


class Relay(MemoryRelay):
    """One whose presence can fail."""

    failure: Exception | None = None

    def present(self, room: str) -> Deferred[tuple[str, ...]]:
        return super().present(room) if self.failure is None else fail(self.failure)


class Cluster:
    def __init__(self) -> None:
        self.clock = Clock()
        self.relay = Relay(self.clock, HistoryLimits())
        self.relay.start(Hub(self.relay, self.clock, Metrics()))
        self.nodes: list[Nodes] = []

    def node(self, name: str, about: Callable[[], dict[str, Any]] = dict) -> Nodes:
        self.nodes.append(Nodes(self.relay, self.clock, name, about))
        self.nodes[-1].start()
        return self.nodes[-1]

    def seen(self) -> list[dict[str, Any]]:
        answers: list[list[dict[str, Any]]] = []
        self.nodes[0].all().addCallback(answers.append)
        return answers[0]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    for node in cluster.nodes:
        node.stop()
    cluster.relay.stop()
    assert cluster.clock.getDelayedCalls() == []


def test_no_client_can_have_the_room() -> None:
    with pytest.raises(ChatError, match="control characters"):
        room_name(ROOM)


def test_each_node_is_seen_as_it_told_last(cluster: Cluster) -> None:
    members = [3]
    cluster.node("b", lambda: {"members": members[0]})
    cluster.node("a")
    assert cluster.seen() == [{"name": "a"}, {"name": "b", "members": 3}]
    members[0] = 4
    cluster.clock.advance(TELL)
    assert cluster.seen() == [{"name": "a"}, {"name": "b", "members": 4}]


def test_a_node_that_ends_is_not_seen_any_more(cluster: Cluster) -> None:
    first, second = cluster.node("a"), cluster.node("b")
    assert (first.seen, second.seen) == (1, 2)
    cluster.clock.advance(TELL)
    assert first.seen == 2
    second.stop()
    second.stop()
    cluster.clock.advance(TELL)
    assert (first.seen, cluster.seen()) == (1, [{"name": "a"}])


def test_what_is_of_a_later_version_is_passed_over(cluster: Cluster) -> None:
    cluster.node("a")
    for number, told in enumerate(("no JSON", "[]", "{}", '{"name": 7}', "7")):
        cluster.relay.enter(ROOM, f"other {number}", told)
    assert cluster.seen() == [{"name": "a"}]


def test_two_tellings_of_one_node_are_one_node(cluster: Cluster) -> None:
    cluster.node("a")
    cluster.relay.enter(ROOM, "former name", '{"name": "a", "members": 1}')
    assert len(cluster.seen()) == 1


def test_how_many_there_are_is_not_known_while_the_relay_does_not_say(cluster: Cluster) -> None:
    node = cluster.node("a")
    cluster.relay.stop()
    cluster.clock.advance(TELL)
    assert node.seen is None


def test_a_relay_that_fails_otherwise_is_logged(cluster: Cluster, logged_failures: Any) -> None:
    node = cluster.node("a")
    cluster.relay.failure = ZeroDivisionError()
    cluster.clock.advance(TELL)
    assert node.seen is None
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    cluster.relay.failure = None
    cluster.clock.advance(TELL)
    assert node.seen == 1
