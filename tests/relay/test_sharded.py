"""Rooms spread over relays; that it is a relay like any other is in ``test_contract.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tests.relay.conftest import Events
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Position, Publication, Published
from twisted_chat.relay.interface import HistoryLimits, RelayError, RelayEvents, Trouble, Troubles
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.sharded import PATIENCE, ShardedRelay

ROOMS = [f"room {number}" for number in range(3_000)]


class Shard(MemoryRelay):
    """Says what it is told to say, and notes in which rooms something was published."""

    def __init__(self) -> None:
        super().__init__(Clock(), HistoryLimits())
        self.told: RelayEvents | None = None
        self.rooms: list[str] = []
        self.trouble: Exception | None = None
        self.troubles: Troubles = ()
        self.hangs = False
        self.stops = 0

    def start(self, events: RelayEvents) -> Deferred[None]:
        self.told = events
        return fail(self.trouble) if self.trouble else super().start(events)

    def stop(self) -> Deferred[None]:
        self.stops += 1
        return super().stop()

    def ready(self) -> Deferred[Troubles]:
        if self.hangs:
            return Deferred()
        return fail(self.trouble) if self.trouble else succeed(self.troubles)

    def publish(
        self, room: str, data: bytes, key: str | None = None, spender: str | None = None
    ) -> Deferred[Published]:
        self.rooms.append(room)
        return super().publish(room, data, key)


def spread(names: Collection[str], rooms: Collection[str] = ROOMS) -> dict[str, str]:
    """Where each room is."""
    shards = {name: Shard() for name in names}
    relay = ShardedRelay(shards, Clock())
    for room in rooms:
        relay.publish(room, b"").addErrback(lambda _: None)
    return {room: name for name, shard in shards.items() for room in shard.rooms}


def test_rooms_are_spread_evenly() -> None:
    counts = Counter(spread(["redis://a", "redis://b", "redis://c"]).values())
    assert min(counts.values()) > 900


def test_the_order_of_the_relays_does_not_matter() -> None:
    assert spread(["redis://a", "redis://b", "redis://c"]) == spread(["redis://c", "redis://a", "redis://b"])


def test_one_relay_more_moves_only_the_rooms_that_it_gets() -> None:
    before, after = spread(["a", "b", "c"]), spread(["a", "b", "c", "d"])
    moved = [room for room in ROOMS if before[room] != after[room]]
    assert {after[room] for room in moved} == {"d"}
    assert 600 < len(moved) < 900


def test_where_a_room_is_never_changes() -> None:
    # Nodes of different versions run side by side.
    assert spread(["redis://a", "redis://b"], ["lobby", "räum/日本語", "👍", ""]) == {
        "lobby": "redis://a",
        "räum/日本語": "redis://a",
        "👍": "redis://a",
        "": "redis://b",
    }


def test_a_single_relay_has_them_all() -> None:
    assert set(spread(["a"]).values()) == {"a"}


@pytest.fixture
def shards() -> dict[str, Shard]:
    return {"a": Shard(), "b": Shard()}


@pytest.fixture
def relay(shards: dict[str, Shard]) -> ShardedRelay:
    return ShardedRelay(shards, Clock())


def outcome(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    [result] = results
    return result


def test_it_is_durable_if_all_are(shards: dict[str, Shard]) -> None:
    assert not ShardedRelay(shards, Clock()).durable
    for shard in shards.values():
        shard.durable = True
    assert ShardedRelay(shards, Clock()).durable


def test_a_lost_link_concerns_the_rooms_of_its_shard(
    relay: ShardedRelay, shards: dict[str, Shard], events: Events
) -> None:
    outcome(relay.start(events))
    for room in ROOMS[:20]:
        relay.subscribe(room)
        relay.publish(room, b"")
    relay.unsubscribe(ROOMS[0])
    for shard in shards.values():
        assert shard.told is not None
        shard.told.interrupted()
        shard.told.resumed()
        shard.told.interrupted(shard.rooms[:1])
        expected = set(shard.rooms) - {ROOMS[0]}
        assert [(what, set(rooms or ())) for what, rooms in events.links] == [
            ("interrupted", expected),
            ("resumed", expected),
            ("interrupted", set(shard.rooms[:1])),
        ]
        events.links.clear()


def test_what_a_shard_calls_back_is_passed_on(shards: dict[str, Shard], relay: ShardedRelay, events: Events) -> None:
    outcome(relay.start(events))
    told = shards["b"].told
    assert told is not None
    publication = Publication(Position("E", 1, 2), 0, b"{}")
    told.deliver("r", publication)
    told.signal("r", b"s")
    told.joined("r", "ann")
    told.left("r", "ann")
    told.top("r", publication.position)
    assert events.delivered == [("r", publication)]
    assert events.signals == [("r", b"s")]
    assert events.presence == [("r", "joined", "ann"), ("r", "left", "ann")]
    assert events.tops == [("r", publication.position)]


def test_one_that_is_not_ready_takes_its_rooms_with_it_and_no_others(
    shards: dict[str, Shard], relay: ShardedRelay
) -> None:
    assert outcome(relay.ready()) == ()
    shards["b"].trouble = ChatError(Reason.TRY_AGAIN, "no connection")
    [trouble] = outcome(relay.ready())
    assert trouble.code == "rooms"
    assert "no connection" in trouble.message
    shards["a"].troubles = (Trouble("writing", "full"),)
    assert [trouble.code for trouble in outcome(relay.ready())] == ["rooms", "writing"]


def test_that_none_is_ready_is_said_as_by_one(shards: dict[str, Shard], relay: ShardedRelay) -> None:
    shards["a"].trouble = ChatError(Reason.TRY_AGAIN, "no connection")
    shards["b"].trouble = ChatError(Reason.STORAGE_FULL, "full")
    assert outcome(relay.ready()) is shards["a"].trouble


def test_what_several_say_alike_is_said_once(shards: dict[str, Shard], relay: ShardedRelay) -> None:
    for shard in shards.values():
        shard.troubles = (Trouble("writing", "full"),)
    assert outcome(relay.ready()) == (Trouble("writing", "full"),)


def test_a_mistake_in_one_is_no_verdict(shards: dict[str, Shard], relay: ShardedRelay) -> None:
    shards["b"].trouble = ZeroDivisionError()
    assert isinstance(outcome(relay.ready()), ZeroDivisionError)


def test_one_that_hangs_does_not_hide_the_others(shards: dict[str, Shard]) -> None:
    clock = Clock()
    relay = ShardedRelay(shards, clock)
    shards["b"].hangs = True
    answers: list[Troubles] = []
    relay.ready().addCallback(answers.append)
    assert answers == []
    clock.advance(PATIENCE)
    [[trouble]] = answers
    assert (trouble.code, "b has not answered" in trouble.message) == ("rooms", True)


def test_one_that_cannot_start_fails_the_start(shards: dict[str, Shard], relay: ShardedRelay, events: Events) -> None:
    shards["a"].trouble = RelayError("no such thing")
    assert outcome(relay.start(events)) is shards["a"].trouble


def test_all_are_stopped(shards: dict[str, Shard], relay: ShardedRelay, events: Events) -> None:
    outcome(relay.start(events))
    outcome(relay.publish("r", b"{}"))
    outcome(relay.stop())
    assert [shard.stops for shard in shards.values()] == [1, 1]
    assert isinstance(outcome(relay.history("r", Newest(1))), ChatError)
