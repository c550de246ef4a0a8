"""Who has how much of the file, and what happens when it is nearly full."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Position, Proof, Published, Since
from twisted_chat.relay.interface import HistoryLimits, Usage, WhenFull
from twisted_chat.relay.sqlite import database, shares, sweep
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft

MAX_BYTES = 2 << 20
ATTACKER, ANN, BOB = "address:192.0.2.66", "user:ann", "address:192.0.2.2"


class Store:
    """A small database, and who publishes in it."""

    def __init__(self, path: Path, when_full: WhenFull, count: int = 1_000) -> None:
        self.usage = Usage()
        self.occupied: set[str] = set()
        self.now = 1_763_796_000.0
        self._arguments = (path, HistoryLimits(count=count, age=3_600.0), MAX_BYTES, self.occupied, when_full)
        self.open()

    def open(self) -> None:
        self.database = ChatDatabase(*self._arguments, self.usage)
        self.database._connection.execute("PRAGMA synchronous = OFF")  # no test here is about a crash

    def reopen(self) -> None:
        self.database.close()
        self.open()

    def try_to_say(self, room: str, data: bytes, spender: str | None, key: str | None = None) -> Published | Reason:
        self.now += 0.001
        try:
            [stored] = self.database.store([Draft(room, data, key, spender)], self.now)
        except ChatError as error:
            return error.reason
        return stored.reason if isinstance(stored, ChatError) else stored

    def say(self, room: str, data: bytes, spender: str | None, key: str | None = None) -> Position:
        stored = self.try_to_say(room, data, spender, key)
        assert isinstance(stored, Published), stored
        return stored.publication.position

    def newest(self, room: str) -> list[bytes]:
        history = self.database.history(room, Newest(10_000), self.now)
        return [publication.data for publication in history.publications]

    def since(self, room: str, position: Position) -> Proof:
        return self.database.history(room, Since(position, 10_000), self.now).proof

    def attack(self, messages: int = 3_000, size: int = 2_000) -> int:
        """A message in each of many rooms; how many were stored."""
        stored = [self.try_to_say(f"spam {number}", bytes(size), ATTACKER) for number in range(messages)]
        return sum(isinstance(one, Published) for one in stored)

    def books(self) -> dict[int, int]:
        """What each spender has, from the publications themselves."""
        rows = self.database._connection.execute(
            "SELECT spender, length(data) FROM publications JOIN rooms ON rooms.id = room WHERE spender != 0"
        )
        books: Counter[int] = Counter()
        for spender, size in rows:
            books[spender] += size + shares.ROW_BYTES
        return dict(books)


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "chat.db", WhenFull.REFUSE)
    yield store
    store.database.close()


@pytest.fixture
def evicting(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "chat.db", WhenFull.EVICT)
    yield store
    store.database.close()


def test_whoever_fills_the_file_is_refused_and_others_are_not(refusing: Store) -> None:
    before = refusing.say("ann's", b"before", ANN)
    assert 100 < refusing.attack() < 600
    assert refusing.try_to_say("spam", b"x", ATTACKER) is Reason.STORAGE_FULL
    refusing.database.probe(refusing.now)  # it is ready
    for number in range(20):
        refusing.say(f"bob {number}", bytes(2_000), BOB)
        refusing.say("ann's", b"after", ANN)
    assert refusing.since("ann's", before) is Proof.COMPLETE
    assert refusing.usage.bytes <= MAX_BYTES * 6 // 10
    assert refusing.newest("spam 0") == [bytes(2_000)], "what was acknowledged is kept"


def test_a_file_that_many_fill_has_space_for_one_more(refusing: Store) -> None:
    for number in range(4):
        while isinstance(refusing.try_to_say(f"{number} {refusing.now}", bytes(2_000), f"address:{number}"), Published):
            pass
    refusing.database.probe(refusing.now)
    refusing.say("ann's", bytes(2_000), ANN)


def test_a_refused_publication_does_not_take_its_batch_along(refusing: Store) -> None:
    refusing.attack()
    drafts = [Draft("a", b"1", None, ANN), Draft("b", b"2", None, ATTACKER), Draft("a", b"3", "key", BOB)]
    stored = refusing.database.store(drafts, refusing.now)
    assert [isinstance(one, Published) for one in stored] == [True, False, True]
    assert refusing.newest("a") == [b"1", b"3"]
    assert refusing.newest("b") == []


def test_a_key_of_whoever_is_refused_still_answers(refusing: Store) -> None:
    position = refusing.say("mine", b"x", ATTACKER, "key")
    refusing.attack()
    again = refusing.try_to_say("mine", b"x", ATTACKER, "key")
    assert isinstance(again, Published)
    assert (again.duplicate, again.publication.position) == (True, position)


def test_whoever_was_refused_goes_on_when_something_of_it_expires(refusing: Store) -> None:
    refusing.attack()
    refusing.reopen()
    assert refusing.try_to_say("spam", b"x", ATTACKER) is Reason.STORAGE_FULL, "it is known after a restart"
    refusing.now += 3_601.0
    while refusing.database.sweep(refusing.now):
        pass
    refusing.say("spam", b"x", ATTACKER)


def test_the_server_itself_has_no_share(refusing: Store) -> None:
    outcome: Published | Reason = Reason.INTERNAL
    for number in range(2_000):
        outcome = refusing.try_to_say(f"ours {number}", bytes(2_000), None)
        if not isinstance(outcome, Published):
            break
    assert outcome is Reason.STORAGE_FULL
    assert refusing.database._shares.used() > MAX_BYTES * 95 // 100


def test_the_oldest_rooms_of_whoever_has_most_are_evicted_and_no_others(evicting: Store) -> None:
    kept = {f"ann {number}": evicting.say(f"ann {number}", bytes(500), ANN, "key") for number in range(50)}
    first = evicting.say("spam first", bytes(500), ATTACKER, "key")
    assert evicting.attack() == 3_000
    assert evicting.usage.evicted > 1_000
    assert evicting.usage.bytes <= MAX_BYTES
    assert all(evicting.since(room, position) is Proof.COMPLETE for room, position in kept.items())
    assert evicting.since("spam first", first) is Proof.LOST
    assert evicting.newest("spam 0") == []
    assert evicting.newest("spam 2999") == [bytes(2_000)]
    again = evicting.try_to_say("spam first", bytes(500), ATTACKER, "key")
    assert isinstance(again, Published)
    assert not again.duplicate, "its key does not answer with what is in no history"
    evicting.database.probe(evicting.now)
    for number in range(100):
        evicting.say(f"bob {number}", bytes(2_000), BOB)
    assert all(evicting.newest(f"bob {number}") for number in range(100))


def test_neither_rooms_of_several_nor_those_that_somebody_is_in_are_evicted(evicting: Store) -> None:
    shared = evicting.say("shared", b"1", ATTACKER)
    evicting.say("shared", b"2", ANN)
    evicting.occupied.add("occupied")
    occupied = evicting.say("occupied", b"1", ATTACKER)
    evicting.attack()
    assert evicting.since("shared", shared) is Proof.COMPLETE
    assert evicting.since("occupied", occupied) is Proof.COMPLETE


def test_whoever_has_most_cannot_keep_its_rooms_by_being_in_the_oldest(
    evicting: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "EVICTED_ROOMS", 10)
    kept = {f"ann {number}": evicting.say(f"ann {number}", bytes(500), ANN) for number in range(50)}
    evicting.occupied.update(f"spam {number}" for number in range(30))
    assert evicting.attack() == 3_000
    assert all(evicting.since(room, position) is Proof.COMPLETE for room, position in kept.items())
    assert evicting.newest("spam 0") == [bytes(2_000)], "somebody is there"
    assert evicting.newest("spam 30") == []


def test_the_rooms_of_a_spender_are_found_by_an_index(evicting: Store) -> None:
    connection = evicting.database._connection
    plan = connection.execute(f"EXPLAIN QUERY PLAN {shares.ROOMS_OF}", (1,)).fetchall()
    assert ["rooms_of_spender" in step for *_, step in plan] == [True], "and nothing has to be sorted"


def test_an_empty_room_that_was_read_before_an_eviction_says_that_it_may_have_missed_something(evicting: Store) -> None:
    before = evicting.database.history("spam 0", Newest(0), evicting.now).top
    evicting.attack()
    assert evicting.since("spam 0", before) is Proof.LOST
    evicting.reopen()
    assert evicting.since("spam 0", before) is Proof.LOST


@pytest.mark.parametrize("seed", range(4))
def test_the_books_are_right_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(database, "TRIM_EVERY", 3)
    monkeypatch.setattr(database, "ROOMS_REMEMBERED", 5)
    monkeypatch.setattr(sweep, "ROOMS", 4)
    store = Store(tmp_path / "chat.db", WhenFull.EVICT, count=5)
    chance = random.Random(seed)
    for _ in range(60):
        drafts = [
            Draft(f"room {chance.randrange(12)}", bytes(chance.randrange(9_000)), None, chance.choice([None, ANN, BOB]))
            for _ in range(chance.randrange(12))
        ]
        store.database.store(drafts, store.now)
        store.now += chance.choice([1.0, 60.0, 1_900.0])
        if chance.random() < 0.5:
            store.database.sweep(store.now)
        if chance.random() < 0.1:
            store.reopen()
        assert dict(store.database._shares._bytes) == store.books()
    store.database.close()


def test_no_address_is_in_the_file(refusing: Store) -> None:
    refusing.say("r", b"x", ATTACKER)
    path = refusing._arguments[0]
    refusing.database.close()
    assert b"192.0.2.66" not in path.read_bytes()
    refusing.open()
