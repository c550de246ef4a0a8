"""How members of a room catch up with it, rule by rule."""

from __future__ import annotations

import pytest

from tests.core.conftest import Member, World
from tests.core.histories import at, complete, lost, more, nothing_after, publication, publications
from twisted_chat.core import room as module
from twisted_chat.core.publication import History, Newest, Position, Proof, Publication, Since
from twisted_chat.core.room import PAGE

# Members that come


@pytest.mark.parametrize("since", [None, at(10)])
def test_one_that_misses_nothing_is_live_at_once(world: World, since: Position | None) -> None:
    member = world.new_member()
    world.room.join(member, since)
    assert member.heard == [("live", at(10))]
    assert world.archive.questions == []
    world.deliver(11)
    assert member.heard[1:] == [11]


@pytest.mark.parametrize("since", [at(9), at(11), at(10, rewritten=1), at(10, "F"), at(0)])
def test_one_that_stands_elsewhere_asks_from_there(world: World, since: Position) -> None:
    member = world.new_member()
    world.room.join(member, since, newest=5)
    assert world.archive.questions == [Since(since, PAGE)]
    assert member.heard == []


def test_one_that_missed_something_gets_it_and_is_live(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.archive.answer(complete(8, 10))
    assert member.heard == [8, 9, 10, ("live", at(10))]


def test_one_may_ask_for_the_newest(world: World) -> None:
    member = world.new_member()
    world.room.join(member, newest=2)
    assert world.archive.questions == [Newest(2)]
    world.archive.answer(History(at(10), Proof.MORE, publications(9, 10)))  # older ones are of no interest
    assert member.heard == [9, 10, ("live", at(10))]
    assert world.archive.questions == []


def test_one_that_cannot_be_continued_is_told_so(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(3, "D"))
    world.deliver(11)
    world.archive.answer(lost(at(10)))
    assert member.heard == [("reset", at(10)), 11, ("live", at(11))]


def test_what_a_member_had_of_a_lost_history_is_not_given_again(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(9))
    world.archive.answer(more(10, 12, top=14))
    world.deliver(11)  # late: meanwhile the history has lost it
    world.archive.answer(lost(at(10)))
    assert member.heard == [10, 11, 12, ("reset", at(10))]
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.archive.answer(nothing_after(at(10)))
    assert member.heard == [10, 11, 12, ("reset", at(10))]
    assert world.archive.questions == [Since(at(11), PAGE)]  # now the room asks for itself


def test_what_comes_while_a_member_asks_follows_its_answer(world: World) -> None:
    others, member = world.live_member(), world.new_member()
    world.room.join(member, since=at(7))
    world.deliver(11, 12)
    assert others.heard == [11, 12]
    assert member.heard == []
    world.archive.answer(complete(8, 11))
    assert member.heard == [8, 9, 10, 11, 12, ("live", at(12))]
    world.deliver(13)
    assert member.heard[-1] == 13


def test_what_came_before_a_members_question_is_in_its_answer(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.deliver(11)
    world.archive.answer(None)
    world.archive.try_again()
    world.archive.answer(lost(at(10)))  # 11 was lost when the history failed
    assert member.heard == [("reset", at(10))]
    assert world.archive.questions == [Since(at(11), PAGE)]  # the room believes otherwise, and asks


def test_a_member_asks_for_page_after_page(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(5))
    world.archive.answer(more(6, 7, top=10))
    world.deliver(11)
    assert world.archive.questions == [Since(at(7), PAGE)]
    world.archive.answer(more(8, 9, top=11))
    assert world.archive.questions == [Since(at(9), PAGE)]
    world.archive.answer(complete(10, 11))
    assert member.heard == [6, 7, 8, 9, 10, 11, ("live", at(11))]


def test_a_member_asks_again_after_no_answer(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(8))
    world.archive.answer(None)
    assert world.archive.questions == []
    world.deliver(11)
    world.archive.try_again()
    assert world.archive.questions == [Since(at(8), PAGE)]
    world.archive.answer(complete(9, 11))
    assert member.heard == [9, 10, 11, ("live", at(11))]


@pytest.mark.usefixtures("two_wait")
def test_when_too_many_wait_for_a_member_it_asks_again(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(8))
    world.deliver(11, 13)
    world.archive.answer(complete(9, 10))
    assert member.heard == [9, 10]
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.deliver(14, 15)
    world.archive.answer(complete(11, 13))
    assert member.heard == [9, 10, 11, 12, 13, 14, 15, ("live", at(15))]


@pytest.mark.usefixtures("two_wait")
def test_what_came_before_a_members_question_takes_no_place(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(8))
    world.deliver(11, 12)
    world.archive.answer(more(9, 10, top=12))
    world.deliver(13, 14)
    world.archive.answer(complete(11, 12))
    assert member.heard == [9, 10, 11, 12, 13, 14, ("live", at(14))]
    assert world.archive.questions == []


def test_one_that_is_ahead_waits_for_the_room(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(9))
    world.archive.answer(complete(10, 12))
    world.deliver(11)
    assert member.heard == [10, 11, 12]
    world.deliver(12)
    assert member.heard == [10, 11, 12, ("live", at(12))]
    assert world.archive.questions == []


@pytest.mark.parametrize("unexpected", [publication(11, rewritten=1), publication(1, "F")])
def test_one_that_waits_asks_when_the_room_goes_elsewhere(world: World, unexpected: Publication) -> None:
    member = world.new_member()
    world.room.join(member, since=at(9))
    world.archive.answer(complete(10, 11))
    world.room.sync()
    world.room.deliver(unexpected)
    before = Position(unexpected.position.epoch, unexpected.position.offset - 1, unexpected.previous)
    world.archive.answer(lost(before))
    assert world.room.position == unexpected.position
    assert set(world.archive.questions) == {Since(at(11), PAGE)}


@pytest.mark.parametrize("top", [at(9), at(10, rewritten=1), at(12, "F")])
def test_the_room_asks_when_a_member_has_read_another_history(world: World, top: Position) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.archive.answer(lost(top))
    assert member.heard == [("reset", top)]
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.archive.answer(lost(top))
    assert member.heard == [("reset", top), ("live", top)]


# Members that come while the room asks


def test_a_member_asks_for_itself_while_the_room_asks(unknown: World) -> None:
    member = unknown.new_member()
    unknown.room.sync()
    unknown.room.join(member)
    assert unknown.archive.questions == [Newest(0), Newest(0)]
    unknown.archive.answer(nothing_after(at(10)))
    assert unknown.archive.questions == [Newest(0)]  # this answer will do
    unknown.archive.answer(nothing_after(at(10)))
    assert member.heard == [("live", at(10))]


def test_even_one_at_the_rooms_position_asks_while_the_room_asks(world: World) -> None:
    member = world.new_member()
    world.room.sync()
    world.room.join(member, since=at(10))
    assert world.archive.questions == [Since(at(10), PAGE)] * 2
    assert member.heard == []


def test_one_that_knows_before_the_room_is_live_when_the_room_knows(unknown: World) -> None:
    member = unknown.new_member()
    unknown.room.sync()
    unknown.room.join(member, since=at(8))
    unknown.archive.answer(complete(9, 10), index=1)
    assert member.heard == [9, 10]
    unknown.archive.answer(nothing_after(at(10)))
    assert member.heard == [9, 10, ("live", at(10))]
    assert unknown.archive.questions == []  # it stands where the room stands: no second question


def test_one_that_was_ahead_of_a_room_that_asked_meets_it_among_what_waited(unknown: World) -> None:
    member = unknown.new_member()
    unknown.room.sync()
    unknown.room.join(member)
    unknown.archive.answer(nothing_after(at(11)), index=1)
    unknown.deliver(11, 12)
    unknown.archive.answer(nothing_after(at(10)))
    assert member.heard == [("live", at(11)), 12]


@pytest.mark.parametrize("first", [0, 1], ids=["the room's answer first", "the member's answer first"])
def test_what_came_before_the_answers_is_not_hidden_by_them(unknown: World, first: int) -> None:
    member = unknown.new_member()
    unknown.room.sync()
    unknown.room.join(member)
    unknown.deliver(11, 12)
    unknown.archive.answer(nothing_after(at(12)), index=first)
    unknown.archive.answer(nothing_after(at(12)))
    assert [each for each in member.heard if isinstance(each, int)] == [11, 12]
    assert member.heard[-1] in (12, ("live", at(12)))


def test_one_that_is_behind_when_the_room_knows_asks_again(unknown: World) -> None:
    member = unknown.new_member()
    unknown.room.sync()
    unknown.room.join(member)
    unknown.archive.answer(nothing_after(at(9)), index=1)
    unknown.archive.answer(nothing_after(at(10)))
    assert unknown.archive.questions == [Since(at(9), PAGE)]
    unknown.archive.answer(complete(10, 10))
    assert member.heard == [10, ("live", at(10))]


# Clients that read slowly


def test_a_slow_client_is_given_no_more_until_it_resumes(world: World) -> None:
    member = world.new_member(can_take=False)
    world.room.join(member, since=at(5))
    world.deliver(11)
    world.archive.answer(more(6, 7, top=11))
    assert world.archive.questions == []
    world.deliver(12)
    world.room.check(at(12))
    world.room.sync()
    world.archive.answer(nothing_after(at(12)))
    assert member.heard == [6, 7]
    member.can_take = True
    world.room.resume(member)
    assert world.archive.questions == [Since(at(7), PAGE)]
    world.deliver(13)
    world.archive.answer(complete(8, 12))
    assert member.heard == [6, 7, 8, 9, 10, 11, 12, 13, ("live", at(13))]


def test_the_last_page_needs_no_pause(world: World) -> None:
    member = world.new_member(can_take=False)
    world.room.join(member, since=at(9))
    world.archive.answer(complete(10, 10))
    assert member.heard == [10, ("live", at(10))]


@pytest.fixture
def two_in_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are asked after each two publications whether they take more."""
    monkeypatch.setattr(module, "PIECE_BYTES", 4)


def fills_up(member: Member, *, after: int) -> None:
    """Let a member take no more once it has heard so many things since."""
    last = len(member.heard) + after

    def count() -> None:
        member.can_take = len(member.heard) < last

    member.can_take, member.when_told = True, count


@pytest.mark.usefixtures("two_in_a_piece")
@pytest.mark.parametrize("newest", [0, 9])
def test_a_client_is_given_of_an_answer_what_it_takes_and_asks_for_the_rest(world: World, newest: int) -> None:
    member = world.new_member()
    fills_up(member, after=3)
    world.room.join(member, since=None if newest else at(1), newest=newest)
    world.archive.answer(complete(2, 10))
    assert member.heard == [2, 3, 4, 5]
    assert world.archive.questions == []
    world.deliver(11)
    fills_up(member, after=1)
    world.room.resume(member)
    assert world.archive.questions == [Since(at(5), 8)], "it is not read again and again for nothing"
    world.archive.answer(more(6, 10, top=11))
    assert member.heard == [2, 3, 4, 5, 6, 7]
    fills_up(member, after=9)
    world.room.resume(member)
    assert world.archive.questions == [Since(at(7), 4)]
    world.archive.answer(complete(8, 11))
    assert member.heard == [*range(2, 12), ("live", at(11))]
    assert world.archive.questions == []


@pytest.mark.usefixtures("two_in_a_piece")
def test_a_client_that_takes_more_again_is_asked_for_more(world: World) -> None:
    member = world.new_member()
    fills_up(member, after=1)
    world.room.join(member, since=at(1))
    world.archive.answer(more(2, 8, top=10))
    fills_up(member, after=99)
    world.room.resume(member)
    assert world.archive.questions == [Since(at(3), 4)]
    world.archive.answer(more(4, 7, top=10))
    assert world.archive.questions == [Since(at(7), 8)]


def test_one_that_leaves_between_two_pieces_is_given_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 1)
    member = world.new_member()
    member.when_told = lambda: world.room.leave(member)
    world.room.join(member, newest=9)
    world.archive.answer(complete(2, 10))
    assert member.heard == [2]
    assert world.archive.questions == []


def test_what_waited_is_not_given_to_one_that_takes_no_more(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(9))
    world.deliver(11, 12)
    fills_up(member, after=2)
    world.archive.answer(complete(10, 10))
    assert member.heard == [10, 11]
    world.deliver(13)
    fills_up(member, after=9)
    world.room.resume(member)
    world.archive.answer(complete(12, 13))
    assert member.heard == [10, 11, 12, 13, ("live", at(13))]


def test_what_waits_for_an_answer_is_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", 5)
    member = world.new_member()
    world.room.join(member, since=at(9))
    world.deliver(11, 13)
    world.archive.answer(complete(10, 10))
    assert world.archive.questions == [Since(at(10), PAGE)]
    world.archive.answer(complete(11, 13))
    assert member.heard == [10, 11, 12, 13, ("live", at(13))]


def test_resume_means_nothing_to_others(world: World) -> None:
    live, asking, ahead = world.live_member(), world.new_member(), world.new_member()
    world.room.join(ahead, since=at(10, rewritten=1))
    world.archive.answer(nothing_after(at(11)))
    world.room.join(asking, since=at(7))
    for member in (live, asking, ahead, world.new_member()):
        world.room.resume(member)
    assert world.archive.questions == [Since(at(7), PAGE)]


# Members that go


def test_one_that_left_is_given_nothing(world: World) -> None:
    stays, leaves = world.live_member(), world.live_member()
    world.room.leave(leaves)
    world.deliver(11)
    assert (stays.heard, leaves.heard) == ([11], [])


def test_leaving_needs_no_having_been_there(world: World) -> None:
    world.room.leave(world.new_member())


@pytest.mark.parametrize("answer", [complete(8, 10), more(8, 9, top=10), lost(at(10)), None])
def test_an_answer_for_one_that_left_is_ignored(world: World, answer: History | None) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.room.leave(member)
    world.archive.answer(answer)
    assert member.heard == []
    assert (world.archive.questions, world.archive.retries) == ([], [])


def test_a_retry_for_one_that_left_asks_nothing(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.archive.answer(None)
    world.room.leave(member)
    world.archive.try_again()
    assert world.archive.questions == []


def test_an_answer_from_before_a_member_came_back_is_ignored(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(7))
    world.room.leave(member)
    world.room.join(member, since=at(8))
    world.archive.answer(complete(8, 10))
    assert member.heard == []
    world.archive.answer(complete(9, 10))
    assert member.heard == [9, 10, ("live", at(10))]


@pytest.mark.parametrize("answer", [complete(8, 10), more(8, 9, top=10), lost(at(10))])
def test_a_member_may_leave_when_it_is_told_something(world: World, answer: History) -> None:
    member = world.new_member()
    member.when_told = lambda: world.room.leave(member)
    world.room.join(member, since=at(7))
    world.deliver(11)
    world.archive.answer(answer)
    heard = list(member.heard)
    assert heard
    world.deliver(12)
    assert member.heard == heard
    assert world.archive.questions == []


def test_a_member_may_leave_when_it_is_live(world: World) -> None:
    member = world.new_member()
    member.when_told = lambda: world.room.leave(member)
    world.room.join(member)
    world.deliver(11)
    assert member.heard == [("live", at(10))]
    assert world.audience.members == []


def test_a_member_may_leave_among_what_waited_for_it(world: World) -> None:
    member = world.new_member()
    world.room.join(member, since=at(10, "D"))
    world.deliver(11, 12)
    member.when_told = lambda: world.room.leave(member) if 11 in member.heard else None
    world.archive.answer(lost(at(10)))
    assert member.heard == [("reset", at(10)), 11]


def test_a_live_member_may_take_others_with_it(world: World) -> None:
    first, second, waits = world.live_member(), world.live_member(), world.new_member()
    world.room.join(waits, since=at(10, "D"))
    world.archive.answer(lost(at(11)))

    def all_leave() -> None:
        for member in (first, second, waits):
            world.room.leave(member)

    first.when_told = all_leave
    world.deliver(11)
    assert (first.heard, second.heard, waits.heard) == ([11], [], [("reset", at(11))])


def test_a_member_that_waits_may_take_others_with_it(world: World) -> None:
    members = [world.new_member(), world.new_member()]
    world.room.sync()
    for member in members:
        world.room.join(member, since=at(9))
        world.archive.answer(complete(10, 10), index=1)
    members[0].when_told = lambda: world.room.leave(members[1])
    world.archive.answer(complete(11, 11))
    assert [member.heard for member in members] == [[10, 11, ("live", at(11))], [10]]


def test_a_member_may_take_others_with_it_when_the_room_knows(unknown: World) -> None:
    members = [unknown.new_member(), unknown.new_member()]
    unknown.room.sync()
    for member in members:
        unknown.room.join(member)
        unknown.archive.answer(nothing_after(at(10)), index=1)
    members[0].when_told = lambda: unknown.room.leave(members[1])
    unknown.archive.answer(nothing_after(at(10)))
    assert [member.heard for member in members] == [[("live", at(10))], []]
