"""A room as one node sees it: where it stands in its history, and who has been given what.

The rules, whatever a relay drops, doubles, reorders or rewrites behind our back:

- The room follows the chain of publications. One that continues its position is delivered; one that it knows is
  dropped; anything else means that something is missing, and the room asks the history what (`Room.sync`).
- A member is *live* when it stands exactly where the room stands. All live members are given a publication in one go.
- A member that is elsewhere is *catching up*: it asks the history for itself, from its own position, while what comes
  meanwhile waits in a bounded buffer, and becomes live when it meets the room.
- What came before a question was asked is contained in its answer; what came after it waits behind the answer.
- Who asks where the history stands, or for the newest of it, is not told of what came between: it stands before the
  first publication that came since it joined, and is given that and all that follows.

No I/O and no clock: questions go through a `Archive`, whose answers are passed back in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from twisted_chat.core.publication import History, Newest, Position, Proof, Publication, Question, Since, continues

PAGE: Final = 200
"""Publications asked for at a time, at most."""

PIECE_BYTES: Final = 32 * 1024
"""Bytes of an answer that a member is given before it is asked whether it takes more."""

WAITING: Final = 1_000
"""Publications that wait for an answer, per room and per member; beyond it they are forgotten and asked for again."""

WAITING_BYTES: Final = 1024 * 1024
"""Bytes of those publications, with the same consequence."""


class Member(Protocol):
    """What a room needs of one that listens to it. None of these may raise."""

    def receive(self, publications: Sequence[Publication]) -> None:
        """The next publications, in order."""

    def reset(self, position: Position) -> None:
        """What it had cannot be continued: some publications may be missing; it goes on from `position`."""

    def live(self, position: Position) -> None:
        """It has everything up to `position`, and from now on is part of the audience."""

    def writable(self) -> bool:
        """Whether it can take more history now; if not, `Room.resume` is called when it can."""


M = TypeVar("M", bound=Member)


class Audience(Protocol[M]):
    """The live members, as what delivers to them holds them."""

    def add(self, member: M) -> None:
        """It is live from now on: publications before this call were given to it already."""

    def discard(self, member: M) -> None:
        """It is not live any more; also when it never was."""

    def publish(self, publication: Publication) -> None:
        """Give this to all live members."""

    def clear(self) -> Iterable[M]:
        """Nobody is live any more; who was?"""


class Archive(Protocol):
    """Where a room's questions about its past go."""

    def ask(self, question: Question, answered: Callable[[History | None], None]) -> None:
        """Answer once, now or later; None when it could not be answered."""

    def retry(self, again: Callable[[], None]) -> None:
        """Call `again` later, at a time that spreads many of them out."""


class _State(Enum):
    """What a member that is not live waits for."""

    ANSWER = auto()
    """The answer to its question; publications that come meanwhile are kept."""
    ROOM = auto()
    """The room: its answer was newer than what the room has seen."""
    CLIENT = auto()
    """Its client, which reads slowly: it asks on when it can take more."""


class _Buffer:
    """Publications that wait for an answer. At its bound it forgets all of them, and is `overflown`."""

    __slots__ = ("_bytes", "overflown", "publications")

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.overflown = False
        self._bytes = 0

    def keep(self, publication: Publication) -> None:
        size = len(publication.data)
        if len(self.publications) < WAITING and self._bytes + size <= WAITING_BYTES:
            self.publications.append(publication)
            self._bytes += size
        else:
            self.take()
            self.overflown = True

    def take(self) -> list[Publication]:
        """Return what waits, and keep nothing."""
        publications, self.publications, self._bytes = self.publications, [], 0
        return publications

    def reset(self) -> None:
        """Forget what waits, and that anything was forgotten: it is asked for."""
        self.take()
        self.overflown = False


@dataclass(eq=False, slots=True)
class _CatchingUp:
    """One member that is not live: where it stands, what it waits for, and what came meanwhile."""

    position: Position | None
    newest: int = 0
    state: _State = _State.ANSWER
    question: int = 0
    limit: int | None = None
    """Publications to ask for next, twice what its client took of an answer that was too much; None: a `PAGE`."""
    buffer: _Buffer = field(default_factory=_Buffer)
    left: Position | None = None
    """Where it stood before it was told `reset`."""
    begin: Position | None = None
    """Where the room stood when it came without a position, as far as that is known: what follows is for it."""


class Room(Generic[M]):
    """One room. `position` is None until the history, or the first publication, has told where it stands."""

    def __init__(self, archive: Archive, audience: Audience[M]) -> None:
        self.position: Position | None = None
        self._archive = archive
        self._audience = audience
        self._catching: dict[M, _CatchingUp] = {}
        self._syncing = True
        self._asks_since = False  # the first question is where the history stands
        self._mark = 0
        self._question = 0
        self._buffer = _Buffer()
        self._questions: deque[tuple[Question, Callable[[History | None], None]]] = deque()
        self._asking = False

    # Publications

    def deliver(self, publication: Publication) -> None:
        """A publication came from the relay."""
        if self._catching or self.position is None:
            self._note_beginning(publication)
        if not self._syncing:
            self._follow(publication)
        else:
            self._buffer.keep(publication)

    def _note_beginning(self, publication: Publication) -> None:
        """Who does not know where it stands began before the first publication that comes.

        The answer that it waits for may be newer, and would hide that one from it.
        """
        if self.position is None:
            self.position = _before(publication)
        for catching in self._catching.values():
            if catching.position is None and catching.begin is None:
                catching.begin = _before(publication)

    def _follow(self, publication: Publication) -> bool:
        """Take the next publication. False when it does not continue our history and the room asks for what does."""
        assert self.position is not None
        if continues(self.position, publication):
            self._advance(publication)
            return True
        if _known(self.position, publication):
            return True
        self.sync()
        return False

    def _advance(self, publication: Publication) -> None:
        self.position = publication.position
        self._audience.publish(publication)
        for member, catching in list(self._catching.items()) if self._catching else ():
            if self._catching.get(member) is catching:
                self._offer(member, catching, publication)

    # The room's own position

    def sync(self) -> None:
        """Ask the history what follows our position; deliver nothing until it has answered."""
        self._syncing = True
        self._question += 1
        question: Question = Newest(0)
        self._mark = len(self._buffer.publications)
        if self._asks_since and self.position is not None:
            self._buffer.reset()  # the answer contains it
            question = Since(self.position, PAGE)
        self._put(question, partial(self._synced, self._question))

    def interrupted(self) -> None:
        """The relay lost its link: what it says next may not continue what it said before. `sync` follows."""
        self._syncing = True
        self._question += 1  # an answer under way is void
        self._buffer.take()
        self._asks_since = self.position is not None  # what came until now may be all that tells where we began

    def check(self, top: Position) -> None:
        """The history says that the room's newest position is `top`: find out whether the last ones got lost."""
        if self._syncing:
            return
        if top != self.position:
            self.sync()
        else:
            self._align()

    def _synced(self, question: int, answer: History | None) -> None:
        if question != self._question:
            return
        if answer is None:
            self._archive.retry(lambda: self.sync() if question == self._question else None)
            return
        again = self._buffer.overflown
        if self.position is None or answer.proof is Proof.LOST:
            self._jump(answer.top)
        elif self._asks_since:
            for publication in answer.publications:
                self._advance(publication)
            again = again or answer.proof is Proof.MORE
            if answer.proof is Proof.COMPLETE:
                self.position = answer.top  # another one where the room is empty: relays forget the old in time
        else:
            # It did not ask from there. What came proves it, or what is to come, or the next answer
            kept = self._buffer.publications
            came = [self.position, *(each.position for each in kept)]
            first = self._mark == 0 and bool(kept) and continues(answer.top, kept[0])
            again = again or not (first or answer.top in came[self._mark :] or _is_ahead(answer.top, came[-1]))
        self._asks_since = True
        if again:
            self.sync()
            return
        self._syncing = False
        for publication in self._buffer.take():
            if not self._follow(publication):
                return  # the rest is in the next answer
        self._align()

    def _jump(self, top: Position) -> None:
        """Go on from `top`, which does not follow from where we were: every member has to ask for itself.

        Those that ask already ask again; the others do when the room goes on, or in `_align`.
        """
        before, self.position = self.position, top
        for member in self._audience.clear():
            self._catching[member] = _CatchingUp(before, state=_State.ROOM)
        if not self._asks_since:
            return  # what they asked already is as good
        for member, catching in list(self._catching.items()):
            if catching.state is _State.ANSWER and self._catching.get(member) is catching:
                catching.begin = None  # where that was, and what came since, is of no history any more
                catching.buffer.take()
                self._ask(member, catching)

    def _align(self) -> None:
        """The room's position is proven: a member that waits for it is live there, or proves its own."""
        for member, catching in list(self._catching.items()):
            if not self._waits_for_room(member, catching):
                continue
            if catching.position == self.position:
                self._settle(member, catching)
            else:
                self._ask(member, catching)

    def _put(self, question: Question, answered: Callable[[History | None], None]) -> None:
        """Ask, one question after the other: an archive that answers at once must not nest page in page."""
        self._questions.append((question, answered))
        if self._asking:
            return
        self._asking = True
        try:
            while self._questions:
                self._archive.ask(*self._questions.popleft())
        finally:
            self._asking = False

    # Members

    def join(self, member: M, since: Position | None = None, newest: int = 0) -> None:
        """A new member: give it what it missed since a position, or the newest so many, and then everything."""
        if not self._syncing and (since == self.position if since else not newest):
            assert self.position is not None
            self._audience.add(member)
            member.live(self.position)
            return
        catching = self._catching[member] = _CatchingUp(since, newest)
        if not self._syncing:
            catching.begin = self.position
        self._ask(member, catching)

    def leave(self, member: M) -> None:
        """It is gone; no harm if it never was there."""
        self._catching.pop(member, None)
        self._audience.discard(member)

    def standing(self, member: M) -> Position | None:
        """Return up to where a live member was given everything; None while it catches up."""
        return None if member in self._catching else self.position

    def resume(self, member: M) -> None:
        """A member that was not writable is again."""
        catching = self._catching.get(member)
        if catching is not None and catching.state is _State.CLIENT:
            self._ask(member, catching)

    def _ask(self, member: M, catching: _CatchingUp) -> None:
        catching.state = _State.ANSWER
        catching.question += 1
        at = catching.position
        question: Question = Newest(catching.newest)
        if at is not None:
            catching.buffer.reset()  # the answer contains it
            question = Since(at, catching.limit or PAGE)
        self._put(question, partial(self._answered, member, catching, catching.question))

    def _answered(self, member: M, catching: _CatchingUp, number: int, answer: History | None) -> None:
        def current() -> bool:
            return self._catching.get(member) is catching and catching.question == number

        if not current():
            return
        if answer is None:
            self._archive.retry(lambda: self._ask(member, catching) if current() else None)
            return
        more = catching.position is not None and answer.proof is Proof.MORE
        publications, position = answer.publications, answer.publications[-1].position if more else answer.top
        began = catching.position is None
        if began:
            publications, position = _beginning(catching.begin, answer)
        elif answer.proof is Proof.LOST:
            catching.left = catching.position
            member.reset(answer.top)
        given = 0
        for piece in _pieces(publications):
            if given and not member.writable():
                break
            member.receive(piece)
            if not current():
                return
            given += len(piece)
        rest = len(publications) - given
        catching.position = publications[given - 1].position if rest else position
        if rest:
            catching.limit = min(PAGE, 2 * given)
        elif catching.limit is not None:
            catching.limit = min(PAGE, 2 * catching.limit)
        if rest or (more and not member.writable()):
            self._wait_for_client(catching)
        elif more or catching.buffer.overflown or (began and position != answer.top and self._misses(catching)):
            self._ask(member, catching)
        else:
            self._caught_up(member, catching)

    def _wait_for_client(self, catching: _CatchingUp) -> None:
        """Keep nothing for a client that takes nothing: what follows is in the answer after `resume`."""
        catching.state = _State.CLIENT
        catching.buffer.take()

    def _misses(self, catching: _CatchingUp) -> bool:
        """Whether neither what waits nor the room goes on where it began."""
        assert catching.position is not None
        if catching.buffer.publications:
            return not continues(catching.position, catching.buffer.publications[0])
        return self.position is not None and _is_ahead(self.position, catching.position)

    def _caught_up(self, member: M, catching: _CatchingUp) -> None:
        catching.state = _State.ROOM
        for publication in catching.buffer.take():
            if not self._waits_for_room(member, catching):
                return  # it left or asked again: the rest is in that answer
            if not member.writable():
                self._wait_for_client(catching)
                return
            self._give(member, catching, publication)
        if self._waits_for_room(member, catching):
            self._settle(member, catching)

    def _waits_for_room(self, member: M, catching: _CatchingUp) -> bool:
        return self._catching.get(member) is catching and catching.state is _State.ROOM

    def _offer(self, member: M, catching: _CatchingUp, publication: Publication) -> None:
        """The room goes on: give the publication to a member that is catching up, or keep it for when it can tell."""
        if catching.state is _State.ANSWER:
            catching.buffer.keep(publication)
        elif catching.state is _State.ROOM:
            self._give(member, catching, publication)
            if self._waits_for_room(member, catching):
                self._settle(member, catching)

    def _give(self, member: M, catching: _CatchingUp, publication: Publication) -> None:
        assert catching.position is not None
        # The room may still be in the history that was lost: what the member had of that is not given again
        had = catching.left is not None and _known(catching.left, publication)
        if continues(catching.position, publication) and not had:
            catching.position = publication.position
            member.receive((publication,))
        elif not _known(catching.position, publication):
            self._ask(member, catching)

    def _settle(self, member: M, catching: _CatchingUp) -> None:
        """Make it live if it met the room. One that is ahead waits until the room comes to where it is."""
        at = catching.position
        assert at is not None
        if self._syncing or self.position is None:
            return  # `_align` follows
        if at == self.position:
            del self._catching[member]
            self._audience.add(member)
            member.live(at)
        elif not _is_ahead(at, self.position):
            self.sync()  # it has just read the history, and that is not what the room believes


def _beginning(begin: Position | None, answer: History) -> tuple[tuple[Publication, ...], Position]:
    """What one is given that asked for the newest, and where it stands then: no further than where it began."""
    top = answer.top
    if begin is None or begin.offset >= top.offset or (begin.offset and begin.epoch != top.epoch):
        return answer.publications, top
    publications = tuple(each for each in answer.publications if each.position.offset <= begin.offset)
    return publications, publications[-1].position if publications else begin


def _pieces(publications: Sequence[Publication]) -> Iterator[Sequence[Publication]]:
    """Cut an answer where `PIECE_BYTES` are reached."""
    start = size = 0
    for end, publication in enumerate(publications, 1):
        size += len(publication.data)
        if size >= PIECE_BYTES or end == len(publications):
            yield publications[start:end]
            start, size = end, 0


def _is_ahead(position: Position, other: Position) -> bool:
    return position.offset > other.offset and (position.epoch == other.epoch or not other.offset)


def _before(publication: Publication) -> Position:
    at = publication.position
    return Position(at.epoch, at.offset - 1, publication.previous)


def _known(position: Position, publication: Publication) -> bool:
    at = publication.position
    return at.epoch == position.epoch and (at.offset < position.offset or at == position)
