"""What a node hears of consumers when Redis has lost what it had; all of it together is in ``test_kills.py``."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_chat.consumers.node_room import MOST, NodeRoom
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Newest, Position, Proof, Publication, Question


def said(epoch: str, *offsets: int) -> list[Publication]:
    return [Publication(Position(epoch, offset, 10 * offset), 0, b"%d" % offset) for offset in offsets]


class Stage:
    """The room, and what is around it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.losses = 0
        self.asked: list[Deferred[History]] = []
        self.room = NodeRoom("room", self, self, self._tell, self._lose)  # type: ignore[arg-type]  # parts of them

    def follow(self, room: str, member: object, newest: int) -> None:
        assert (room, member, newest) == ("room", self.room, 0)

    def unfollow(self, room: str) -> None:
        assert room == "room"

    def history(self, room: str, question: Question) -> Deferred[History]:
        assert (room, question) == ("room", Newest(MOST))
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, number: int, publications: list[Publication]) -> None:
        self.asked[number].callback(History(publications[-1].position, Proof.COMPLETE, tuple(publications)))

    def _tell(self, publication: Publication) -> None:
        self.told.append((publication.position.epoch, publication.position.offset))

    def _lose(self) -> None:
        self.losses += 1


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.room.start()
    return stage


def test_it_is_told_what_it_receives(stage: Stage) -> None:
    stage.room.receive(said("a", 1, 2))
    stage.room.receive(said("a", 3))
    assert stage.told == [("a", 1), ("a", 2), ("a", 3)]
    assert (stage.asked, stage.losses) == ([], 0)


def test_what_a_new_history_begins_with_is_told_before_what_follows(stage: Stage) -> None:
    stage.room.receive(said("a", 7))
    stage.room.reset(Position("b", 2, 20))
    assert stage.losses == 1
    stage.room.receive(said("b", 3, 4))
    assert stage.told == [("a", 7)]
    stage.answer(0, said("b", 1, 2, 3, 4, 5))  # of which the last three come, or came, by themselves
    stage.room.receive(said("b", 5))
    assert stage.told == [("a", 7), *(("b", offset) for offset in range(1, 6))]


def test_of_an_old_history_it_is_told_what_it_has_not_heard(stage: Stage) -> None:
    stage.room.receive(said("a", 7))
    stage.room.reset(Position("a", 5000, 50_000))
    stage.answer(0, said("a", *range(4001, 5001)))
    assert stage.told == [("a", 7), *(("a", offset) for offset in range(4001, 5001))]
    stage.room.reset(Position("a", 5000, 50_000))
    stage.answer(1, said("a", *range(4001, 5001)))
    assert len(stage.told) == 1001


def test_the_last_loss_counts(stage: Stage) -> None:
    stage.room.reset(Position("b", 1, 10))
    stage.room.receive(said("b", 2))
    stage.room.reset(Position("c", 1, 10))
    stage.answer(0, said("b", 1))
    assert stage.told == []
    stage.answer(1, said("c", 1))
    assert stage.told == [("c", 1), ("b", 2)]


def test_a_history_that_cannot_be_read_holds_nothing_up(stage: Stage) -> None:
    stage.room.reset(Position("b", 1, 10))
    stage.room.receive(said("b", 2))
    stage.asked[0].errback(ChatError(Reason.TRY_AGAIN, "not now"))
    assert stage.told == [("b", 2)]


def test_what_waits_for_the_history_is_bounded(stage: Stage) -> None:
    stage.room.reset(Position("b", 1, 10))
    stage.room.receive(said("b", *range(2, MOST + 2)))
    assert stage.told == []
    stage.room.receive(said("b", MOST + 2))
    assert len(stage.told) == MOST + 1
    stage.answer(0, said("b", 1))
    assert len(stage.told) == MOST + 1


def test_an_order_that_is_not_understood_does_not_stop_the_others(stage: Stage, logged_failures: Any) -> None:
    stage.room.start()
    told = stage.told.append
    broken = NodeRoom(
        "room",
        stage,  # type: ignore[arg-type]
        stage,  # type: ignore[arg-type]
        lambda publication: told(("", 1 // (publication.position.offset - 1))),
        lambda: None,
    )
    broken.receive(said("a", 1, 2))
    assert stage.told == [("", 1)]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_it_stops_while_it_reads(stage: Stage) -> None:
    stage.room.reset(Position("b", 1, 10))
    stage.room.receive(said("b", 2))
    stage.room.stop()
    stage.answer(0, said("b", 1))
    assert stage.told == []
