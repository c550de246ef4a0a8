"""The SQLite relay: its thread, its queue, its times and its end; the rest is in ``test_contract.py``."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater

from tests.conftest import LoggedFailures
from tests.relay.conftest import Events
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Newest, Position, Proof, Published, Question, Since
from twisted_chat.relay.interface import HistoryLimits, RelayError
from twisted_chat.relay.sqlite import thread
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft
from twisted_chat.relay.sqlite.relay import READY_SECONDS, SWEEP_SECONDS, SqliteRelay
from twisted_chat.relay.sqlite.thread import BATCH, IRelayReactor, QueueLimits

HOUR = 3_600.0


class ThreadedClock(Clock):
    """Time by hand; what threads hand over is called by the real reactor."""

    def __init__(self, reactor: IRelayReactor) -> None:
        super().__init__()
        self.rightNow = 1_763_796_000.0
        self.callFromThread = reactor.callFromThread


class Gate:
    """Holds the database's thread up in `ChatDatabase.store`, and knows the batches that it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[bytes]] = []
        self._open = threading.Event()
        store = ChatDatabase.store

        def gated(database: ChatDatabase, drafts: Sequence[Draft], now: float) -> list[Published | ChatError]:
            self.batches.append([draft.data for draft in drafts])
            assert self._open.wait(60)
            return store(database, drafts, now)

        monkeypatch.setattr(ChatDatabase, "store", gated)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, relay: SqliteRelay) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


@pytest.fixture
def clock(reactor: IRelayReactor) -> ThreadedClock:
    return ThreadedClock(reactor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest_twisted.async_yield_fixture
async def relay(clock: ThreadedClock, reactor: IRelayReactor, path: Path, events: Events) -> AsyncIterator[SqliteRelay]:
    queue = QueueLimits(publications=2_000, publication_bytes=1 << 20, questions=100)
    relay = SqliteRelay(
        cast("IRelayReactor", clock),
        path,
        HistoryLimits(count=5_000, age=HOUR),
        max_bytes=2 << 20,
        queue=queue,
        wall_clock=clock.seconds,
    )
    await relay.start(events)
    relay.subscribe("r")
    # Until the sweep of the start is over, so that the next thing is done at once.
    await relay.ready()
    await deferLater(reactor, 0)
    yield relay
    await relay.stop()
    assert clock.getDelayedCalls() == []
    assert not [thread for thread in threading.enumerate() if "twisted-chat-sqlite" in thread.name]


async def newest(relay: SqliteRelay, room: str = "r") -> list[bytes]:
    history = await relay.history(room, Newest(10_000))
    return [publication.data for publication in history.publications]


async def refusal(deferred: Deferred[Any]) -> ChatError:
    with pytest.raises(ChatError) as refused:
        await deferred
    return refused.value


# Group commit


@pytest_twisted.ensureDeferred
async def test_each_publication_is_delivered_and_then_acknowledged_in_one_turn(
    relay: SqliteRelay, events: Events, reactor: IRelayReactor
) -> None:
    order: list[str] = []
    turns: list[int] = []
    turn = 0

    def note(what: str) -> None:
        order.append(what)
        turns.append(turn)

    def next_turn() -> None:
        nonlocal turn
        turn += 1

    events.on_deliver = lambda _, publication: note(f"deliver {publication.data!r}")
    calls = []
    for data in [b"first", b"a", b"b", b"c"]:
        call = relay.publish("r", data)
        call.addCallback(lambda one: note(f"ack {one.publication.data!r}"))
        calls.append(call)
    await calls[0]
    reactor.callLater(0, next_turn)
    await gatherResults(calls)
    assert order == [f"{what} {data!r}" for data in [b"first", b"a", b"b", b"c"] for what in ("deliver", "ack")]
    assert turns == [0, 0] + [turns[-1]] * 6


@pytest_twisted.ensureDeferred
async def test_what_waits_is_written_together(relay: SqliteRelay, gate: Gate) -> None:
    calls = [relay.publish("r", b"%d" % number) for number in range(BATCH + 100)]
    gate.open()
    stored = [one.publication.position.offset for one in await gatherResults(calls)]
    assert stored == list(range(1, BATCH + 101))
    assert [len(batch) for batch in gate.batches] == [1, BATCH, 99]


@pytest_twisted.ensureDeferred
async def test_questions_are_answered_after_what_was_published_before_them(relay: SqliteRelay, gate: Gate) -> None:
    calls, answers = [], []
    for number in range(2 * BATCH):
        calls.append(relay.publish("r", b"%d" % number))
        if number % 20 == 0:
            answers.append((number, relay.history("r", Newest(10_000))))
    gate.open()
    for number, answer in answers:
        assert len((await answer).publications) > number
    await gatherResults(calls)


@pytest_twisted.ensureDeferred
async def test_publications_made_by_acknowledgements_come_after_all_that_waits(relay: SqliteRelay, gate: Gate) -> None:
    second: list[Deferred[Published]] = []
    relay.publish("r", b"first").addCallback(lambda _: second.append(relay.publish("r", b"last")))
    waiting = [relay.publish("r", b"%d" % number) for number in range(3)]
    gate.open()
    await gatherResults(waiting)
    await second[0]
    assert gate.batches == [[b"first"], [b"0", b"1", b"2", b"last"]]


# Bounds


@pytest_twisted.ensureDeferred
async def test_too_many_publications_are_refused_and_the_others_stored(relay: SqliteRelay, gate: Gate) -> None:
    taken = [relay.publish("r", b"{}") for _ in range(1 + 2_000)]
    error = await refusal(relay.publish("r", b"too many"))
    assert error.reason is Reason.TRY_AGAIN
    assert error.message == "more is published than the server can store; try again in a moment"
    gate.open()
    await gatherResults(taken)
    await relay.publish("r", b"again")
    assert await newest(relay) == [b"{}"] * 2_001 + [b"again"]


@pytest_twisted.ensureDeferred
async def test_too_many_bytes_are_refused_but_never_a_single_publication(relay: SqliteRelay, gate: Gate) -> None:
    taken = [
        relay.publish("r", b"in flight"),
        relay.publish("r", bytes(1_200_000)),
    ]
    assert (await refusal(relay.publish("r", b"{}"))).reason is Reason.TRY_AGAIN
    gate.open()
    await gatherResults(taken)
    await relay.publish("r", b"{}")
    assert [len(data) for data in await newest(relay)] == [9, 1_200_000, 2]


@pytest_twisted.ensureDeferred
async def test_too_many_questions_are_refused(relay: SqliteRelay, gate: Gate) -> None:
    published = relay.publish("r", b"{}")
    taken = [relay.history("r", Newest(1)) for _ in range(100)]
    refused: list[Deferred[Any]] = [relay.history("r", Newest(1)), relay.ready()]
    for deferred in refused:
        error = await refusal(deferred)
        assert error.reason is Reason.TRY_AGAIN
        assert error.message == "more is asked than the server can answer; try again in a moment"
    gate.open()
    await published
    assert [len(history.publications) for history in await gatherResults(taken)] == [1] * 100


@pytest_twisted.ensureDeferred
async def test_long_answers_are_given_out_before_more_are_read(
    relay: SqliteRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread, "ANSWER_BYTES", 1_000)
    for _ in range(10):
        await relay.publish("r", bytes(200))
    read: list[History] = []
    history = ChatDatabase.history

    def counted(database: ChatDatabase, room: str, question: Question, now: float) -> History:
        read.append(history(database, room, question, now))
        return read[-1]

    monkeypatch.setattr(ChatDatabase, "history", counted)
    questions = [Newest(10), Newest(1), Newest(2), Newest(5), Newest(10), Newest(0), Newest(0)]
    held: list[int] = []
    given: list[History] = []

    def take(answer: History) -> None:
        given.append(answer)
        held.append(len(read) - len(given))

    await gatherResults([relay.history("r", question).addCallback(take) for question in questions])
    assert [len(answer.publications) for answer in given] == [10, 1, 2, 5, 10, 0, 0]
    assert held == [0, 2, 1, 0, 0, 1, 0]


# Trouble


@pytest_twisted.ensureDeferred
async def test_what_does_not_fit_is_refused_and_the_server_lives(relay: SqliteRelay, events: Events) -> None:
    kept = await relay.publish("r", bytes(1_500_000))
    errors = [await refusal(call) for call in [relay.publish("r", b"small"), relay.publish("r", bytes(800_000))]]
    assert [error.reason for error in errors] == [Reason.STORAGE_FULL] * 2
    assert events.publications("r") == [kept.publication]
    assert await newest(relay) == [bytes(1_500_000)]
    again = await relay.publish("r", b"again")
    assert again.publication.previous == kept.publication.position.tag
    await relay.ready()


@pytest_twisted.ensureDeferred
async def test_a_full_storage_is_ready_in_part(relay: SqliteRelay) -> None:
    await relay.publish("r", bytes(1_900_000))

    async def fill() -> None:
        for _ in range(100):
            await relay.publish("r", bytes(10_000))

    with pytest.raises(ChatError):
        await fill()
    assert [trouble.code for trouble in await relay.ready()] == ["writing"]
    assert (await relay.history("r", Newest(1))).publications


@pytest_twisted.ensureDeferred
async def test_a_mistake_of_ours_refuses_a_batch_and_is_logged(
    relay: SqliteRelay, events: Events, monkeypatch: pytest.MonkeyPatch, logged_failures: LoggedFailures
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(ChatDatabase, "store", fail)
        patched.setattr(ChatDatabase, "history", fail)
        assert (await refusal(relay.publish("r", b"{}"))).reason is Reason.TRY_AGAIN
        assert (await refusal(relay.history("r", Newest(1)))).reason is Reason.TRY_AGAIN
    assert len(logged_failures.flush(ZeroDivisionError)) == 2
    await relay.publish("r", b"again")
    assert [publication.data for publication in events.publications("r")] == [b"again"]


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs_is_not_ready(relay: SqliteRelay, clock: ThreadedClock, gate: Gate) -> None:
    published = relay.publish("r", b"{}")
    ready = relay.ready()
    clock.advance(READY_SECONDS)
    error = await refusal(ready)
    assert error.reason is Reason.TRY_AGAIN
    assert error.message == "the server's storage has not answered for 5 seconds"
    gate.open()
    await published
    await relay.ready()


@pytest_twisted.ensureDeferred
async def test_a_caller_that_no_longer_waits_harms_nobody(relay: SqliteRelay, gate: Gate, events: Events) -> None:
    calls = [relay.publish("r", b"%d" % number) for number in range(3)]
    asked = relay.history("r", Newest(1))
    unwanted: list[Deferred[Any]] = [calls[1], asked]
    for given_up in unwanted:
        given_up.addErrback(lambda _: None)
        given_up.cancel()
    gate.open()
    await gatherResults(calls)
    assert [publication.data for publication in events.publications("r")] == [b"0", b"1", b"2"]


# Sweeping


async def rows(relay: SqliteRelay, path: Path) -> int:
    await relay.stop()
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM publications").fetchone()
    connection.close()
    return int(count)


@pytest_twisted.ensureDeferred
async def test_the_sweep_comes_by_itself_and_leaves_subscribed_rooms_their_position(
    relay: SqliteRelay, clock: ThreadedClock, path: Path
) -> None:
    kept = (await relay.publish("r", b"{}")).publication.position
    gone = (await relay.publish("idle", b"{}")).publication.position
    clock.advance(HOUR + 1)
    assert (await relay.history("r", Since(kept, 1))).proof is Proof.COMPLETE
    clock.advance(SWEEP_SECONDS)
    # The sweep of that moment comes with the next round, and the second question after it.
    for _ in range(2):
        lost = (await relay.history("idle", Since(gone, 1))).proof
    assert lost is Proof.LOST
    assert (await relay.history("r", Since(kept, 1))).proof is Proof.COMPLETE
    assert await rows(relay, path) == 0


@pytest_twisted.ensureDeferred
async def test_a_start_sweeps(relay: SqliteRelay, clock: ThreadedClock, path: Path, events: Events) -> None:
    await relay.publish("r", b"{}")
    await relay.stop()
    clock.advance(2 * HOUR)
    history = HistoryLimits(count=5_000, age=HOUR)
    again = SqliteRelay(cast("IRelayReactor", clock), path, history, wall_clock=clock.seconds)
    await again.start(events)
    await newest(again)
    assert await rows(again, path) == 0


# Start and stop


@pytest.mark.parametrize("kind", ["directory", "letter"])
@pytest_twisted.ensureDeferred
async def test_a_start_that_fails_says_why_and_leaves_no_thread(
    reactor: IRelayReactor, tmp_path: Path, events: Events, kind: str
) -> None:
    path = tmp_path / "missing" / "chat.db"
    if kind == "letter":
        path = tmp_path / "letter.txt"
        path.write_text("Dear Ann, " * 1_000)
    relay = SqliteRelay(reactor, path, HistoryLimits())
    with pytest.raises(RelayError, match=f"sqlite:{path}: "):
        await relay.start(events)
    assert not [thread for thread in threading.enumerate() if "twisted-chat-sqlite" in thread.name]
    assert (await refusal(relay.publish("r", b"{}"))).reason is Reason.TRY_AGAIN
    await relay.stop()


@pytest_twisted.ensureDeferred
async def test_a_second_relay_on_the_file_is_refused(
    relay: SqliteRelay, reactor: IRelayReactor, path: Path, events: Events
) -> None:
    second = SqliteRelay(reactor, path, HistoryLimits(age=0.0))
    with pytest.raises(RelayError, match="is in use by another process"):
        await second.start(events)
    await relay.publish("r", b"{}")
    await relay.stop()
    third = SqliteRelay(reactor, path, HistoryLimits(age=0.0))
    await third.start(events)
    assert await newest(third) == [b"{}"]
    await third.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_is_stopped_while_it_starts_never_runs(
    reactor: IRelayReactor, path: Path, events: Events
) -> None:
    relay = SqliteRelay(reactor, path, HistoryLimits())
    started, stopped = relay.start(events), relay.stop()
    with pytest.raises(RelayError, match="stopped while it was starting"):
        await started
    assert (await refusal(relay.publish("r", b"{}"))).reason is Reason.TRY_AGAIN
    await stopped
    assert not [thread for thread in threading.enumerate() if "twisted-chat-sqlite" in thread.name]


@pytest_twisted.ensureDeferred
async def test_it_runs_once(relay: SqliteRelay, events: Events) -> None:
    await relay.stop()
    with pytest.raises(RelayError, match="stopped"):
        await relay.start(events)


@pytest_twisted.ensureDeferred
async def test_stopping_leaves_one_file(relay: SqliteRelay, path: Path) -> None:
    await relay.publish("r", b"{}")
    await relay.stop()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest_twisted.ensureDeferred
async def test_stopping_does_not_wait_for_a_sweep(
    relay: SqliteRelay, clock: ThreadedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatDatabase, "sweep", lambda *_: True)
    clock.advance(SWEEP_SECONDS)
    await relay.publish("r", b"{}")
    await relay.stop()


# kill -9

PUBLISHER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.sqlite import SqliteRelay

class Nobody:
    def deliver(self, room, publication): pass

async def publish_for_ever(relay, sender):
    number = 0
    while True:
        number += 1
        published = await relay.publish(f"room {sender % 3}", b"%s %d %d" % (sys.argv[2].encode(), sender, number))
        publication = published.publication
        print(f"room {sender % 3}", publication.position, publication.data.decode(), sep="\\t", flush=True)

async def main(reactor):
    relay = SqliteRelay(reactor, Path(sys.argv[1]), HistoryLimits(count=1_000_000))
    await relay.start(Nobody())
    for sender in range(20):
        Deferred.fromCoroutine(publish_for_ever(relay, sender))
    await Deferred()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


def acknowledged_until_killed(path: Path, name: str, count: int) -> list[tuple[str, Position, bytes]]:
    """A process publishes; when it has acknowledged so many it is killed."""
    with subprocess.Popen([sys.executable, "-c", PUBLISHER, str(path), name], stdout=subprocess.PIPE) as publisher:
        assert publisher.stdout is not None
        lines = [publisher.stdout.readline() for _ in range(count)]
        publisher.kill()
        lines += publisher.stdout.readlines()
    found = []
    for line in lines:
        if line.endswith(b"\n"):
            room, position, data = line.rstrip(b"\r\n").split(b"\t")
            parsed = Position.parse(position.decode())
            assert parsed is not None
            found.append((room.decode(), parsed, data))
    return found


def test_kill_9_loses_nothing_that_was_acknowledged(path: Path) -> None:
    acknowledged: list[tuple[str, Position, bytes]] = []
    for count in [1, 50, 333, 900]:
        acknowledged += acknowledged_until_killed(path, f"run{count}", count)
        database = ChatDatabase(path, HistoryLimits(count=1_000_000))
        for room in ["room 0", "room 1", "room 2"]:
            history = database.history(room, Newest(1_000_000), 0.0)
            kept = {one.position: one.data for one in history.publications}
            mine = [(position, data) for where, position, data in acknowledged if where == room]
            assert [(position, kept.get(position)) for position, _ in mine] == mine
            # And what is there, acknowledged or not, is one chain from the first on.
            tags = [0] + [one.position.tag for one in history.publications]
            assert [one.previous for one in history.publications] == tags[:-1]
            assert [one.position.offset for one in history.publications] == list(range(1, len(tags)))
            assert len({one.position.epoch for one in history.publications}) <= 1
        database.close()
    assert len(acknowledged) >= 1_284
