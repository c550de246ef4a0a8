"""What a relay answers: histories of a room, made of offsets."""

from __future__ import annotations

from twisted_chat.core.publication import History, Position, Proof, Publication


def at(offset: int, epoch: str = "E", rewritten: int = 0) -> Position:
    """A position. Histories that were rewritten differ in their tags, as they were stored at another time."""
    return Position(epoch, offset, offset and 1_000 * rewritten + offset)


def publication(offset: int, epoch: str = "E", rewritten: int = 0) -> Publication:
    return Publication(at(offset, epoch, rewritten), at(offset - 1, epoch, rewritten).tag, b"{}")


def publications(first: int, last: int, epoch: str = "E") -> tuple[Publication, ...]:
    return tuple(publication(offset, epoch) for offset in range(first, last + 1))


def complete(first: int, last: int, epoch: str = "E") -> History:
    """The history has these, and no more."""
    return History(at(last, epoch), Proof.COMPLETE, publications(first, last, epoch))


def nothing_after(top: Position) -> History:
    return History(top, Proof.COMPLETE)


def more(first: int, last: int, top: int) -> History:
    return History(at(top), Proof.MORE, publications(first, last))


def lost(top: Position) -> History:
    return History(top, Proof.LOST)
