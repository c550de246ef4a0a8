"""Positions are asked for now and then, and kept alive."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_chat.core.publication import Position
from twisted_chat.relay.redis.errors import LinkDownError
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.tops import AT_ONCE, EMPTY_ROOM_MS, EVERY, TopCheck

NAMES = Names()

HOUR_MS = 3_600_000


class Asked:
    """Questions for positions, answered when the test says so; other commands work."""

    def __init__(self) -> None:
        self.rooms: list[str] = []
        self.told: list[tuple[str, Position]] = []
        self.open: list[Deferred[Any]] = []
        self.others: list[tuple[Any, ...]] = []
        self.failures: list[Failure] = []

    def execute(self, *args: Any) -> Deferred[Any]:
        if args[0] != "HMGET":
            self.others.append(args)
            return succeed(1)
        self.open.append(Deferred())
        return self.open[-1]

    def tell(self, room: str, position: Position) -> None:
        self.told.append((room, position))

    def answer(self, *parts: bytes | None) -> None:
        self.open.pop(0).callback(list(parts))


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def check(clock: Clock, asked: Asked) -> TopCheck:
    check = TopCheck(clock, NAMES, asked.execute, lambda: asked.rooms, asked.tell, HOUR_MS, asked.failures.append)
    check.start()
    return check


def test_each_room_is_asked_for_and_told(check: TopCheck, asked: Asked, clock: Clock) -> None:
    asked.rooms = ["a", "b", "c"]
    clock.advance(EVERY[0] - 0.1)
    assert asked.open == []
    clock.advance(EVERY[1] - EVERY[0] + 0.1)
    asked.answer(b"E", b"7", b"1763796000000000")
    asked.answer(b"F", b"0", b"0")
    assert asked.told == []
    asked.answer(None, None, None)
    assert asked.told == [
        ("a", Position("E", 7, 1763796000000000)),
        ("b", Position("F", 0, 0)),
        ("c", Position("", 0, 0)),
    ]


def test_positions_of_rooms_in_use_live_on(check: TopCheck, asked: Asked, clock: Clock) -> None:
    asked.rooms = ["a", "b", "c"]
    for _ in range(60):
        clock.advance(EVERY[1])
        asked.answer(b"E", b"7", b"1763796000000000")
        asked.answer(b"F", b"0", b"0")
        asked.answer(None, None, None)
    # That of an empty room, which an earlier version kept, does not live long; another is renewed before it ends.
    empty, used = ("PEXPIRE", NAMES.position_key("b"), EMPTY_ROOM_MS), ("PEXPIRE", NAMES.position_key("a"), HOUR_MS)
    assert set(asked.others) == {empty, used}
    assert asked.others.count(empty) == 60
    assert 60 * EVERY[0] * 1000 / HOUR_MS * 4 <= asked.others.count(used) < 60


def test_where_a_publication_came_meanwhile_nothing_is_told(check: TopCheck, asked: Asked, clock: Clock) -> None:
    asked.rooms = ["a", "b"]
    clock.advance(EVERY[1])
    check.delivered("a")
    check.delivered("other")
    asked.answer(b"E", b"7", b"17")
    asked.answer(b"F", b"8", b"18")
    assert asked.told == [("b", Position("F", 8, 18))]


def test_many_rooms_are_asked_for_in_parts(check: TopCheck, asked: Asked, clock: Clock) -> None:
    asked.rooms = [str(number) for number in range(AT_ONCE + 1)]
    clock.advance(EVERY[1])
    assert len(asked.open) == AT_ONCE
    for _ in range(AT_ONCE):
        asked.answer(b"E", b"7", b"17")
    assert len(asked.open) == 1
    asked.answer(b"E", b"7", b"17")
    assert [room for room, _ in asked.told] == asked.rooms


def test_a_failed_round_is_followed_by_another(check: TopCheck, asked: Asked, clock: Clock) -> None:
    asked.rooms = ["a", "b"]
    clock.advance(EVERY[1])
    while asked.open:
        asked.open.pop(0).errback(LinkDownError())
    clock.advance(EVERY[1])
    for offset in (b"7", b"8"):
        asked.answer(b"E", offset, b"17")
    assert len(asked.told) == 2
    assert [failure.check(LinkDownError) for failure in asked.failures] == [LinkDownError]


def test_a_slow_round_is_not_overtaken(check: TopCheck, asked: Asked, clock: Clock) -> None:
    asked.rooms = ["a"]
    for _ in range(5):
        clock.advance(EVERY[1])
        check.delivered("a")
    assert len(asked.open) == 1


def test_it_stops(check: TopCheck, clock: Clock) -> None:
    check.stop()
    assert clock.getDelayedCalls() == []
