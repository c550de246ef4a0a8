"""The database of the SQLite relay, at times of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.relay.conftest import taken
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Position, Proof, Published, Since
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits
from twisted_chat.relay.sqlite import database, sweep
from twisted_chat.relay.sqlite.database import MAX_BYTES, ChatDatabase, Draft

HOUR = 3_600.0
DAY = 24 * HOUR


class Chat:
    """A database and the time; it can be closed and opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_763_796_000.0
        self.occupied: set[str] = set()
        self.open(HistoryLimits(count=100, age=HOUR))

    def open(self, history: HistoryLimits, max_bytes: int = MAX_BYTES) -> None:
        self.database = ChatDatabase(self.path, history, max_bytes, self.occupied)

    def reopen(self, history: HistoryLimits = HistoryLimits(count=100, age=HOUR), max_bytes: int = MAX_BYTES) -> None:  # noqa: B008
        self.database.close()
        self.open(history, max_bytes)

    def store(self, *drafts: Draft) -> list[Published]:
        return taken(self.database.store(drafts, self.now))

    def say(self, room: str, *data: bytes) -> list[Position]:
        return [one.publication.position for one in self.store(*(Draft(room, one) for one in data))]

    def newest(self, room: str) -> list[bytes]:
        history = self.database.history(room, Newest(10_000), self.now)
        return [publication.data for publication in history.publications]

    def top(self, room: str) -> Position:
        return self.database.history(room, Newest(0), self.now).top

    def since(self, room: str, position: Position) -> Proof:
        return self.database.history(room, Since(position, 10_000), self.now).proof

    def sweep(self) -> int:
        """How many steps it took."""
        steps = 1
        while self.database.sweep(self.now):
            steps += 1
        return steps

    def rows(self, table: str) -> int:
        """What is in the file, which is closed for that."""
        self.database.close()
        with closing(sqlite3.connect(self.path)) as connection:
            (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        self.open(HistoryLimits(count=100, age=HOUR))
        return int(rows)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    chat = Chat(tmp_path / "chat.db")
    yield chat
    chat.database.close()


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(ChatError) as refused:
        call()
    assert refused.value.message.endswith("try again later")
    assert isinstance(refused.value.__cause__, sqlite3.Error)
    return refused.value.reason


# Batches


def test_a_batch_has_the_order_of_its_drafts_in_each_room(chat: Chat) -> None:
    published = chat.store(*(Draft(room, room.encode() * number) for number in range(1, 100) for room in "abc"))
    assert [one.publication.position.offset for one in published] == [n for n in range(1, 100) for _ in "abc"]
    assert chat.newest("b") == [b"b" * number for number in range(1, 100)]


def test_a_batch_of_one_moment_has_tags_that_grow(chat: Chat) -> None:
    tags = [position.tag for position in chat.say("r", *[b"{}"] * 5)]
    assert tags == [1_763_796_000_000_000 + number for number in range(5)]


def test_keys_of_one_batch_are_stored_once(chat: Chat) -> None:
    published = chat.store(
        Draft("r", b"one", "key"), Draft("r", b"one", "key"), Draft("s", b"one", "key"), Draft("r", b"one", "key")
    )
    assert [one.duplicate for one in published] == [False, True, False, True]
    assert published[0].publication == published[1].publication == published[3].publication
    assert chat.newest("r") == [b"one"]


def test_a_batch_of_duplicates_writes_nothing(chat: Chat) -> None:
    [first] = chat.store(Draft("r", b"one", "key"))
    assert chat.store(*[Draft("r", b"one", "key")] * 3) == [Published(first.publication, duplicate=True)] * 3
    assert chat.store() == []


def test_a_batch_that_fails_changes_nothing(chat: Chat) -> None:
    chat.reopen(max_bytes=1 << 20)
    before = chat.say("r", b"one")[0]
    full = [Draft("r", b"two", "key"), Draft("new", b"two"), Draft("r", bytes(1 << 20))]
    assert refusal(lambda: chat.store(*full)) is Reason.STORAGE_FULL
    assert chat.top("r") == before
    assert chat.newest("r") == [b"one"]
    assert chat.newest("new") == []
    [again] = chat.store(Draft("r", b"two", "key"))
    assert (again.duplicate, again.publication.position.offset, again.publication.previous) == (False, 2, before.tag)
    chat.reopen()
    assert chat.newest("r") == [b"one", b"two"]
    assert chat.top("new").offset == 0


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_batch_longer_than_the_history(chat: Chat, count: int) -> None:
    chat.reopen(HistoryLimits(count=count, age=HOUR))
    chat.say("r", *[b"%d" % number for number in range(200)])
    assert chat.newest("r") == [b"%d" % number for number in range(200 - count, 200)]
    chat.sweep()
    assert chat.rows("publications") == count


# The clock


def test_tags_grow_when_the_clock_is_set_back_also_over_a_restart(chat: Chat) -> None:
    [first] = chat.say("r", b"one")
    chat.now -= 1_000.0
    [second] = chat.say("r", b"two")
    chat.reopen()
    [third] = chat.say("r", b"three")
    assert [second.tag, third.tag] == [first.tag + 1, first.tag + 2]
    chat.now += 2_000.0
    [fourth] = chat.say("r", b"four")
    assert fourth.tag == 1_763_797_000_000_000


def test_age_hides_to_the_microsecond_before_any_sweep(chat: Chat) -> None:
    [position] = chat.say("r", b"one")
    chat.now += HOUR
    assert chat.newest("r") == [b"one"]
    chat.now += 0.001
    assert chat.newest("r") == []
    assert chat.since("r", Position(position.epoch, 0, 0)) is Proof.LOST
    assert chat.since("r", position) is Proof.COMPLETE


def test_keys_are_known_for_their_time_also_over_a_restart(chat: Chat) -> None:
    [first] = chat.store(Draft("r", b"one", "key"))
    chat.now += IDEMPOTENCY_SECONDS - 0.001
    chat.reopen()
    assert chat.store(Draft("r", b"one", "key")) == [Published(first.publication, duplicate=True)]
    chat.now += 0.002
    [second] = chat.store(Draft("r", b"one", "key"))
    assert (second.duplicate, second.publication.position.offset) == (False, 2)
    assert chat.store(Draft("r", b"one", "key")) == [Published(second.publication, duplicate=True)]


# Restarts


def test_positions_go_on_after_a_restart(chat: Chat) -> None:
    positions = chat.say("r", b"one", b"two")
    chat.reopen()
    assert chat.top("r") == positions[1]
    assert chat.since("r", positions[0]) is Proof.COMPLETE
    [third] = chat.store(Draft("r", b"three"))
    assert third.publication.previous == positions[1].tag
    assert chat.newest("r") == [b"one", b"two", b"three"]


def test_a_room_that_was_empty_goes_on_after_a_restart(chat: Chat) -> None:
    before = chat.top("r")
    chat.reopen()
    assert chat.top("r") == before
    chat.say("other", b"{}")
    chat.reopen()
    assert chat.since("r", before) is Proof.COMPLETE
    chat.say("r", b"{}")
    chat.reopen()
    assert chat.since("r", before) is Proof.COMPLETE


def test_rooms_asked_for_but_never_used_take_no_space(chat: Chat) -> None:
    for number in range(100):
        chat.top(f"visited {number}")
    assert chat.rows("rooms") == 0


def test_rooms_that_are_not_at_hand_are_found_again(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "ROOMS_REMEMBERED", 10)
    first, watched = chat.top("first"), chat.top("watched")
    [used] = chat.say("used", b"{}")
    for number in range(12):
        chat.say(f"other {number}", b"{}")
        assert chat.since("watched", watched) is Proof.COMPLETE
    assert chat.since("used", used) is Proof.COMPLETE
    assert chat.since("first", first) is Proof.COMPLETE


def test_closing_leaves_one_file(chat: Chat) -> None:
    chat.say("r", b"one")
    chat.database.close()
    assert [file.name for file in chat.path.parent.iterdir()] == ["chat.db"]
    chat.open(HistoryLimits())


def test_limits_may_change_between_restarts(chat: Chat) -> None:
    positions = chat.say("r", *[b"%d" % number for number in range(100)])
    chat.reopen(HistoryLimits(count=10, age=HOUR))
    assert chat.newest("r") == [b"%d" % number for number in range(90, 100)]
    assert chat.since("r", positions[88]) is Proof.LOST
    assert chat.since("r", positions[89]) is Proof.COMPLETE
    chat.say("r", b"100")
    assert chat.newest("r") == [b"%d" % number for number in range(91, 101)]
    chat.sweep()
    chat.reopen(HistoryLimits(count=1_000, age=HOUR))
    assert chat.newest("r") == [b"%d" % number for number in range(91, 101)]
    chat.say("r", b"101")
    assert chat.newest("r") == [b"%d" % number for number in range(91, 102)]


# Sweeping


def test_a_sweep_deletes_what_is_too_old(chat: Chat) -> None:
    chat.say("r", b"old", b"old")
    chat.store(Draft("s", b"old", "key"))
    chat.now += HOUR / 2
    chat.say("r", b"young")
    chat.now += HOUR / 2 + 1
    chat.sweep()
    assert chat.newest("r") == [b"young"]
    assert (chat.rows("publications"), chat.rows("keys"), chat.rows("rooms")) == (1, 0, 1)


def test_a_sweep_deletes_what_is_beyond_the_count(chat: Chat) -> None:
    chat.say("r", *[b"%d" % number for number in range(100)])
    chat.reopen(HistoryLimits(count=3, age=HOUR))
    chat.sweep()
    assert chat.newest("r") == [b"97", b"98", b"99"]
    assert chat.rows("publications") == 3


def test_writing_deletes_what_is_beyond_the_count(chat: Chat) -> None:
    for number in range(300):
        chat.say("r", b"%d" % number)
    assert chat.rows("publications") <= 100 + database.TRIM_EVERY


def test_a_sweep_goes_in_steps_through_all_rooms(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "ROWS", 10)
    monkeypatch.setattr(sweep, "ROOMS", 5)
    chat.store(*(Draft(f"room {number % 12}", b"{}", f"key {number}") for number in range(360)))
    chat.say("later", b"{}")
    chat.now += HOUR + 1
    chat.say("later", b"{}")
    assert chat.sweep() > 36
    assert chat.newest("later") == [b"{}"]
    assert (chat.rows("publications"), chat.rows("keys"), chat.rows("rooms")) == (1, 0, 1)


def test_a_sweep_deletes_keys_of_rooms_that_live_in_steps(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "ROWS", 10)
    chat.store(*(Draft("r", b"{}", f"key {number}") for number in range(95)))
    chat.now += IDEMPOTENCY_SECONDS + 1
    chat.store(Draft("r", b"{}", "young"))
    assert chat.sweep() == 10
    assert (chat.rows("publications"), chat.rows("keys")) == (96, 1)


def test_a_sweep_comes_past_rooms_that_live(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "ROOMS", 5)
    living = [f"living {number}" for number in range(20)]
    chat.store(*(Draft(room, b"{}") for room in living))
    chat.store(*(Draft(f"over {number}", b"{}") for number in range(12)))
    chat.now += HOUR / 2
    chat.store(*(Draft(room, b"{}") for room in living))
    chat.now += HOUR / 2 + 1
    for _ in range(2):
        steps = 1
        while chat.database.sweep(chat.now):
            steps += 1
            assert steps < 20
        assert chat.rows("rooms") == 20


def test_a_new_room_never_answers_with_keys_of_one_that_is_forgotten(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "TRIM_EVERY", 1)
    monkeypatch.setattr(sweep, "ROWS", 2)
    chat.reopen(HistoryLimits(count=0, age=HOUR))
    for number in range(5):
        chat.store(Draft("r", b"old", f"key {number}"))
    began = chat.now
    chat.now += HOUR + 1
    chat.database.sweep(chat.now)
    assert chat.rows("rooms") == 0
    assert chat.rows("keys") == 3
    # Set back, so that those keys have not expired.
    chat.now = began
    [new] = chat.store(Draft("new", b"new", "key 4"))
    assert (new.duplicate, new.publication.data) == (False, b"new")


def test_a_room_that_is_over_begins_a_new_history(chat: Chat) -> None:
    [position] = chat.say("r", b"one")
    chat.now += HOUR + 1
    assert chat.since("r", position) is Proof.COMPLETE
    chat.sweep()
    assert chat.since("r", position) is Proof.LOST
    [again] = chat.say("r", b"one")
    assert (again.offset, again.epoch == position.epoch) == (1, False)
    chat.reopen()
    assert chat.since("r", again) is Proof.COMPLETE


def test_an_occupied_room_keeps_its_position(chat: Chat) -> None:
    [position] = chat.say("r", b"one")
    chat.now += DAY
    chat.occupied.add("r")
    chat.sweep()
    assert chat.newest("r") == []
    [second] = chat.say("r", b"two")
    assert second == Position(position.epoch, 2, second.tag)
    assert chat.since("r", position) is Proof.COMPLETE


def test_a_room_lives_while_a_key_answers_with_it(chat: Chat) -> None:
    chat.reopen(HistoryLimits(count=100, age=10.0))
    [first] = chat.store(Draft("r", b"one", "key"))
    chat.now += IDEMPOTENCY_SECONDS - 1
    chat.sweep()
    assert chat.store(Draft("r", b"one", "key")) == [Published(first.publication, duplicate=True)]
    assert chat.since("r", first.publication.position) is Proof.COMPLETE
    chat.now += 2
    chat.sweep()
    assert chat.since("r", first.publication.position) is Proof.LOST


def test_without_an_age_nothing_is_ever_over(chat: Chat) -> None:
    chat.reopen(HistoryLimits(count=100, age=0.0))
    [position] = chat.say("r", b"one")
    chat.now += 4_000 * DAY
    chat.sweep()
    assert chat.newest("r") == [b"one"]
    assert chat.since("r", position) is Proof.COMPLETE


# Space


def test_a_full_database_refuses_keeps_what_it_has_and_goes_on_when_something_expires(chat: Chat) -> None:
    chat.reopen(max_bytes=400_000)
    kept: list[str] = []

    def fill() -> None:
        while True:
            chat.say(f"room {len(kept)}", bytes(10_000))
            kept.append(f"room {len(kept)}")

    assert refusal(fill) is Reason.STORAGE_FULL
    assert len(kept) > 25
    assert refusal(lambda: chat.say("more", bytes(10_000))) is Reason.STORAGE_FULL
    assert refusal(lambda: chat.database.probe(chat.now)) is Reason.STORAGE_FULL
    assert all(chat.newest(room) == [bytes(10_000)] for room in kept)
    assert chat.path.stat().st_size <= 400_000
    chat.now += HOUR + 1
    chat.sweep()
    chat.database.probe(chat.now)
    chat.say("more", bytes(10_000))
    assert chat.newest("more") == [bytes(10_000)]


def test_a_full_database_whose_rooms_have_their_count_goes_on(chat: Chat) -> None:
    chat.reopen(HistoryLimits(count=50, age=0.0), max_bytes=1 << 20)
    for number in range(700):
        chat.store(*(Draft(room, b"%d" % number + bytes(2_000)) for room in "abc"))
    assert chat.newest("a")[-1].startswith(b"699\0")
    assert chat.path.stat().st_size <= 1 << 20


def test_pages_are_used_again(chat: Chat) -> None:
    sizes = []
    for _ in range(6):
        for number in range(20):
            chat.store(*(Draft(f"{chat.now} {room}", bytes(1_000), f"{number}") for room in range(20)))
        chat.now += HOUR + 1
        chat.sweep()
        sizes.append(chat.path.stat().st_size)
    assert max(sizes[2:]) <= max(sizes[:2]) * 1.2


def test_a_file_that_is_mostly_free_shrinks_below_its_bound(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PAGES", 20)
    for number in range(10):
        chat.store(*(Draft(f"{number} {room}", bytes(10_000)) for room in range(20)))
    # A bound that it is far above of already.
    chat.reopen(max_bytes=500_000)
    chat.now += HOUR / 2
    chat.say("kept", b"{}")
    chat.now += HOUR / 2 + 1
    assert chat.sweep() > 20
    chat.database.probe(chat.now)
    with pytest.raises(ChatError):
        chat.store(*(Draft("more", bytes(10_000)) for _ in range(60)))
    chat.say("more", b"{}")
    assert chat.newest("kept") == [b"{}"]
    chat.database.close()
    assert chat.path.stat().st_size < 500_000
    chat.open(HistoryLimits())


def test_probing_leaves_nothing(chat: Chat) -> None:
    for _ in range(50):
        chat.database.probe(chat.now)
    assert chat.rows("probe") == 1
    chat.database.close()
    assert chat.path.stat().st_size < 200_000
    chat.open(HistoryLimits())


# Speed


def test_no_statement_reads_a_whole_table(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []
    connect = sqlite3.connect

    def traced(*args: object, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **named)  # type: ignore[call-overload]
        connection.set_trace_callback(executed.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    chat.reopen()
    executed.clear()
    [first, *_] = chat.store(*(Draft(f"r{number % 3}", b"{}", f"{number}") for number in range(400)))
    chat.newest("r1")
    chat.since("r0", first.publication.position)
    chat.database.probe(chat.now)
    chat.sweep()
    chat.now += HOUR + 1
    chat.sweep()
    monkeypatch.undo()
    statements = {statement for statement in executed if statement.split()[0] in {"SELECT", "INSERT", "DELETE", "WITH"}}
    chat.reopen()
    chat.database.close()
    with closing(sqlite3.connect(chat.path)) as connection:
        plans = {
            statement: [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement)]
            for statement in statements
        }
    chat.open(HistoryLimits())
    tables = ("publications", "keys", "rooms")
    scans = {statement for statement, plan in plans.items() if any(f"SCAN {table}" in plan for table in tables)}
    assert len(plans) > 15
    # The first so many by id.
    assert {statement for statement in scans if "ORDER BY id LIMIT" not in statement} == set()


def test_a_batch_deletes_a_little_and_a_sweep_the_rest(chat: Chat) -> None:
    chat.reopen(HistoryLimits(count=10_000, age=HOUR))
    for _ in range(5):
        chat.say("r", *[b"old"] * 1_000)
    chat.reopen(HistoryLimits(count=10, age=HOUR))
    chat.say("r", *[b"new"] * 40)
    assert chat.newest("r") == [b"new"] * 10
    assert chat.rows("publications") == 5_040 - database.TRIM_ROWS
    chat.reopen(HistoryLimits(count=10_000, age=HOUR))
    assert chat.newest("r") == [b"old"] * 4_000 + [b"new"] * 40
    chat.reopen(HistoryLimits(count=10, age=HOUR))
    assert chat.sweep() > 4
    assert chat.rows("publications") == 10
