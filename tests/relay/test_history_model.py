"""Both relays of one process against a model that keeps everything and looks at it as their documentation says."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.relay.conftest import taken
from twisted_chat.core.publication import (
    Before,
    History,
    Newest,
    Position,
    Proof,
    Publication,
    Published,
    Question,
    Since,
)
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits
from twisted_chat.relay.memory import SWEEP_SECONDS, MemoryRelay
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft

T = TypeVar("T")


ROOMS = st.sampled_from(["a", "b"])
KEYS = st.sampled_from([None, None, "k", "l"])
DRAFTS = st.lists(st.builds(Draft, ROOMS, st.binary(max_size=3), KEYS), min_size=1, max_size=6)
LIMITS = st.builds(
    HistoryLimits, count=st.sampled_from([0, 1, 2, 5, 1_000]), age=st.sampled_from([0.0, 20.0, 400.0, 5_000.0])
)


# The model


STORE = "store"


@dataclass
class ModelRoom:
    """What is known of a room: `beginning` is since when it was empty, and `since` since when nothing is forgotten."""

    beginning: int
    since: int
    publications: list[Publication] = field(default_factory=list)

    @property
    def top(self) -> Position:
        return self.publications[-1].position if self.publications else Position(STORE, 0, self.beginning)


class Model:
    """A room's epoch is a number here: which of its histories it is.

    A room without publications is only there while it is occupied.
    """

    def __init__(self, limits: HistoryLimits) -> None:
        self.limits = limits
        self.rooms: dict[str, ModelRoom] = {}
        self.keys: dict[tuple[str, str], tuple[float, Publication]] = {}
        self.epochs = self.newest = self.forgotten = 0

    def room(self, name: str, *, keep: bool) -> ModelRoom:
        room = self.rooms.get(name) or ModelRoom(self.newest, self.forgotten)
        if keep:
            self.rooms[name] = room
        return room

    def publish(self, draft: Draft, now: float) -> Published:
        if draft.key is not None:
            expires, known = self.keys.get((draft.room, draft.key), (0.0, None))
            if known is not None and now < expires:
                return Published(known, duplicate=True)
        room = self.room(draft.room, keep=True)
        top, previous = room.top, room.top.tag
        if not top.offset:
            self.epochs += 1
            top, previous = Position(str(self.epochs), 0, self.newest), room.since
        position = Position(top.epoch, top.offset + 1, max(round(now * 1e6), top.tag + 1))
        room.publications.append(Publication(position, previous, draft.data))
        self.newest = max(self.newest, position.tag)
        if draft.key is not None:
            self.keys[draft.room, draft.key] = now + IDEMPOTENCY_SECONDS, room.publications[-1]
        return Published(room.publications[-1])

    def visible(self, room: ModelRoom, now: float) -> list[Publication]:
        counted = room.publications[-self.limits.count :] if self.limits.count else []
        if not self.limits.age:
            return counted
        return [one for one in counted if one.position.tag >= round((now - self.limits.age) * 1e6)]

    def answer(self, name: str, question: Question, occupied: set[str], now: float) -> History:
        room = self.room(name, keep=name in occupied or name in self.rooms)
        visible = self.visible(room, now)
        provable = {room.top} | {one.position for one in visible}
        if visible:
            first = visible[0]
            provable.add(Position(first.position.epoch, first.position.offset - 1, first.previous))
        if isinstance(question, Newest):
            newest = visible[max(len(visible) - question.limit, 0) :]
            return History(room.top, Proof.MORE if newest != visible else Proof.COMPLETE, tuple(newest))
        if question.position not in provable and not self.was_empty(room, visible, question.position):
            return History(room.top, Proof.LOST)
        offset = question.position.offset
        if isinstance(question, Since):
            after = [one for one in visible if one.position.offset > offset]
            page = after[: question.limit]
        else:
            after = [one for one in visible if one.position.offset < offset]
            page = after[max(len(after) - question.limit, 0) :]
        return History(room.top, Proof.MORE if page != after else Proof.COMPLETE, tuple(page))

    def was_empty(self, room: ModelRoom, visible: list[Publication], position: Position) -> bool:
        """Whether nothing of the room has ever been forgotten since it was empty at that position."""
        if (position.epoch, position.offset) != (STORE, 0):
            return False
        if not room.publications:
            return position.tag >= room.since
        first = room.publications[0]
        return visible[:1] == [first] and room.since <= position.tag < first.position.tag

    def sweep(self, occupied: set[str], now: float) -> None:
        for name, room in list(self.rooms.items()):
            lives = max(self.limits.age, IDEMPOTENCY_SECONDS)
            over = not room.publications or (self.limits.age and room.top.tag < round((now - lives) * 1e6))
            if over and name not in occupied:
                if room.publications:
                    self.forgotten = max(self.forgotten, room.top.tag)
                del self.rooms[name]

    def leave(self, name: str) -> None:
        if name in self.rooms and not self.rooms[name].publications:
            del self.rooms[name]

    def restart(self) -> None:
        self.rooms = {name: room for name, room in self.rooms.items() if room.publications}


# What is held against it


class Subject(Protocol):
    def publish(self, drafts: Sequence[Draft], now: float) -> list[Published]: ...
    def ask(self, room: str, question: Question, now: float) -> History: ...
    def occupy(self, room: str, occupied: bool) -> bool:
        """Whether it forgets at once that a room was empty."""

    def sweep(self, now: float) -> None: ...
    def restart(self) -> bool: ...
    def close(self) -> None: ...


class InMemory:
    def __init__(self, limits: HistoryLimits) -> None:
        self.clock = Clock()
        self.relay = MemoryRelay(self.clock, limits, wall_clock=self.clock.seconds)
        fired(self.relay.start(Nobody()))

    def publish(self, drafts: Sequence[Draft], now: float) -> list[Published]:
        self.clock.rightNow = now
        return [fired(self.relay.publish(*draft)) for draft in drafts]

    def ask(self, room: str, question: Question, now: float) -> History:
        self.clock.rightNow = now
        return fired(self.relay.history(room, question))

    def occupy(self, room: str, occupied: bool) -> bool:
        (self.relay.subscribe if occupied else self.relay.unsubscribe)(room)
        return not occupied

    def sweep(self, now: float) -> None:
        # Only advancing the clock runs what is due, and between two sweeps something always is.
        self.clock.rightNow = now - SWEEP_SECONDS
        self.clock.advance(SWEEP_SECONDS)

    def restart(self) -> bool:
        return False

    def close(self) -> None:
        fired(self.relay.stop())


class InFile:
    def __init__(self, limits: HistoryLimits) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.limits = limits
        self.occupied: set[str] = set()
        self.open()

    def open(self) -> None:
        self.database = ChatDatabase(self.directory / "chat.db", self.limits, occupied=self.occupied)

    def publish(self, drafts: Sequence[Draft], now: float) -> list[Published]:
        return taken(self.database.store(drafts, now))

    def ask(self, room: str, question: Question, now: float) -> History:
        return self.database.history(room, question, now)

    def occupy(self, room: str, occupied: bool) -> bool:
        (self.occupied.add if occupied else self.occupied.discard)(room)
        return False

    def sweep(self, now: float) -> None:
        while self.database.sweep(now):
            pass

    def restart(self) -> bool:
        self.database.close()
        self.open()
        return True

    def close(self) -> None:
        self.database.close()
        shutil.rmtree(self.directory)


class Nobody:
    """Listens to a relay."""

    def deliver(self, room: str, publication: Publication) -> None: ...
    def signal(self, room: str, data: bytes) -> None: ...
    def joined(self, room: str, handle: str) -> None: ...
    def left(self, room: str, handle: str) -> None: ...
    def interrupted(self, rooms: Collection[str] | None = None) -> None: ...
    def resumed(self, rooms: Collection[str] | None = None) -> None: ...
    def top(self, room: str, position: Position) -> None: ...


def fired(deferred: Deferred[T]) -> T:
    results: list[T] = []
    deferred.addCallback(results.append)
    [result] = results
    return result


# The comparison


class HistoryMachine(RuleBasedStateMachine):
    """Publishes, asks, waits and sweeps; every answer must be that of the model."""

    make: Callable[[HistoryLimits], Subject]

    @initialize(limits=LIMITS)
    def begin(self, limits: HistoryLimits) -> None:
        self.subject = type(self).make(limits)
        self.model = Model(limits)
        self.now = 1_763_796_000.0
        self.occupied: set[str] = set()
        self.epochs: dict[str, str] = {}
        self.seen: list[Position] = []

    def teardown(self) -> None:
        if hasattr(self, "subject"):
            self.subject.close()

    @rule(drafts=DRAFTS)
    def publish(self, drafts: list[Draft]) -> None:
        expected = [self.model.publish(draft, self.now) for draft in drafts]
        published = self.subject.publish(drafts, self.now)
        assert [one.duplicate for one in published] == [one.duplicate for one in expected]
        for one, other in zip(published, expected, strict=True):
            self.compare_publication(one.publication, other.publication)

    @rule(room=ROOMS, limit=st.integers(0, 7))
    def newest(self, room: str, limit: int) -> None:
        self.compare(room, Newest(limit), Newest(limit))

    @precondition(lambda self: self.seen)
    @rule(
        room=ROOMS,
        kind=st.sampled_from([Since, Before]),
        limit=st.integers(0, 7),
        back=st.integers(0, 8),
        offset=st.sampled_from([0, 0, 0, 0, 1, -1]),
        tag=st.sampled_from([0, 0, 0, 0, 1, -1]),
    )
    def from_position(
        self, room: str, kind: type[Since | Before], limit: int, back: int, offset: int, tag: int
    ) -> None:
        one = self.seen[-1 - back % len(self.seen)]
        position = Position(one.epoch, max(one.offset + offset, 0), max(one.tag + tag, 0))
        real = Position(self.epochs[position.epoch], position.offset, position.tag)
        self.compare(room, kind(real, limit), kind(position, limit))

    @rule(seconds=st.sampled_from([1, 19, 20, 21, 99, 299, 300, 301, 399, 401, 4_999, 5_001]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.now += SWEEP_SECONDS
        self.subject.sweep(self.now)
        self.model.sweep(self.occupied, self.now)

    @rule(room=ROOMS, occupied=st.booleans())
    def occupy(self, room: str, occupied: bool) -> None:
        (self.occupied.add if occupied else self.occupied.discard)(room)
        if self.subject.occupy(room, occupied):
            self.model.leave(room)

    @rule()
    def restart(self) -> None:
        if self.subject.restart():
            self.model.restart()

    def compare(self, room: str, real: Question, question: Question) -> None:
        answer = self.subject.ask(room, real, self.now)
        expected = self.model.answer(room, question, self.occupied, self.now)
        assert (answer.proof, len(answer.publications)) == (expected.proof, len(expected.publications))
        self.compare_position(answer.top, expected.top)
        for one, other in zip(answer.publications, expected.publications, strict=True):
            self.compare_publication(one, other)

    def compare_publication(self, one: Publication, other: Publication) -> None:
        assert (one.previous, one.data) == (other.previous, other.data)
        self.compare_position(one.position, other.position)

    def compare_position(self, one: Position, other: Position) -> None:
        assert (one.offset, one.tag) == (other.offset, other.tag)
        if other.epoch not in self.epochs:
            assert one.epoch not in self.epochs.values(), "a new history has the epoch of an old one"
            self.epochs[other.epoch] = one.epoch
        assert one.epoch == self.epochs[other.epoch]
        if other not in self.seen[-20:]:
            self.seen.append(other)


class MemoryMachine(HistoryMachine):
    make = InMemory


class FileMachine(HistoryMachine):
    make = InFile


def check(machine: type[HistoryMachine], examples: int) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))


def test_memory_relay_is_as_the_model() -> None:
    check(MemoryMachine, 80)


def test_database_is_as_the_model() -> None:
    # Fewer: each writes to the disk.
    check(FileMachine, 20)
