"""Encoded once, joined per turn, in order for everyone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_chat import fanout
from twisted_chat.core.errors import ChatError
from twisted_chat.core.limits import AddressRates, Limits
from twisted_chat.core.permissions import ANYONE
from twisted_chat.core.publication import Position, Publication
from twisted_chat.core.session import Session
from twisted_chat.fanout import MOST_QUEUED, SLICE, RoomAudience, Turn
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire.formats import Event

LIMITS = Limits()


class Plain:
    """A format that can be read in an assertion, and counts what it encodes."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.encoded: Counter[int] = Counter()

    def publication(self, publication: Publication) -> bytes:
        self.encoded[publication.position.offset] += 1
        return f"{self.name}{publication.position.offset} ".encode()

    def event(self, event: bytes) -> bytes:
        return b"<%b>" % event

    def reset(self, position: Position) -> bytes:
        return b"reset "

    def start(self, position: Position) -> bytes:
        return b""

    def error(self, refused: ChatError) -> bytes:
        return b"error "


class Outlet:
    direct = None

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.on_write = lambda: None

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.on_write()

    def writable(self) -> bool:
        return True


class Turns:
    """A reactor whose turns are taken one by one; a `Clock` would go on until nothing is due."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def callLater(self, delay: float, call: Callable[[], None]) -> None:
        assert delay == 0
        self.calls.append(call)

    def take(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Fixture:
    def __init__(self, reactor: Any = None) -> None:
        self.clock = Clock()
        self.delivered = 0
        self.first: list[int | None] = []
        self.audience = RoomAudience(Turn(reactor or self.clock), self._count)

    def _count(self, count: int, first: Publication | None) -> None:
        self.delivered += count
        self.first.append(None if first is None else first.position.offset)

    def member(self, form: Plain, *events: Event) -> tuple[Subscriber, Outlet]:
        outlet = Outlet()
        rates = AddressRates(LIMITS.messages_per_address)
        session = Session(ANYONE, "lobby", address=None, rates=rates, limits=LIMITS, now=0.0)
        member = Subscriber("n", session, outlet, form, frozenset(events))
        self.audience.add(member)
        return member, outlet


def publication(offset: int) -> Publication:
    return Publication(Position("e", offset, offset), offset - 1, b"{}")


def test_a_turns_publications_are_one_write_per_member() -> None:
    fixture, form = Fixture(), Plain()
    outlets = [fixture.member(form)[1] for _ in range(3)]
    for offset in (1, 2, 3):
        fixture.audience.publish(publication(offset))
    assert all(outlet.writes == [] for outlet in outlets)
    fixture.clock.advance(0)
    assert all(outlet.writes == [b"1 2 3 "] for outlet in outlets)
    assert form.encoded == {1: 1, 2: 1, 3: 1}
    assert fixture.delivered == 9
    assert fixture.clock.getDelayedCalls() == []


def test_a_burst_waits_for_one_more_turn_to_be_joined_with_what_follows() -> None:
    turns, form = Turns(), Plain()
    fixture = Fixture(turns)
    _, outlet = fixture.member(form)
    for offset in (1, 2):
        fixture.audience.publish(publication(offset))
    turns.take()
    assert outlet.writes == []
    fixture.audience.publish(publication(3))
    turns.take()
    assert outlet.writes == [b"1 2 3 "], "it waits once, however much follows"
    assert turns.calls == []


def test_a_lone_publication_does_not_wait_whatever_came_before() -> None:
    turns, form = Turns(), Plain()
    fixture = Fixture(turns)
    _, outlet = fixture.member(form)
    for offset in (1, 2):
        fixture.audience.publish(publication(offset))
    turns.take()
    fixture.audience.flush()
    fixture.audience.publish(publication(3))
    turns.take()
    fixture.audience.publish(publication(4))
    turns.take()
    assert outlet.writes == [b"1 2 ", b"3 ", b"4 "]
    assert turns.calls == []


def test_each_format_is_encoded_once_whatever_its_members_asked_for() -> None:
    fixture, socket, stream = Fixture(), Plain("s"), Plain("e")
    fixture.member(socket)
    fixture.member(socket, Event.TYPING)
    fixture.member(stream)
    fixture.audience.publish(publication(1))
    fixture.clock.advance(0)
    assert socket.encoded == {1: 1}
    assert stream.encoded == {1: 1}


def test_who_comes_later_does_not_get_what_waited() -> None:
    fixture, form = Fixture(), Plain()
    _, early = fixture.member(form)
    fixture.audience.publish(publication(1))
    _, late = fixture.member(form)
    fixture.audience.publish(publication(2))
    fixture.clock.advance(0)
    assert b"".join(early.writes) == b"1 2 "
    assert b"".join(late.writes) == b"2 "


def test_who_leaves_has_what_was_said_before() -> None:
    fixture, form = Fixture(), Plain()
    member, outlet = fixture.member(form)
    fixture.audience.publish(publication(1))
    fixture.audience.discard(member)
    fixture.audience.publish(publication(2))
    fixture.clock.advance(0)
    assert outlet.writes == [b"1 "]


def test_leaving_twice_or_without_having_come_is_nothing() -> None:
    fixture, form = Fixture(), Plain()
    member, _ = fixture.member(form)
    fixture.audience.discard(member)
    fixture.audience.discard(member)
    assert list(fixture.audience.clear()) == []


def test_clearing_flushes_and_tells_who_was_there() -> None:
    fixture, form = Fixture(), Plain()
    member, outlet = fixture.member(form)
    fixture.audience.publish(publication(1))
    assert list(fixture.audience.clear()) == [member]
    assert outlet.writes == [b"1 "]


def test_events_go_to_those_that_asked_in_order_with_messages() -> None:
    fixture, form = Fixture(), Plain()
    _, plain = fixture.member(form)
    _, curious = fixture.member(form, Event.PRESENCE)
    fixture.audience.publish(publication(1))
    fixture.audience.tell(Event.PRESENCE, b"ann")
    fixture.audience.tell(Event.TYPING, b"bob")
    fixture.audience.publish(publication(2))
    fixture.clock.advance(0)
    assert plain.writes == [b"1 2 "]
    assert curious.writes == [b"1 <ann>2 "]


def test_a_member_that_leaves_during_the_flush_disturbs_nobody() -> None:
    fixture, form = Fixture(), Plain()
    first, outlet = fixture.member(form)
    _, second = fixture.member(form)
    outlet.on_write = lambda: fixture.audience.discard(first)
    fixture.audience.publish(publication(1))
    fixture.clock.advance(0)
    fixture.audience.publish(publication(2))
    fixture.clock.advance(0)
    assert outlet.writes == [b"1 "]
    assert b"".join(second.writes) == b"1 2 "


def test_what_waited_longest_is_told_once_for_all_formats() -> None:
    fixture = Fixture()
    fixture.member(Plain("a"))
    fixture.member(Plain("b"), Event.TYPING)
    for offset in (1, 2):
        fixture.audience.publish(publication(offset))
    fixture.clock.advance(0)
    fixture.audience.tell(Event.TYPING, b"ann")
    fixture.clock.advance(0)
    fixture.audience.publish(publication(3))
    fixture.clock.advance(0)
    assert fixture.first == [1, None, 3]
    assert fixture.delivered == 2 * 2 + 1 + 2


def test_rooms_of_one_turn_share_one_delayed_call() -> None:
    clock = Clock()
    turn = Turn(clock)
    audiences = [RoomAudience(turn, lambda *_: None) for _ in range(3)]
    for audience in audiences:
        audience.publish(publication(1))
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    audiences[0].publish(publication(2))
    assert len(clock.getDelayedCalls()) == 1, "a flush that is over leaves the next one to be asked for"
    clock.advance(0)


def test_a_large_room_is_written_to_in_slices_and_others_are_heard_in_between() -> None:
    turns, form = Turns(), Plain()
    fixture = Fixture(turns)
    outlets = [fixture.member(form)[1] for _ in range(2 * SLICE + 1)]

    def written() -> int:
        return sum(bool(outlet.writes) for outlet in outlets)

    fixture.audience.publish(publication(1))
    turns.take()
    assert written() == SLICE
    fixture.audience.publish(publication(2))
    turns.take()
    assert written() == 2 * SLICE
    while turns.calls:
        turns.take()
    assert all(outlet.writes == [b"1 ", b"2 "] for outlet in outlets)
    assert fixture.delivered == 2 * len(outlets)


def test_who_comes_or_goes_amid_the_slices_of_a_room_gets_what_is_theirs() -> None:
    turns, form = Turns(), Plain()
    fixture = Fixture(turns)
    members = [fixture.member(form) for _ in range(SLICE + 1)]
    fixture.audience.publish(publication(1))
    turns.take()
    fixture.audience.publish(publication(2))
    last, outlet = members[-1]
    fixture.audience.discard(last)
    assert b"".join(outlet.writes) == b"1 2 "
    _, late = fixture.member(form)
    fixture.audience.publish(publication(3))
    while turns.calls:
        turns.take()
    assert b"".join(late.writes) == b"3 "
    assert all(b"".join(outlet.writes) == b"1 2 3 " for _, outlet in members[:-1])


def test_many_publications_of_one_turn_do_not_pile_up() -> None:
    fixture, form = Fixture(), Plain()
    _, outlet = fixture.member(form)
    for offset in range(1, MOST_QUEUED + 2):
        fixture.audience.publish(publication(offset))
    assert len(b"".join(outlet.writes).split()) == MOST_QUEUED
    fixture.clock.advance(0)
    assert len(b"".join(outlet.writes).split()) == MOST_QUEUED + 1


def test_much_is_written_in_pieces_of_whole_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "PIECE_BYTES", 6)
    fixture = Fixture()
    _, outlet = fixture.member(Plain())
    _, other = fixture.member(Plain("longer:"))
    for offset in range(1, 6):
        fixture.audience.publish(publication(offset))
    fixture.audience.flush()
    assert outlet.writes == [b"1 2 3 ", b"4 5 "]
    assert other.writes == [b"longer:%d " % offset for offset in range(1, 6)]
    assert fixture.delivered == 10
