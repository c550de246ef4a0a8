"""What a room can answer about its past, whatever it is kept in.

Publications form a chain: each holds the tag of the one before it. So a position is proven by the publication that
follows it, and one that was trimmed away itself still is, as long as its successor is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted_chat.core.publication import (
    Before,
    History,
    Newest,
    Position,
    Proof,
    Publication,
    Question,
    Since,
    continues,
)

Read = Callable[[int, int], Sequence[Publication]]
"""The publications with offsets from the first to the last given, of those that are kept and not too old.

What is kept has no gap and reaches up to the room's top; the answer is in order, oldest first.
"""


def answer(question: Question, top: Position, read: Read, oldest: Position) -> History:
    """The answer of a room whose newest position is `top`. Reads once, at most `limit` + 2 publications.

    `oldest` is the earliest position of an empty room that this store can still continue.
    """
    match question:
        case Newest(limit):
            return _newest(limit, top, read)
        case Since(position, limit) | Before(position, limit):
            if _is_top(position, top, oldest):
                position = top
    # The first publication has the epoch of a history, an empty room before it that of the store.
    ours = position.epoch == top.epoch or (position.offset == 0 and position.epoch == oldest.epoch)
    read = read if ours else _nothing
    if isinstance(question, Since):
        return _since(position, limit, top, read)
    return _before(position, limit, top, read)


def _is_top(position: Position, top: Position, oldest: Position) -> bool:
    """Whether they are the same place; an empty room that has been empty all the time is."""
    if position.offset or top.offset:
        return position == top
    return position == top or (position.epoch == top.epoch == oldest.epoch and position.tag >= oldest.tag)


def _nothing(_: int, __: int) -> Sequence[Publication]:
    return ()


def _since(position: Position, limit: int, top: Position, read: Read) -> History:
    if position == top:
        return History(top, Proof.COMPLETE)
    found = read(position.offset + 1, position.offset + max(limit, 1))
    if not found or not continues(position, found[0]):
        return History(top, Proof.LOST)
    given = tuple(found[:limit])
    complete = bool(given) and given[-1].position.offset == top.offset
    return History(top, Proof.COMPLETE if complete else Proof.MORE, given)


def _newest(limit: int, top: Position, read: Read) -> History:
    found = read(top.offset - limit, top.offset)
    proof = Proof.MORE if len(found) > limit else Proof.COMPLETE
    return History(top, proof, tuple(found[-limit:]) if limit else ())


def _before(position: Position, limit: int, top: Position, read: Read) -> History:
    """One publication more than asked for says whether there are older ones, the one after `position` proves it."""
    found = read(position.offset - limit - 1, position.offset + 1)
    if position != top and (not found or not continues(position, found[-1])):
        return History(top, Proof.LOST)
    older = [publication for publication in found if publication.position.offset < position.offset]
    proof = Proof.MORE if len(older) > limit else Proof.COMPLETE
    return History(top, proof, tuple(older[-limit:]) if limit else ())
