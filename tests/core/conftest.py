"""A room whose history answers when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from twisted_chat.core import room as module
from twisted_chat.core.publication import History, Position, Proof, Publication, Question
from twisted_chat.core.room import Room


class Archive:
    """A history that keeps the questions until the test answers them, in any order."""

    def __init__(self) -> None:
        self.open: list[tuple[Question, Callable[[History | None], None]]] = []
        self.retries: list[Callable[[], None]] = []

    def ask(self, question: Question, answered: Callable[[History | None], None]) -> None:
        self.open.append((question, answered))

    def retry(self, again: Callable[[], None]) -> None:
        self.retries.append(again)

    @property
    def questions(self) -> list[Question]:
        return [question for question, _ in self.open]

    def answer(self, history: History | None, index: int = 0) -> None:
        self.open.pop(index)[1](history)

    def try_again(self) -> None:
        self.retries.pop(0)()


@dataclass(eq=False)
class Member:
    """Notes what it is told: offsets of publications, ``reset`` and ``live`` with their position."""

    heard: list[int | tuple[str, Position]] = field(default_factory=list)
    can_take: bool = True
    when_told: Callable[[], None] = lambda: None

    def receive(self, publications: Sequence[Publication]) -> None:
        self.heard += [publication.position.offset for publication in publications]
        self.when_told()

    def reset(self, position: Position) -> None:
        self.heard.append(("reset", position))
        self.when_told()

    def live(self, position: Position) -> None:
        self.heard.append(("live", position))
        self.when_told()

    def writable(self) -> bool:
        return self.can_take


class Audience:
    """The live members, told one after the other."""

    def __init__(self) -> None:
        self.members: list[Member] = []

    def add(self, member: Member) -> None:
        assert member not in self.members
        self.members.append(member)

    def discard(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)

    def publish(self, publication: Publication) -> None:
        for member in list(self.members):
            if member in self.members:
                member.receive((publication,))

    def clear(self) -> Iterable[Member]:
        members, self.members = self.members, []
        return members


class World:
    """A room, its history and its live members."""

    def __init__(self) -> None:
        self.archive = Archive()
        self.audience = Audience()
        self.room: Room[Member] = Room(self.archive, self.audience)

    def deliver(self, first: int, last: int | None = None) -> None:
        """Publications of epoch E, whose tags are their offsets, come from the relay."""
        for offset in range(first, (last or first) + 1):
            self.room.deliver(Publication(Position("E", offset, offset), offset - 1, b"{}"))

    def stand_at(self, position: Position) -> None:
        self.room.sync()
        self.archive.answer(History(position, Proof.COMPLETE))

    def new_member(self, *, can_take: bool = True) -> Member:
        return Member(can_take=can_take)

    def live_member(self) -> Member:
        member = Member()
        self.room.join(member)
        assert member in self.audience.members
        member.heard.clear()
        return member


@pytest.fixture
def unknown() -> World:
    """A room that has not asked yet where it stands."""
    return World()


@pytest.fixture
def world() -> World:
    """A room that stands at 10 of epoch E."""
    world = World()
    world.stand_at(Position("E", 10, 10))
    return world


@pytest.fixture
def two_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only two publications may wait for an answer."""
    monkeypatch.setattr(module, "WAITING", 2)
