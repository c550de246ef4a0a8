"""How a room follows its history, rule by rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.conftest import Member, World
from tests.core.histories import at, complete, lost, more, nothing_after, publication, publications
from twisted_chat.core import room as module
from twisted_chat.core.publication import History, Newest, Position, Proof, Publication, Question, Since
from twisted_chat.core.room import PAGE, Room

# The room and its history


def test_a_new_room_asks_only_where_it_stands(unknown: World) -> None:
    assert unknown.room.position is None
    unknown.room.sync()
    assert unknown.archive.questions == [Newest(0)]
    unknown.archive.answer(nothing_after(at(10)))
    assert unknown.room.position == at(10)
    assert unknown.archive.questions == []


def test_a_room_without_history_starts_before_the_first(unknown: World) -> None:
    unknown.stand_at(at(0))
    member = unknown.live_member()
    unknown.deliver(1)
    assert member.heard == [1]


EMPTY = Position("S", 0, 5)
"""Of a room that was empty at 5."""


def began(tag: int, since: int) -> Publication:
    return Publication(Position("E", 1, tag), since, b"{}")


def test_an_empty_room_takes_the_first_of_a_history(unknown: World) -> None:
    unknown.stand_at(EMPTY)
    member = unknown.live_member()
    unknown.room.deliver(began(8, since=5))
    assert member.heard == [1]
    assert unknown.archive.questions == []


@pytest.mark.parametrize("first", [began(8, since=6), began(4, since=2)], ids=["something may be missing", "older"])
def test_an_empty_room_asks_whether_the_first_is_all(unknown: World, first: Publication) -> None:
    unknown.stand_at(EMPTY)
    member = unknown.live_member()
    unknown.room.deliver(first)
    assert member.heard == []
    assert unknown.archive.questions == [Since(EMPTY, PAGE)]


def test_an_empty_room_that_is_still_empty_stands_at_the_newer_position(unknown: World) -> None:
    unknown.stand_at(EMPTY)
    member = unknown.live_member()
    later = Position("S", 0, 9)
    unknown.room.check(later)
    unknown.archive.answer(nothing_after(later))
    assert unknown.room.position == later
    unknown.room.deliver(began(12, since=7))
    assert member.heard == [1]


def test_the_first_that_comes_while_an_empty_room_asks_needs_no_other_question(unknown: World) -> None:
    unknown.room.sync()
    member = unknown.new_member()
    unknown.room.join(member)
    unknown.room.deliver(began(8, since=5))
    unknown.archive.answer(nothing_after(EMPTY))
    unknown.archive.answer(nothing_after(EMPTY))
    assert member.heard == [1, ("live", Position("E", 1, 8))]
    assert unknown.archive.questions == []


def test_whoever_joins_an_empty_room_misses_nothing_that_begins_meanwhile(unknown: World) -> None:
    unknown.stand_at(EMPTY)
    member = unknown.new_member()
    unknown.room.join(member, newest=1)
    two = (began(8, since=5), Publication(Position("E", 2, 9), 8, b"{}"))
    unknown.archive.answer(History(two[1].position, Proof.MORE, two[1:]))
    for each in two:
        unknown.room.deliver(each)
    assert member.heard == [("live", EMPTY), 1, 2]
    assert unknown.archive.questions == []


def test_what_comes_while_the_room_asks_follows_the_answer(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.deliver(13)
    assert member.heard == []
    world.archive.answer(complete(11, 12))
    assert member.heard == [11, 12, 13]
    assert world.archive.questions == []


def test_what_came_before_the_question_is_in_the_answer(world: World) -> None:
    member = world.live_member()
    world.room.interrupted()
    world.deliver(11)  # stored, delivered, and then lost: the history that answers has never seen it
    world.room.sync()
    world.archive.answer(nothing_after(at(10)))
    assert member.heard == []
    assert world.room.position == at(10)


def test_what_continues_is_given_to_all_live_members(world: World) -> None:
    members = [world.live_member(), world.live_member()]
    world.deliver(11, 12)
    assert [member.heard for member in members] == [[11, 12], [11, 12]]
    assert world.room.position == at(12)
    assert world.archive.questions == []


def test_what_is_known_is_dropped(world: World) -> None:
    member = world.live_member()
    world.deliver(11, 12)
    for offset in (12, 11, 3):
        world.deliver(offset)
    assert member.heard == [11, 12]
    assert world.archive.questions == []


@pytest.mark.parametrize(
    "unexpected",
    [
        pytest.param(publication(12), id="one is missing"),
        pytest.param(publication(10, rewritten=1), id="ours was rewritten"),
        pytest.param(publication(11, rewritten=1), id="the one before it is not ours"),
        pytest.param(publication(11, epoch="F"), id="another epoch"),
        pytest.param(publication(3, epoch="F"), id="another epoch, lower"),
    ],
)
def test_anything_else_makes_the_room_ask(world: World, unexpected: Publication) -> None:
    member = world.live_member()
    world.room.deliver(unexpected)
    assert member.heard == []
    assert world.archive.questions == [Since(at(10), PAGE)]


def test_a_gap_is_filled_in_order(world: World) -> None:
    member = world.live_member()
    world.deliver(13)
    world.deliver(14, 15)
    world.archive.answer(complete(11, 14))
    assert member.heard == [11, 12, 13, 14, 15]
    assert world.room.position == at(15)
    assert world.archive.questions == []


def test_a_gap_among_what_waited_is_asked_for(world: World) -> None:
    member = world.live_member()
    world.deliver(12)
    world.deliver(13)
    world.deliver(15, 16)
    world.archive.answer(complete(11, 12))
    assert member.heard == [11, 12, 13]
    assert world.archive.questions == [Since(at(13), PAGE)]
    world.archive.answer(complete(14, 16))
    assert member.heard == [11, 12, 13, 14, 15, 16]


def test_the_room_asks_for_page_after_page(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.archive.answer(more(11, 12, top=15))
    assert world.archive.questions == [Since(at(12), PAGE)]
    world.archive.answer(more(13, 14, top=15))
    world.deliver(16)
    assert world.archive.questions == [Since(at(14), PAGE)]
    world.archive.answer(complete(15, 15))
    assert member.heard == [11, 12, 13, 14, 15, 16]


def test_a_question_without_answer_is_repeated_later(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.archive.answer(None)
    assert world.archive.questions == []
    world.deliver(11)
    assert member.heard == []
    world.archive.try_again()
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.archive.answer(complete(11, 11))
    assert member.heard == [11]


def test_a_retry_that_another_question_has_overtaken_asks_nothing(world: World) -> None:
    world.room.sync()
    world.archive.answer(None)
    world.room.sync()
    world.archive.try_again()
    assert world.archive.questions == [Since(at(10), PAGE)]


def test_only_the_answer_to_the_latest_question_counts(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.room.sync()
    world.archive.answer(complete(11, 12), index=1)
    world.archive.answer(complete(11, 11))
    assert member.heard == [11, 12]
    assert world.room.position == at(12)


def test_an_interruption_voids_the_answer_under_way_and_what_waited(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.deliver(12)
    world.room.interrupted()
    world.archive.answer(complete(11, 11))
    assert member.heard == []
    world.deliver(15)  # subscribed again, not yet asked: this is in the answer
    world.room.sync()
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.archive.answer(complete(11, 15))
    assert member.heard == [11, 12, 13, 14, 15]


def test_an_interruption_voids_a_retry(world: World) -> None:
    world.room.sync()
    world.archive.answer(None)
    world.room.interrupted()
    world.archive.try_again()
    assert world.archive.questions == []


def test_an_interrupted_room_delivers_nothing(world: World) -> None:
    member = world.live_member()
    world.room.interrupted()
    world.deliver(11)
    assert member.heard == []


@pytest.mark.usefixtures("two_wait")
def test_when_too_many_wait_for_the_room_it_asks_again(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.deliver(11, 13)
    world.archive.answer(nothing_after(at(10)))
    assert member.heard == []
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.deliver(14, 15)
    world.archive.answer(complete(11, 13))
    assert member.heard == [11, 12, 13, 14, 15]
    assert world.archive.questions == []


@pytest.mark.usefixtures("two_wait")
def test_what_came_before_the_question_takes_no_place(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.deliver(11, 12)
    world.archive.answer(None)
    world.archive.try_again()
    world.deliver(13, 14)
    world.archive.answer(complete(11, 12))
    assert member.heard == [11, 12, 13, 14]
    assert world.archive.questions == []


# A jump: the room cannot continue


def test_when_the_history_is_lost_every_live_member_proves_its_own_position(world: World) -> None:
    members = [world.live_member(), world.live_member()]
    world.room.sync()
    world.archive.answer(lost(at(3, "F")))
    assert world.room.position == at(3, "F")
    assert world.audience.members == []
    assert world.archive.questions == [Since(at(10), PAGE)] * 2
    world.archive.answer(lost(at(3, "F")))
    world.archive.answer(lost(at(3, "F")))
    for member in members:
        assert member.heard == [("reset", at(3, "F")), ("live", at(3, "F"))]
    world.room.deliver(publication(4, "F"))
    assert [member.heard[-1] for member in members] == [4, 4]


def test_a_history_that_was_cut_short_is_a_jump_back(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.archive.answer(lost(at(8)))
    world.archive.answer(lost(at(8)))
    world.room.deliver(Publication(at(9, rewritten=1), at(8).tag, b"{}"))
    assert member.heard == [("reset", at(8)), ("live", at(8)), 9]


def test_a_jump_asks_again_for_members_that_were_asking(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.room.sync()
    world.archive.answer(lost(at(3, "F")), index=1)
    assert world.archive.questions == [Since(at(7), PAGE)] * 2
    world.archive.answer(complete(8, 10))  # of the history that is gone
    assert member.heard == []
    world.archive.answer(lost(at(3, "F")))
    assert member.heard == [("reset", at(3, "F")), ("live", at(3, "F"))]


def test_a_jump_leaves_a_slow_client_alone_until_it_resumes(world: World) -> None:
    member = world.new_member(can_take=False)
    world.room.join(member, since=at(7))
    world.archive.answer(more(8, 8, top=10))
    world.room.sync()
    world.archive.answer(lost(at(3, "F")))
    assert world.archive.questions == []
    world.room.resume(member)
    assert world.archive.questions == [Since(at(8), PAGE)]
    world.archive.answer(lost(at(3, "F")))
    assert member.heard == [8, ("reset", at(3, "F")), ("live", at(3, "F"))]


def test_what_waited_follows_a_jump(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.room.deliver(publication(4, "F"))
    world.archive.answer(lost(at(3, "F")))
    assert world.room.position == at(4, "F")
    world.archive.answer(lost(at(4, "F")))
    assert member.heard == [("reset", at(4, "F")), ("live", at(4, "F"))]


def test_one_that_leaves_after_a_jump_is_told_nothing(world: World) -> None:
    member = world.live_member()
    world.room.sync()
    world.archive.answer(lost(at(3, "F")))
    world.room.leave(member)
    world.archive.answer(lost(at(3, "F")))
    world.room.deliver(publication(4, "F"))
    assert member.heard == []


# Check: did the last publications get lost?


def test_a_check_of_the_same_position_asks_nothing(world: World) -> None:
    world.room.check(at(10))
    assert world.archive.questions == []


@pytest.mark.parametrize("top", [at(11), at(8), at(10, rewritten=1), at(10, "F")])
def test_a_check_of_another_position_asks(world: World, top: Position) -> None:
    world.room.check(top)
    assert world.archive.questions == [Since(at(10), PAGE)]


def test_a_check_finds_a_lost_last_publication(world: World) -> None:
    member = world.live_member()
    world.room.check(at(11))
    world.archive.answer(complete(11, 11))
    assert member.heard == [11]


def test_a_room_that_asks_needs_no_check(world: World) -> None:
    world.room.sync()
    world.room.check(at(11))
    assert len(world.archive.questions) == 1


def test_a_check_makes_a_member_that_is_elsewhere_prove_its_position(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(9))
    world.archive.answer(complete(10, 11))
    assert world.archive.questions == []  # ahead of the room: it waits
    world.room.check(at(10))  # but 11 is gone from the history
    assert world.archive.questions == [Since(at(11), PAGE)]
    world.archive.answer(lost(at(10)))
    assert member.heard == [10, 11, ("reset", at(10)), ("live", at(10))]


# A history that answers at once, as one in memory does


class Shelf:
    """A history of `size` publications that answers before `ask` returns."""

    def __init__(self, size: int) -> None:
        self.entries = publications(1, size)
        self.broken = False
        self.deepest = 0
        self._depth = 0

    def ask(self, question: Question, answered: Callable[[History | None], None]) -> None:
        if self.broken:
            raise OSError("out of order")
        self._depth += 1
        self.deepest = max(self.deepest, self._depth)
        answered(self._answer(question))
        self._depth -= 1

    def retry(self, again: Callable[[], None]) -> None:
        raise AssertionError("it always answers")

    def _answer(self, question: Question) -> History:
        top = at(len(self.entries))
        if not isinstance(question, Since):
            return History(top, Proof.COMPLETE)
        since = question.position.offset
        page = self.entries[since : since + question.limit]
        return History(top, Proof.MORE if since + len(page) < len(self.entries) else Proof.COMPLETE, page)


@pytest.fixture
def one_to_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 1)


@pytest.mark.usefixtures("one_to_a_page")
def test_page_after_page_does_not_nest(unknown: World) -> None:
    shelf = Shelf(0)
    room: Room[Member] = Room(shelf, unknown.audience)
    live, late = unknown.new_member(), unknown.new_member()
    room.sync()
    room.join(live)
    shelf.entries = publications(1, 10_000)
    room.check(at(10_000))
    room.join(late, since=at(0))
    everything = list(range(1, 10_001))
    assert live.heard == [("live", at(0)), *everything]
    assert late.heard == [*everything, ("live", at(10_000))]
    assert shelf.deepest == 1


@pytest.mark.usefixtures("one_to_a_page")
def test_questions_asked_while_another_is_answered_wait_for_it(unknown: World) -> None:
    shelf = Shelf(3)
    room: Room[Member] = Room(shelf, unknown.audience)
    first, second = unknown.new_member(), unknown.new_member()
    first.when_told = lambda: room.join(second, since=at(1)) if first.heard == [1] else None
    room.join(first, since=at(0))
    room.sync()
    assert first.heard == [1, 2, 3, ("live", at(3))]
    assert second.heard == [2, 3, ("live", at(3))]
    assert shelf.deepest == 1


def test_an_archive_that_fails_does_not_silence_the_room(unknown: World) -> None:
    shelf = Shelf(3)
    room: Room[Member] = Room(shelf, unknown.audience)
    shelf.broken = True
    with pytest.raises(OSError, match="out of order"):
        room.sync()
    shelf.broken = False
    room.sync()
    assert room.position == at(3)
