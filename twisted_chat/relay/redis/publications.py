"""Publications and answers as they stand in Redis."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any, Final

from twisted_chat.core.publication import Before, History, Newest, Position, Publication, Question, Since
from twisted_chat.relay.answer import answer
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.position import horizon
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.scripts import HISTORY, PUBLISH, Call

EMPTY_ROOM_SECONDS: Final = 60.0
"""How far apart the positions are that an empty room is given, at most: all that are in it agree on where it stands."""
_LONGEST_MS: Final = 10**15
_LETTERS: Final = string.ascii_letters + string.digits


class Storage:
    """How publications are written and questions are asked: script calls, and what their replies mean."""

    def __init__(self, names: Names, limits: HistoryLimits) -> None:
        self.position_ms: Final = _milliseconds(max(limits.age, limits.keys)) if limits.age else 0
        """How long the position of a room outlives its last publication; 0: for ever."""
        # Redis forgets to the millisecond, by a clock that is read at another moment.
        self._remembered_ms: Final = self.position_ms - min(self.position_ms // 10, 1_000)
        self._empty_us: Final = int(min(EMPTY_ROOM_SECONDS * 1e6, (self.position_ms or _LONGEST_MS) * 1000 / 4))
        self._names: Final = names
        self._limits = limits
        lives = (_milliseconds(limits.age), self.position_ms, _milliseconds(limits.keys))
        self._constants: Final = [b"%d" % number for number in (limits.count, *lives)]

    def publish(self, room: str, data: bytes, key: str | None) -> Call:
        names = self._names
        keys: tuple[bytes, ...] = (names.position_key(room), names.stream_key(room), names.store_key)
        if key is not None:
            keys = (*keys, names.idempotency_key(room, key))
        return Call(PUBLISH, keys, (data, _epoch(), *self._constants, names.channel(room), self._remembered_ms))

    def ask(self, room: str, question: Question) -> Call:
        epoch, place, up_to, after = _slice(question)
        return Call(
            HISTORY,
            (self._names.position_key(room), self._names.stream_key(room), self._names.store_key),
            (_epoch(), epoch, place, up_to, after),
        )

    def answer(self, question: Question, reply: Sequence[Any]) -> History:
        name, offset, tag, up_to, after, (seconds, microseconds), store, began = reply
        oldest, empty = self._empty(store, int(began), int(seconds) * 1_000_000 + int(microseconds))
        top = empty if name is None else Position(name.decode("ascii"), int(offset), int(tag))
        epoch = top.epoch
        # What the limits no longer allow may still be there: Redis drops it in larger pieces.
        first_kept = top.offset - self._limits.count + 1
        age = horizon(self._limits, int(seconds) + int(microseconds) / 1e6)
        found = [_entry(epoch, *entry) for entry in (*reversed(up_to), *after)]

        def read(first: int, last: int) -> list[Publication]:
            return [
                each
                for each in found
                if max(first, first_kept) <= each.position.offset <= last and each.position.tag >= age
            ]

        return answer(question, top, read, oldest)

    def _empty(self, store: bytes, began: int, now: int) -> tuple[Position, Position]:
        """The earliest position of an empty room that can be continued, and the one that it has now."""
        forgotten = max(began, now - self._remembered_ms * 1000) if self._remembered_ms else began
        epoch = store.decode("ascii")
        return Position(epoch, 0, forgotten), Position(epoch, 0, max(forgotten, now - now % self._empty_us))


def parse(text: bytes) -> Publication:
    """From ``offset:tag:previous:epoch:data``. Raises `ValueError`."""
    offset, tag, previous, epoch, data = text.split(b":", 4)
    return Publication(Position(epoch.decode("ascii"), int(offset), int(tag)), int(previous), data)


def _entry(epoch: str, identity: bytes, fields: Sequence[bytes]) -> Publication:
    tag, offset = identity.split(b"-")
    _, previous, _, data = fields
    return Publication(Position(epoch, int(offset), int(tag)), int(previous), data)


def _slice(question: Question) -> tuple[str, str, int, int]:
    """The part of a stream that has the answer; see ``history.lua``."""
    match question:
        case Newest(limit):
            return "", "+", limit + 1, 0
        case Since(position, limit):
            return _history(position), _place(position), 0, max(limit, 1)
        case Before(position, limit):
            return _history(position), _place(position), limit + 2, 1


def _history(position: Position) -> str:
    """Any may follow an empty room."""
    return (position.epoch or "-") if position.offset else ""


def _place(position: Position) -> str:
    return f"{position.tag}-{position.offset}"


def _epoch() -> str:
    """For a history, should one begin. That is seldom, so it is made quickly; it looks like those of other relays."""
    return "".join(random.choices(_LETTERS, k=8))  # noqa: S311 - no secret


def _milliseconds(seconds: float) -> int:
    return min(max(int(seconds * 1000), 1), _LONGEST_MS) if seconds else 0
