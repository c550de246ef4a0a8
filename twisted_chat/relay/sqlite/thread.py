"""The thread that owns the database of the SQLite relay, and what waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Publication, Published
from twisted_chat.relay.presence import refused
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft

T = TypeVar("T")

BATCH: Final = 512
"""Publications of one transaction at most: they are delivered in one turn of the reactor."""
QUESTIONS: Final = 64
"""Questions between two transactions at most."""
ANSWER_BYTES: Final = 4 << 20
"""Bytes of histories after which the answers of a round are given out, and the other questions wait for the next."""


class IRelayReactor(IReactorTime, IReactorFromThreads):
    """What the SQLite relay needs of a reactor."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait for the database at most, by number and in bytes of data. More is refused with `TRY_AGAIN`."""

    publications: int = 10_000
    publication_bytes: int = 32 << 20
    questions: int = 1_000


class DatabaseThread:
    """Works in rounds, one at a time.

    A round is what waits when it begins: publications in one transaction, then questions, each after the publications
    that were asked for before it, then a step of the sweep if one is due. Its results come back in one call: each
    publication is given to `stored` and acknowledged in the turn in which it is known to be durable. The more there is
    to do, the more publications share one wait for the disk.

    The thread is a `ThreadPool` of one. ``adbapi`` would only add a commit and a Deferred of its own to each call,
    where here many publications, each with its own answer, make one transaction.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IRelayReactor,
        limits: QueueLimits,
        stored: Callable[[str, Publication], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._stored = stored
        self._wall_clock = wall_clock
        self._pool = ThreadPool(1, 1, "twisted-chat-sqlite")
        self._pool.threadFactory = _Daemon
        self._database: ChatDatabase | None = None
        self._writes: deque[_Write] = deque()
        self._write_bytes = 0
        self._accepted = 0
        self._finished = 0
        self._questions: deque[_Question] = deque()
        self._sweep_due = False
        self._working = False
        self._waiting_for_idle: list[Deferred[None]] = []
        self._trouble: str | None = None

    async def open(self, make: Callable[[], ChatDatabase]) -> None:
        """Start the thread and open the database on it. Raises what `make` raises, and has no thread then."""
        self._pool.start()
        try:
            self._database = await deferToThreadPool(self._reactor, self._pool, make)
        except BaseException:
            self._pool.stop()
            raise

    async def close(self) -> None:
        """Finish what waits, close the database, end the thread. Nothing may be asked from now on."""
        self._sweep_due = False
        await self._idle()
        database, self._database = self._database, None
        if database is None:
            return
        try:
            await deferToThreadPool(self._reactor, self._pool, database.close)
        except ChatError as error:
            self._log.warn("the database is closed, but not tidied: {cause}", cause=error.__cause__)
        self._pool.stop()

    def store(self, draft: Draft) -> Deferred[Published]:
        """Make it durable, give it to `stored`, acknowledge it."""
        size = len(draft.data)
        full = len(self._writes) >= self._limits.publications
        if full or (self._writes and self._write_bytes + size > self._limits.publication_bytes):
            return refused(Reason.TRY_AGAIN, "more is published than the server can store; try again in a moment")
        done: Deferred[Published] = Deferred()
        self._writes.append(_Write(draft, done))
        self._write_bytes += size
        self._accepted += 1
        self._work()
        return done

    def ask(self, question: Callable[[ChatDatabase, float], T]) -> Deferred[T]:
        """What `question` returns for the database and the time, after everything that was to be stored before it."""
        if len(self._questions) >= self._limits.questions:
            return refused(Reason.TRY_AGAIN, "more is asked than the server can answer; try again in a moment")
        done: Deferred[T] = Deferred()
        self._questions.append(_Question(self._accepted, question, done))
        self._work()
        return done

    def sweep(self) -> None:
        """Delete what is over, a step in each round."""
        self._sweep_due = True
        self._work()

    def _idle(self) -> Deferred[None]:
        if not self._working:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_idle.append(waiting)
        return waiting

    def _work(self) -> None:
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._rounds()).addErrback(self._broken)

    async def _rounds(self) -> None:
        try:
            while self._writes or self._questions or self._sweep_due:
                await self._round()
        finally:
            self._working = False
            waiting, self._waiting_for_idle = self._waiting_for_idle, []
            for idle in waiting:
                idle.callback(None)

    async def _round(self) -> None:
        assert self._database is not None, "nothing is asked of a database that is not open"
        writes = [self._writes.popleft() for _ in range(min(len(self._writes), BATCH))]
        self._write_bytes -= sum(len(write.draft.data) for write in writes)
        self._finished += len(writes)
        questions: list[_Question] = []
        while self._questions and self._questions[0].after <= self._finished and len(questions) < QUESTIONS:
            questions.append(self._questions.popleft())
        sweeping, self._sweep_due = self._sweep_due, False
        results = await deferToThreadPool(
            self._reactor,
            self._pool,
            _work,
            self._database,
            [write.draft for write in writes],
            [question.ask for question in questions],
            sweeping,
            self._wall_clock(),
        )
        if writes:
            self._acknowledge(writes, results.stored)
        self._questions.extendleft(reversed(questions[len(results.answers) :]))
        for question, answer in zip(questions, results.answers, strict=False):
            self._answer(question, answer)
        if sweeping and not self._waiting_for_idle:
            self._swept(results.more_to_sweep)

    def _acknowledge(self, writes: Sequence[_Write], stored: list[Published | ChatError] | Failure) -> None:
        if isinstance(stored, Failure):
            refusal = self._refusal(stored)
            for write in writes:
                write.done.errback(ChatError(refusal.reason, refusal.message))
            return
        if self._trouble is not None:
            self._trouble = None
            self._log.info("publications are stored again")
        for write, published in zip(writes, stored, strict=True):
            if isinstance(published, ChatError):
                write.done.errback(published)
                continue
            if not published.duplicate:
                self._stored(write.draft.room, published.publication)
            write.done.callback(published)

    def _answer(self, question: _Question, answer: object) -> None:
        if isinstance(answer, Failure):
            question.done.errback(self._refusal(answer))
        else:
            question.done.callback(answer)

    def _swept(self, more: bool | Failure) -> None:
        if isinstance(more, Failure):
            self._refusal(more)
        else:
            self._sweep_due = self._sweep_due or more

    def _refusal(self, failure: Failure) -> ChatError:
        """What clients are told; the log is told when trouble begins, not each time."""
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.failure("the database failed", failure)
            return ChatError(Reason.TRY_AGAIN, "the server could not do that; try again later")
        if self._trouble != str(error.__cause__):
            self._trouble = str(error.__cause__)
            self._log.error("the database failed, requests that need it are refused: {cause}", cause=error.__cause__)
        return error

    def _broken(self, failure: Failure) -> None:
        self._log.failure("a round of the database failed", failure)


class _Write(NamedTuple):
    draft: Draft
    done: Deferred[Published]


class _Question(NamedTuple):
    after: int
    """How many publications were asked for before it."""
    ask: Callable[[ChatDatabase, float], Any]
    done: Deferred[Any]


class _Results(NamedTuple):
    stored: list[Published | ChatError] | Failure
    answers: list[Any]
    more_to_sweep: bool | Failure


def _work(
    database: ChatDatabase,
    drafts: Sequence[Draft],
    questions: Sequence[Callable[[ChatDatabase, float], Any]],
    sweeping: bool,
    now: float,
) -> _Results:
    """A round, on the thread: all drafts, and as many questions as `ANSWER_BYTES` let it answer."""
    stored = _attempt(lambda: database.store(drafts, now)) if drafts else []
    answers: list[Any] = []
    size = 0
    for ask in questions:
        if size >= ANSWER_BYTES:
            break
        answers.append(_attempt(partial(ask, database, now)))
        size += _size(answers[-1])
    more = _attempt(lambda: database.sweep(now)) if sweeping else False
    return _Results(stored, answers, more)


def _size(answer: object) -> int:
    return sum(len(each.data) for each in answer.publications) if isinstance(answer, History) else 0


def _attempt(call: Callable[[], T]) -> T | Failure:
    try:
        return call()
    except Exception:  # noqa: BLE001 - one that fails must not take the others of its round along
        return Failure()


class _Daemon(Thread):
    """Does not keep a process that ends in disorder alive: what was acknowledged is safe without it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named, daemon=True)
