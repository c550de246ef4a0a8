"""A relay within one process: nothing outlives it."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_chat.core.errors import Reason
from twisted_chat.core.publication import History, Publication, Published, Question
from twisted_chat.relay.answer import answer
from twisted_chat.relay.idle import IdleRooms
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits, RelayEvents, Troubles, Usage
from twisted_chat.relay.position import Moments, following, forgettable, horizon, new_epoch
from twisted_chat.relay.presence import NOT_RUNNING, LocalPresence, refused

SWEEP_SECONDS: Final = 60.0
OVERHEAD: Final = 500
"""Bytes that a publication costs besides its data."""


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What the whole relay keeps at most; `HistoryLimits` is about each room.

    idle_rooms
        rooms without subscriber whose history is kept, 1 or more; beyond that one is forgotten of the spender whose
        rooms are the largest together: the one whose last publication, or last subscriber, is the longest ago. Reading
        is no use. Who comes back to a forgotten room is told that its position is lost.
    history_bytes
        of publications in all rooms; above it idle rooms are forgotten in the same order, and when there are none, a
        room gives up its own oldest publications for each new one
    keys, key_bytes
        idempotency keys and the publications that they answer with; above either the oldest are forgotten early
    """

    idle_rooms: int = 10_000
    history_bytes: int = 256 << 20
    keys: int = 100_000
    key_bytes: int = 64 << 20


class MemoryRelay(LocalPresence):
    """See `relay.interface.Relay`. Everything happens within the call, but a delivery that publishes: its publication
    is stored at once and delivered after the one it was made in, so that everyone sees them in the one order.
    """

    durable = False

    def __init__(
        self,
        reactor: IReactorTime,
        history: HistoryLimits,
        limits: MemoryLimits = MemoryLimits(),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._history = history
        self._limits = limits
        self._wall_clock = wall_clock
        self._moments = Moments(new_epoch())
        self._rooms: dict[str, _Room] = {}
        self._idle = IdleRooms(self._bytes_of)
        self._bytes = 0
        self._evicted = 0
        self._keys = _RecentKeys(limits.keys, limits.key_bytes)
        self._undelivered: deque[tuple[str, Published, Deferred[Published]]] = deque()
        self._delivering = False
        self._sweeper: LoopingCall | None = None

    def start(self, events: RelayEvents) -> Deferred[None]:
        self._open(events)
        self._moments = Moments(new_epoch())
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = self._reactor
        self._sweeper.start(SWEEP_SECONDS, now=False)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        if self._sweeper is not None:
            self._sweeper.stop()
            self._sweeper = None
        self._close()
        self._rooms.clear()
        self._idle.clear()
        self._keys.clear()
        self._bytes = 0
        return succeed(None)

    def time(self, room: str) -> float:
        return self._wall_clock()

    def usage(self) -> Usage:
        return Usage(self._bytes, self._limits.history_bytes, self._evicted)

    def ready(self) -> Deferred[Troubles]:
        return succeed(()) if self._accepting else refused(Reason.TRY_AGAIN, NOT_RUNNING)

    def subscribe(self, room: str) -> None:
        super().subscribe(room)
        self._idle.discard(room)

    def unsubscribe(self, room: str) -> None:
        super().unsubscribe(room)
        kept = self._rooms.get(room)
        if kept is None:
            return
        if kept.top.offset:
            self._use(room, kept)
        else:
            del self._rooms[room]

    def publish(
        self, room: str, data: bytes, key: str | None = None, spender: str | None = None
    ) -> Deferred[Published]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        now = self._reactor.seconds()
        if key is not None and (known := self._known(room, key, now)) is not None:
            return succeed(Published(known, duplicate=True))
        publication = self._store(room, data, spender, self._wall_clock())
        if key is not None:
            self._keys.put(room, key, publication, now)
        done: Deferred[Published] = Deferred()
        self._undelivered.append((room, Published(publication), done))
        if not self._delivering:
            self._deliver_all()
        return done

    def history(self, room: str, question: Question) -> Deferred[History]:
        if not self._accepting:
            return refused(Reason.TRY_AGAIN, NOT_RUNNING)
        kept = self._rooms.get(room)
        if kept is None:
            kept = _Room(self._moments)
            # While somebody is there, nothing can be forgotten of the room, whatever happens to others.
            if room in self._subscribed:
                self._rooms[room] = kept
        self._bytes -= kept.trim(horizon(self._history, self._wall_clock()))
        return succeed(answer(question, kept.top, kept.read, kept.oldest))

    def _known(self, room: str, key: str, now: float) -> Publication | None:
        """What was stored under the key, unless it was forgotten with the room."""
        known, kept = self._keys.get(room, key, now), self._rooms.get(room)
        return known if known is not None and kept is not None and known.position.epoch == kept.top.epoch else None

    def _store(self, room: str, data: bytes, spender: str | None, now: float) -> Publication:
        kept = self._rooms.get(room)
        if kept is None:
            kept = self._rooms[room] = _Room(self._moments)
        if not kept.top.offset:
            kept.spender = spender
        elif kept.spender != spender:
            kept.spender = None
        publication = kept.append(data, self._moments, now)
        if room not in self._subscribed:
            self._use(room, kept)
        # What is too old goes with the next sweep; nobody is given it.
        self._bytes += len(data) + OVERHEAD - kept.shorten(self._history.count)
        if self._bytes > self._limits.history_bytes:
            self._make_space(room, kept, now)
        return publication

    def _make_space(self, room: str, kept: _Room, now: float) -> None:
        """Forget what a room has that is too old, then rooms of whoever has more, then its own, then any others."""
        most = self._limits.history_bytes
        self._bytes -= kept.trim(horizon(self._history, now))
        while self._bytes > most and self._evict(room, kept, spare=True):
            pass
        while self._bytes > most and len(kept.publications) > 1:
            self._bytes -= kept.drop_oldest()
        while self._bytes > most and self._evict(room, kept, spare=False):
            pass

    def _deliver_all(self) -> None:
        self._delivering = True
        try:
            while self._undelivered:
                room, published, done = self._undelivered.popleft()
                self._deliver(room, published.publication)
                done.callback(published)
        finally:
            self._delivering = False

    # Rooms that nobody subscribed to

    def _use(self, name: str, room: _Room) -> None:
        self._idle.use(name, room.spender)
        while len(self._idle) > self._limits.idle_rooms and self._evict(name, room, spare=False):
            pass

    def _bytes_of(self) -> Counter[str | None]:
        sizes: Counter[str | None] = Counter()
        for room in self._rooms.values():
            sizes[room.spender] += room.bytes
        return sizes

    def _evict(self, name: str, room: _Room, *, spare: bool) -> bool:
        """Whether there was a room to forget; see `IdleRooms.first`."""
        first = self._idle.first(name, room.spender, spare=spare)
        if first is None:
            return False
        self._forget(first)
        self._evicted += 1
        return True

    def _forget(self, name: str) -> None:
        self._idle.discard(name)
        room = self._rooms.pop(name)
        self._bytes -= room.bytes
        self._moments.forget(room.top.tag)

    def _sweep(self) -> None:
        """Let go what is too old."""
        now = self._wall_clock()
        oldest = horizon(self._history, now)
        for room in self._rooms.values():
            self._bytes -= room.trim(oldest)
        over = forgettable(self._history, now)
        for name in [name for name in self._idle if self._rooms[name].top.tag < over]:
            self._forget(name)
        self._keys.expire(self._reactor.seconds())


class _Room:
    """What is kept of one room; without publications, only while somebody is there."""

    __slots__ = ("bytes", "oldest", "publications", "spender", "top")

    def __init__(self, moments: Moments) -> None:
        self.top = moments.empty()
        self.oldest: Final = moments.oldest()
        self.publications: deque[Publication] = deque()
        self.bytes = 0
        self.spender: str | None = None
        """Who alone has published in it; None: the server itself, or several."""

    def append(self, data: bytes, moments: Moments, now: float) -> Publication:
        if self.top.offset:
            publication = Publication(following(self.top, now), self.top.tag, data)
        else:
            publication = Publication(moments.first(now), self.oldest.tag, data)
        self.top = position = publication.position
        if position.tag > moments.newest:
            moments.newest = position.tag
        self.publications.append(publication)
        self.bytes += len(data) + OVERHEAD
        return publication

    def shorten(self, count: int) -> int:
        """Keep so many publications; the bytes thereby freed."""
        freed = 0
        while len(self.publications) > count:
            freed += self.drop_oldest()
        return freed

    def trim(self, oldest: int) -> int:
        """Keep no publication with a tag below `oldest`; the bytes thereby freed."""
        freed = 0
        while self.publications and self.publications[0].position.tag < oldest:
            freed += self.drop_oldest()
        return freed

    def drop_oldest(self) -> int:
        """The bytes thereby freed."""
        freed = len(self.publications.popleft().data) + OVERHEAD
        self.bytes -= freed
        return freed

    def read(self, first: int, last: int) -> Sequence[Publication]:
        """See `relay.answer.Read`."""
        kept = self.publications
        if not kept:
            return ()
        begin = kept[0].position.offset
        return [kept[index] for index in range(max(first - begin, 0), min(last + 1 - begin, len(kept)))]


class _RecentKeys:
    """Idempotency keys for `IDEMPOTENCY_SECONDS`, oldest first."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._keys: OrderedDict[tuple[str, str], tuple[float, Publication]] = OrderedDict()

    def get(self, room: str, key: str, now: float) -> Publication | None:
        """What was stored under it lately."""
        known = self._keys.get((room, key))
        return known[1] if known is not None and now < known[0] else None

    def put(self, room: str, key: str, publication: Publication, now: float) -> None:
        self._remove((room, key))
        self.expire(now)
        self._keys[room, key] = now + IDEMPOTENCY_SECONDS, publication
        self._bytes += len(publication.data) + OVERHEAD
        while len(self._keys) > self._most or (self._bytes > self._most_bytes and len(self._keys) > 1):
            self._remove(next(iter(self._keys)))

    def expire(self, now: float) -> None:
        while self._keys:
            oldest = next(iter(self._keys))
            if now < self._keys[oldest][0]:
                return
            self._remove(oldest)

    def clear(self) -> None:
        self._keys.clear()
        self._bytes = 0

    def _remove(self, key: tuple[str, str]) -> None:
        known = self._keys.pop(key, None)
        if known is not None:
            self._bytes -= len(known[1].data) + OVERHEAD
