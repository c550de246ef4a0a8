"""The relay in memory: its bounds and its times; the rest is in ``test_contract.py``."""

from __future__ import annotations

import subprocess
import sys
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.conftest import LoggedFailures
from tests.relay.conftest import Events
from twisted_chat.core.publication import History, Newest, Position, Proof, Publication, Published, Since
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits
from twisted_chat.relay.memory import OVERHEAD, SWEEP_SECONDS, MemoryLimits, MemoryRelay

T = TypeVar("T")

HOUR = HistoryLimits(count=100, age=3_600.0)


def result(deferred: Deferred[T]) -> T:
    """What it fired with; it did so already."""
    results: list[T] = []
    deferred.addCallback(results.append)
    [value] = results
    return value


class Memory:
    """A relay and its clock."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self.events = events
        self.clock = clock
        self.relay = self.start(HOUR)

    def start(self, history: HistoryLimits, limits: MemoryLimits = MemoryLimits()) -> MemoryRelay:  # noqa: B008
        self.relay = MemoryRelay(self.clock, history, limits, self.clock.seconds)
        result(self.relay.start(self.events))
        return self.relay

    def publish(self, room: str, data: bytes, key: str | None = None) -> Published:
        return result(self.relay.publish(room, data, key))

    def newest(self, room: str) -> list[bytes]:
        return [publication.data for publication in self.history(room, 1_000).publications]

    def history(self, room: str, limit: int = 0) -> History:
        return result(self.relay.history(room, Newest(limit)))

    def since(self, room: str, position: Position) -> Proof:
        return result(self.relay.history(room, Since(position, 1_000))).proof


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_763_796_000.0)
    return clock


@pytest.fixture
def memory(events: Events, clock: Clock) -> Memory:
    return Memory(events, clock)


def test_a_publication_is_delivered_and_acknowledged_within_the_call(memory: Memory, events: Events) -> None:
    memory.relay.subscribe("r")
    order: list[str] = []
    events.on_deliver = lambda *_: order.append("delivered")
    memory.relay.publish("r", b"{}").addCallback(lambda _: order.append("acknowledged"))
    assert order == ["delivered", "acknowledged"]


def test_a_publication_made_by_a_delivery_is_delivered_before_it_is_acknowledged(
    memory: Memory, events: Events
) -> None:
    memory.relay.subscribe("r")
    order: list[str] = []

    def echo(_: str, publication: Publication) -> None:
        order.append(f"deliver {publication.position.offset}")
        if publication.position.offset == 1:
            inner = memory.relay.publish("r", b"inner")
            assert not inner.called
            inner.addCallback(lambda published: order.append(f"ack {published.publication.position.offset}"))
        order.append(f"delivered {publication.position.offset}")

    events.on_deliver = echo
    memory.relay.publish("r", b"outer").addCallback(lambda _: order.append("ack 1"))
    assert order == ["deliver 1", "delivered 1", "deliver 2", "delivered 2", "ack 2", "ack 1"]


def test_publications_made_by_deliveries_do_not_nest(memory: Memory, events: Events) -> None:
    memory.relay.subscribe("r")

    def echo(room: str, publication: Publication) -> None:
        if publication.position.offset < 5_000:
            memory.relay.publish(room, b"{}")

    events.on_deliver = echo
    memory.publish("r", b"{}")
    assert [one.position.offset for one in events.publications("r")] == list(range(1, 5_001))


def test_a_delivery_that_raises_is_logged_and_costs_nothing_else(
    memory: Memory, events: Events, logged_failures: LoggedFailures
) -> None:
    memory.relay.subscribe("r")

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    events.on_deliver = fail
    memory.publish("r", b"one")
    memory.publish("r", b"two")
    assert len(logged_failures.flush(ZeroDivisionError)) == 2
    assert memory.newest("r") == [b"one", b"two"]


def test_tags_grow_when_the_clock_is_set_back(memory: Memory, clock: Clock) -> None:
    first = memory.publish("r", b"one").publication
    clock.rightNow -= 1_000.0
    second = memory.publish("r", b"two").publication
    assert second.position.tag == first.position.tag + 1
    clock.rightNow += 2_000.0
    third = memory.publish("r", b"three").publication
    assert third.position.tag == 1_763_797_000_000_000
    assert third.previous == second.position.tag


def test_age_hides_to_the_microsecond(memory: Memory, clock: Clock) -> None:
    memory.publish("r", b"one")
    clock.advance(3_600.0)
    assert memory.newest("r") == [b"one"]
    clock.advance(0.001)
    assert memory.newest("r") == []


def test_keys_are_known_for_their_time(memory: Memory, clock: Clock) -> None:
    clock.advance(SWEEP_SECONDS / 2)  # no sweep comes at the moment in question
    first = memory.publish("r", b"one", "key")
    clock.advance(IDEMPOTENCY_SECONDS - 0.001)
    assert memory.publish("r", b"one", "key").duplicate
    clock.advance(0.001)
    second = memory.publish("r", b"one", "key")
    assert not second.duplicate
    assert second.publication.position.offset == first.publication.position.offset + 1
    assert memory.publish("r", b"one", "key").publication == second.publication


def test_of_too_many_keys_the_oldest_are_forgotten(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(keys=3))
    for key in "abcd":
        memory.publish("r", b"{}", key)
    assert [memory.publish("r", b"{}", key).duplicate for key in "bcd"] == [True] * 3
    assert not memory.publish("r", b"{}", "a").duplicate


def test_keys_that_answer_with_too_many_bytes_are_forgotten_oldest_first(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(key_bytes=2 * (1_000 + OVERHEAD)))
    for key in "abc":
        memory.publish("r", bytes(1_000), key)
    assert [memory.publish("r", b"{}", key).duplicate for key in "bc"] == [True] * 2
    assert not memory.publish("r", b"{}", "a").duplicate
    memory.publish("r", bytes(1 << 20), "long")
    assert memory.publish("r", b"{}", "long").duplicate


def test_of_too_many_idle_rooms_the_longest_unused_is_forgotten(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=3))
    positions = {room: memory.publish(room, b"{}").publication.position for room in "abc"}
    positions["a"] = memory.publish("a", b"{}").publication.position
    assert memory.since("b", positions["b"]) is Proof.COMPLETE  # which is no use
    memory.publish("d", b"{}")
    assert [memory.since(room, positions[room]) for room in "ac"] == [Proof.COMPLETE] * 2
    assert memory.since("b", positions["b"]) is Proof.LOST
    assert memory.newest("b") == []


def test_reading_and_joining_rooms_that_are_not_there_forgets_none(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=3))
    position = memory.publish("r", b"{}", "key").publication.position
    for number in range(100):
        memory.relay.subscribe(f"joined {number}")
        for room in (f"joined {number}", f"read {number}"):
            assert memory.newest(room) == []
        memory.relay.unsubscribe(f"joined {number}")
    assert memory.since("r", position) is Proof.COMPLETE
    assert memory.publish("r", b"{}", "key").duplicate


def test_an_address_that_begins_many_rooms_makes_only_its_own_forgotten(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=100))
    positions = {}
    for number in range(20):
        published = result(memory.relay.publish(f"ann {number}", bytes(100), None, "user:ann"))
        positions[f"ann {number}"] = published.publication.position
    for number in range(1_000):
        memory.relay.publish(f"spam {number}", bytes(100), None, "address:192.0.2.66")
    assert all(memory.since(room, position) is Proof.COMPLETE for room, position in positions.items())
    assert memory.newest("spam 0") == []
    assert memory.newest("spam 999") == [bytes(100)]
    usage = memory.relay.usage()
    assert (usage.evicted, usage.bytes) == (920, 100 * (100 + OVERHEAD))


def test_who_has_most_is_a_matter_of_bytes(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(history_bytes=100 * (1_000 + OVERHEAD)))
    for number in range(30):
        memory.relay.publish(f"ann {number}", bytes(1_000), None, "user:ann")
    for number in range(10):
        for _ in range(50):
            memory.relay.publish(f"spam {number}", bytes(1_000), None, "address:192.0.2.66")
    assert all(memory.newest(f"ann {number}") for number in range(30))


def test_whoever_sits_in_its_rooms_makes_those_of_others_go_no_sooner(memory: Memory) -> None:
    memory.start(HistoryLimits(count=1_000, age=3_600.0), MemoryLimits(history_bytes=100 * (1_000 + OVERHEAD)))
    for number in range(30):
        memory.relay.publish(f"ann {number}", bytes(1_000), None, "user:ann")
    for number in range(4):
        memory.relay.subscribe(f"spam {number}")
        for _ in range(100):
            memory.relay.publish(f"spam {number}", bytes(1_000), None, "address:192.0.2.66")
    # One message stays in each room that somebody is in.
    assert sum(bool(memory.newest(f"ann {number}")) for number in range(30)) >= 27
    assert memory.relay.usage().bytes <= 100 * (1_000 + OVERHEAD)


def test_a_room_of_several_is_nobodys(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=10))
    for spender in ("address:192.0.2.66", "user:ann"):
        memory.relay.publish("shared", b"{}", None, spender)
    for number in range(100):
        memory.relay.publish(f"spam {number}", b"{}", None, "address:192.0.2.66")
    assert memory.newest("shared") == [b"{}"] * 2


def test_a_key_does_not_answer_with_what_was_forgotten(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=1))
    first = memory.publish("r", b"{}", "key")
    memory.publish("other", b"{}")
    again = memory.publish("r", b"{}", "key")
    assert not again.duplicate
    assert memory.history("r", 1).publications == (again.publication,) != (first.publication,)
    assert memory.publish("r", b"{}", "key") == Published(again.publication, duplicate=True)


def test_a_room_that_was_empty_goes_on_unless_something_of_it_may_be_forgotten(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=1))
    before = memory.history("r").top
    memory.publish("r", b"one")
    assert memory.since("r", before) is Proof.COMPLETE
    memory.publish("other", b"{}")
    between = memory.history("r").top
    assert memory.since("r", before) is Proof.LOST
    memory.publish("r", b"two")
    assert [memory.since("r", position) for position in (before, between)] == [Proof.LOST, Proof.COMPLETE]


def test_whoever_is_in_an_empty_room_misses_nothing_there(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=1))
    memory.relay.subscribe("r")
    before = memory.history("r").top
    for room in "abc":
        memory.publish(room, b"{}")
    assert memory.since("r", before) is Proof.COMPLETE
    memory.publish("r", b"one")
    assert memory.since("r", before) is Proof.COMPLETE


def test_subscribed_rooms_are_not_idle(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(idle_rooms=1))
    memory.relay.subscribe("before")
    positions = {room: memory.publish(room, b"{}").publication.position for room in ["before", "after"]}
    memory.relay.subscribe("after")
    for room in "abc":
        memory.publish(room, b"{}")
    assert [memory.since(room, position) for room, position in positions.items()] == [Proof.COMPLETE] * 2
    memory.relay.unsubscribe("before")
    memory.relay.unsubscribe("after")
    assert memory.since("after", positions["after"]) is Proof.COMPLETE
    assert memory.since("before", positions["before"]) is Proof.LOST


def test_above_all_bytes_idle_rooms_go_first_and_then_a_rooms_own_oldest(memory: Memory) -> None:
    memory.start(HOUR, MemoryLimits(history_bytes=10 * (1_000 + OVERHEAD)))
    memory.relay.subscribe("busy")
    for room in ["first", "second", "busy", "first", "second", "busy", "busy"]:
        memory.publish(room, bytes(1_000))
    for _ in range(5):
        memory.publish("busy", bytes(1_000))
    assert [len(memory.newest(room)) for room in ["first", "second", "busy"]] == [0, 2, 8]
    for _ in range(5):
        memory.publish("busy", bytes(1_000))
    assert [len(memory.newest(room)) for room in ["first", "second", "busy"]] == [0, 0, 10]
    assert memory.publish("busy", bytes(1_000_000)).publication.position.offset == 14
    assert [len(data) for data in memory.newest("busy")] == [1_000_000]
    memory.publish("busy", bytes(1_000))
    assert [len(data) for data in memory.newest("busy")] == [1_000]


def test_publications_beyond_the_count_do_not_count(memory: Memory) -> None:
    memory.start(HistoryLimits(count=3, age=3_600.0), MemoryLimits(history_bytes=10 * (1_000 + OVERHEAD)))
    memory.publish("idle", bytes(1_000))
    memory.relay.subscribe("busy")
    for _ in range(50):
        memory.publish("busy", bytes(1_000))
    assert [len(memory.newest(room)) for room in ["idle", "busy"]] == [1, 3]


def test_expired_publications_do_not_count(memory: Memory, clock: Clock) -> None:
    memory.start(HOUR, MemoryLimits(history_bytes=10 * (1_000 + OVERHEAD)))
    memory.relay.subscribe("old")
    memory.relay.subscribe("new")
    for _ in range(10):
        memory.publish("old", bytes(1_000))
    clock.advance(3_601.0)
    for _ in range(10):
        memory.publish("new", bytes(1_000))
    assert len(memory.newest("new")) == 10


def test_a_room_gives_up_what_is_too_old_before_another_is_forgotten(memory: Memory, clock: Clock) -> None:
    memory.start(HistoryLimits(count=100, age=30.0), MemoryLimits(history_bytes=10 * (1_000 + OVERHEAD)))
    memory.relay.subscribe("busy")
    for _ in range(9):
        memory.publish("busy", bytes(1_000))
    clock.advance(31.0)  # less than until the next sweep
    memory.publish("idle", bytes(1_000))
    memory.publish("busy", bytes(1_000))
    assert [len(memory.newest(room)) for room in ["idle", "busy"]] == [1, 1]


def test_an_idle_room_that_is_over_begins_a_new_history(memory: Memory, clock: Clock) -> None:
    idle = memory.publish("idle", b"{}").publication.position
    clock.advance(3_600.0 - SWEEP_SECONDS)
    used = memory.publish("used", b"{}").publication.position
    memory.relay.subscribe("watched")
    watched = memory.publish("watched", b"{}").publication.position
    clock.pump([SWEEP_SECONDS] * 2)
    assert memory.since("idle", idle) is Proof.LOST
    assert memory.since("used", used) is Proof.COMPLETE
    clock.pump([SWEEP_SECONDS] * 100)
    assert memory.since("used", used) is Proof.LOST
    assert memory.history("watched") == History(watched, Proof.COMPLETE)


def test_a_room_lives_while_a_key_answers_with_it(memory: Memory, clock: Clock) -> None:
    memory.start(HistoryLimits(count=10, age=10.0))
    first = memory.publish("r", b"{}", "key")
    clock.pump([SWEEP_SECONDS] * 4)
    assert memory.newest("r") == []
    again = memory.publish("r", b"{}", "key")
    assert again == Published(first.publication, duplicate=True)
    assert memory.since("r", again.publication.position) is Proof.COMPLETE


def test_without_an_age_nothing_is_ever_over(memory: Memory, clock: Clock) -> None:
    memory.start(HistoryLimits(count=10, age=0.0))
    position = memory.publish("r", b"{}").publication.position
    clock.pump([86_400.0] * 400)
    assert memory.since("r", position) is Proof.COMPLETE
    assert memory.newest("r") == [b"{}"]


def test_stopping_leaves_no_timer(memory: Memory, clock: Clock) -> None:
    assert clock.getDelayedCalls()
    result(memory.relay.stop())
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("module", ["memory", "sqlite", "url", "presence", "interface"])
def test_importing_installs_no_reactor(module: str) -> None:
    check = f"import sys, twisted_chat.relay.{module}; sys.exit('twisted.internet.reactor' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
