"""Several relays as one: each room is kept by one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import History, Position, Publication, Published, Question
from twisted_chat.relay.interface import Relay, RelayEvents, Trouble, Troubles

PATIENCE: Final = 1.5
"""Seconds that each has to say whether it is ready."""


ROOMS: Final = 10_000
"""Rooms of which it is remembered which relay has them."""


class ShardedRelay:
    """See `relay.interface.Relay`.

    The names of the relays, and that of a room, decide which of them has the room. Every node must be given the same
    ones, in any order. With one relay more or less, only the rooms that it gains or loses move; they begin a new
    history where they go.
    """

    def __init__(self, relays: Mapping[str, Relay], reactor: IReactorTime) -> None:
        """`relays`: one or more."""
        self._reactor: Final = reactor
        self.durable = all(relay.durable for relay in relays.values())
        self._shards: Final = [_Shard(name, relay) for name, relay in relays.items()]
        # Asked several times for each publication, and always the same.
        self._of: Final = lru_cache(ROOMS)(self._choose)

    def start(self, events: RelayEvents) -> Deferred[None]:
        return _all(shard.start(events) for shard in self._shards)

    def stop(self) -> Deferred[None]:
        return _all(shard.relay.stop() for shard in self._shards)

    def time(self, room: str) -> float:
        return self._of(room).relay.time(room)

    def usage(self) -> None:
        """It is on several servers."""

    def ready(self) -> Deferred[Troubles]:
        """Fires while any of them answers: rooms of the others do not work then. Fails when none does."""
        return Deferred.fromCoroutine(self._ready())

    async def _ready(self) -> Troubles:
        # One that hangs must not hide what the others say.
        asked = [shard.relay.ready().addTimeout(PATIENCE, self._reactor, shard.hangs) for shard in self._shards]
        troubles: dict[Trouble, None] = {}
        failed: list[ChatError] = []
        answers: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
        for succeeded, answer in answers:
            if succeeded:
                troubles.update(dict.fromkeys(answer))
            elif isinstance(answer.value, ChatError):
                failed.append(answer.value)
            else:
                answer.raiseException()
        if len(failed) == len(self._shards):
            raise failed[0]
        return (*(Trouble("rooms", f"some rooms do not work: {error.message}") for error in failed), *troubles)

    def subscribe(self, room: str) -> None:
        shard = self._of(room)
        shard.subscribed.add(room)
        shard.relay.subscribe(room)

    def unsubscribe(self, room: str) -> None:
        shard = self._of(room)
        shard.subscribed.discard(room)
        shard.relay.unsubscribe(room)

    def publish(
        self, room: str, data: bytes, key: str | None = None, spender: str | None = None
    ) -> Deferred[Published]:
        return self._of(room).relay.publish(room, data, key, spender)

    def history(self, room: str, question: Question) -> Deferred[History]:
        return self._of(room).relay.history(room, question)

    def signal(self, room: str, data: bytes) -> None:
        self._of(room).relay.signal(room, data)

    def enter(self, room: str, member: str, handle: str) -> None:
        self._of(room).relay.enter(room, member, handle)

    def leave(self, room: str, member: str) -> None:
        self._of(room).relay.leave(room, member)

    def present(self, room: str) -> Deferred[tuple[str, ...]]:
        return self._of(room).relay.present(room)

    def _choose(self, room: str) -> _Shard:
        """Return the one that wins the room (rendezvous hashing: each draws a number for it, the highest has it)."""
        if len(self._shards) == 1:
            return self._shards[0]
        name = room.encode("utf-8", "surrogatepass")
        return max(self._shards, key=lambda shard: shard.draw(name))


class _Shard:
    """One relay; passes on what it calls back."""

    def __init__(self, name: str, relay: Relay) -> None:
        self.relay: Final = relay
        self.subscribed: Final[set[str]] = set()
        self._name = name.encode("utf-8", "surrogatepass")
        # At most 64 bytes.
        self._key = blake2b(self._name, digest_size=32).digest()

    def draw(self, room: bytes) -> tuple[bytes, bytes]:
        return blake2b(room, key=self._key, digest_size=8).digest(), self._name

    def hangs(self, _: object, seconds: float) -> Failure:
        """What is said instead of its answer."""
        name = self._name.decode("utf-8", "surrogatepass")
        return Failure(ChatError(Reason.TRY_AGAIN, f"{name} has not answered for {seconds:g} seconds"))

    def start(self, events: RelayEvents) -> Deferred[None]:
        self._events = events
        return self.relay.start(self)

    def deliver(self, room: str, publication: Publication) -> None:
        self._events.deliver(room, publication)

    def signal(self, room: str, data: bytes) -> None:
        self._events.signal(room, data)

    def joined(self, room: str, handle: str) -> None:
        self._events.joined(room, handle)

    def left(self, room: str, handle: str) -> None:
        self._events.left(room, handle)

    def interrupted(self, rooms: Collection[str] | None = None) -> None:
        self._events.interrupted(self._concerned(rooms))

    def resumed(self, rooms: Collection[str] | None = None) -> None:
        self._events.resumed(self._concerned(rooms))

    def top(self, room: str, position: Position) -> None:
        self._events.top(room, position)

    def _concerned(self, rooms: Collection[str] | None) -> Collection[str]:
        return list(self.subscribed) if rooms is None else rooms


def _all(answers: Iterable[Deferred[None]]) -> Deferred[None]:
    """Fires when all have; fails when one does, with what it failed with."""
    return gatherResults(list(answers), consumeErrors=True).addCallbacks(_nothing, _unwrapped)


def _nothing(_: object) -> None:
    """Of the results."""


def _unwrapped(failure: Failure) -> Failure:
    failure.trap(FirstError)
    assert isinstance(failure.value, FirstError)
    return failure.value.subFailure
