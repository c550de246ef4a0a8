"""What must hold in simulated worlds, and that the simulation (``room_simulation.py``) would notice if it did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from unittest import mock

import pytest

from tests.core.room_simulation import PromiseError, simulate
from twisted_chat.core import publication
from twisted_chat.core import room as module
from twisted_chat.core.publication import History, Position, Proof, Publication
from twisted_chat.core.room import Room

SEEDS: Final = 8_000
CHUNK: Final = 500


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_whatever_happens_the_promise_holds(first: int) -> None:
    met: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        met.update(simulate(seed))
    assert min(met[event] for event in ("delivered", "resets", "rewritten", "slow")) > CHUNK / 10


# Rooms that break one rule each. Not here: rules that only save time, as `check` or another question would find out
# too. The tests of single rules have them.

_continues, _pieces, _offer, _synced, _answered, _settle, _join = (
    publication.continues,
    module._pieces,
    Room._offer,
    Room._synced,
    Room._answered,
    Room._settle,
    Room.join,
)


def _nothing(*_: object) -> None:
    """Instead of a method."""


def _same_epoch(at: Position, new: Publication) -> bool:
    return new.position.epoch == at.epoch


def _next(at: Position, new: Publication) -> bool:
    return new.position.offset == at.offset + 1


def _ignoring_tags(at: Position, other: Position | None) -> Position:
    return other if other is not None and (other.epoch, other.offset) == (at.epoch, at.offset) else at


def _taken_as_complete(proof: Proof, answer: History | None) -> History | None:
    return replace(answer, proof=Proof.COMPLETE) if answer is not None and answer.proof is proof else answer


def _room_believes(proof: Proof) -> Callable[..., None]:
    return lambda room, number, answer: _synced(room, number, _taken_as_complete(proof, answer))


def _member_believes(proof: Proof) -> Callable[..., None]:
    return lambda room, member, catching, number, answer: _answered(
        room, member, catching, number, _taken_as_complete(proof, answer)
    )


def _any_answer(room: Room[Any], member: Any, catching: Any, _: int, answer: History | None) -> None:
    _answered(room, member, catching, catching.question, answer)


def _keep_the_oldest(room: Room[Any], publication: Publication) -> None:
    if not room._syncing:
        room._follow(publication)
    elif len(room._buffer.publications) < module.WAITING:
        room._buffer.keep(publication)


def _jump_alone(room: Room[Any], top: Position) -> None:
    room.position = top


def _offer_to_slow_ones(room: Room[Any], member: Any, catching: Any, publication: Publication) -> None:
    if catching.state is module._State.ANSWER:
        catching.buffer.keep(publication)
    else:
        room._give(member, catching, publication)


def _offer_to_those_that_are_answered(room: Room[Any], member: Any, catching: Any, publication: Publication) -> None:
    if catching.state is not module._State.ANSWER:
        _offer(room, member, catching, publication)


def _last_piece(publications: Any) -> list[Any]:
    return list(_pieces(publications))[-1:]


def _settle_by_offset(room: Room[Any], member: Any, catching: Any) -> None:
    catching.position = _ignoring_tags(catching.position, room.position)
    _settle(room, member, catching)


def _settle_ahead(room: Room[Any], member: Any, catching: Any) -> None:
    if room.position is not None and catching.position.offset > room.position.offset:
        catching.position = room.position
    _settle(room, member, catching)


def _settle_without_asking(room: Room[Any], member: Any, catching: Any) -> None:
    if room.position == catching.position:
        _settle(room, member, catching)


def _join_by_offset(room: Room[Any], member: Any, since: Position | None = None, newest: int = 0) -> None:
    _join(room, member, since and _ignoring_tags(since, room.position), newest)


MUTATIONS: Final[dict[str, tuple[object, str, object]]] = {
    "gaps are not seen": (
        module,
        "continues",
        lambda at, new: _same_epoch(at, new) and new.position.offset > at.offset,
    ),
    "the chain is not followed": (module, "continues", lambda at, new: _same_epoch(at, new) and _next(at, new)),
    "what was forgotten is ignored": (
        module,
        "continues",
        lambda at, new: _continues(at, new) or (at.offset == 0 and _next(at, new)),
    ),
    "an empty room is always up to date": (
        module,
        "continues",
        lambda at, new: _continues(at, new) or (at.offset == 0 and new.position.tag > at.tag),
    ),
    "the same is taken twice": (module, "continues", lambda at, new: new.position == at or _continues(at, new)),
    "nothing waits for the room": (Room, "deliver", lambda room, new: None if room._syncing else room._follow(new)),
    "only the oldest wait for the room": (Room, "deliver", _keep_the_oldest),
    "nothing waits for a member": (Room, "_offer", _offer_to_those_that_are_answered),
    "only the end of an answer is given": (module, "_pieces", _last_piece),
    "slow clients are given all": (Room, "_wait_for_client", _nothing),
    "nothing is offered": (Room, "_offer", _nothing),
    "slow clients are offered more": (Room, "_offer", _offer_to_slow_ones),
    "slow clients are forgotten": (Room, "resume", _nothing),
    "any answer to the room counts": (Room, "_synced", lambda room, _, answer: _synced(room, room._question, answer)),
    "any answer to a member counts": (Room, "_answered", _any_answer),
    "a lost room goes on": (Room, "_synced", _room_believes(Proof.LOST)),
    "a lost member goes on": (Room, "_answered", _member_believes(Proof.LOST)),
    "the room reads one page": (Room, "_synced", _room_believes(Proof.MORE)),
    "a member reads one page": (Room, "_answered", _member_believes(Proof.MORE)),
    "live members stay live when the room jumps": (Room, "_jump", _jump_alone),
    "nobody is aligned": (Room, "_align", _nothing),
    "nothing is checked": (Room, "check", _nothing),
    "tags do not matter to settle": (Room, "_settle", _settle_by_offset),
    "tags do not matter to join": (Room, "join", _join_by_offset),
    "one that is ahead is live": (Room, "_settle", _settle_ahead),
    "the room believes no member": (Room, "_settle", _settle_without_asking),
    "one that leaves stays live": (Room, "leave", lambda room, member: room._catching.pop(member, None)),
    "one that leaves catches up": (Room, "leave", lambda room, member: room._audience.discard(member)),
}
ENOUGH: Final = 20_000
"""Seeds within which a broken rule must be noticed; most need fewer than a hundred."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_noticed(name: str) -> None:
    target, attribute, broken = MUTATIONS[name]

    def run_until_noticed() -> None:
        for seed in range(ENOUGH):
            simulate(seed)

    with mock.patch.object(target, attribute, broken), pytest.raises((PromiseError, IndexError)):
        run_until_noticed()
