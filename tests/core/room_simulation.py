"""`Room` in a simulated world: nodes and clients, one history, every fault that a relay can have, virtual time.

A seed decides everything: how links and answers behave, which faults happen when, how much history is kept, how slow
the clients are. Whatever happens, the following must hold; `PromiseError` names what did not:

- A client gets what follows its position in the one order, without a gap, nothing twice; or it is told `reset`, which
  happens only when the history could not prove its position.
- A connection that left, or that said it can take no more, is given nothing.
- When the faults are over, every connection is live and has everything, and no question is asked any more. Nothing but
  a lost last publication, or a history rewritten unseen, needs `Room.check` for that.
- No room asks for ever at one instant; without faults a room asks once, and a member once or twice.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final
from unittest import mock

from msgspec import structs

from twisted_chat.core import room as module
from twisted_chat.core.publication import Before, History, Newest, Position, Proof, Publication, Question, Since
from twisted_chat.core.room import Room

NODES: Final = 3
CLIENTS: Final = 5
PUBLICATIONS: Final = (5, 15, 40)
BUSY: Final = (1.0, 3.0, 10.0)
"""How long things happen; seconds of virtual time, as all times here."""
FAULTS_END: Final = 10.5
LAST_PUBLICATION: Final = 15.0
CHECKS: Final = 2.0
CHECKS_END: Final = 25.0
SILENCE: Final = 1.5
"""How long it takes to find out that a link delivers nothing any more."""
QUESTIONS_AT_ONCE: Final = 2_000
"""More than all members of all nodes can ask at one instant, one publication to a page."""


class PromiseError(AssertionError):
    """The room did what it must not do."""


def follows(position: Position, publication: Publication) -> bool:
    """Whether the publication is the next one after the position, as far as they themselves say it."""
    if position.offset == 0:
        at = publication.position
        return at.offset == 1 and publication.previous <= position.tag < at.tag
    return (
        structs.replace(publication.position, offset=publication.position.offset - 1, tag=publication.previous)
        == position
    )


def _proof(more: bool) -> Proof:
    return Proof.MORE if more else Proof.COMPLETE


class Store:
    """The history of one room and who subscribes to it: the server that all nodes share.

    Nothing is kept of a room that has no history. What was said in it last, and in others, shows only in the newest
    tag of all and in that of what was forgotten last.
    """

    def __init__(self, simulation: Simulation, kept: int) -> None:
        self.published: dict[Position, Publication] = {}
        self.lost: set[Position] = set()
        self.subscribers: dict[Link, None] = {}
        self._simulation = simulation
        self._kept = kept
        self._epochs = 0
        self._tag = 0
        self._store = 0
        self._forgotten = 0
        self._entries: list[Publication] = []
        self._top: Position | None = None

    @property
    def top(self) -> Position:
        return self._top or Position(f"S{self._store}", 0, self._tag)

    def same(self, position: Position, other: Position) -> bool:
        """Whether they are one place: the same publication, or an empty room in which nothing was said between."""
        if position.offset or other.offset:
            return position == other
        first, last = sorted((position.tag, other.tag))
        return not any(first < each.tag <= last for each in self.published)

    def publish(self) -> None:
        self._tag += 1
        if self._top is None:
            self._epochs += 1
            before = Position(f"E{self._epochs}", 0, self._forgotten)
        else:
            before = self._top
        self._top = Position(before.epoch, before.offset + 1, self._tag)
        publication = Publication(self._top, before.tag, b"%d" % self._tag)
        self.published[self._top] = publication
        self._entries = [*self._entries, publication][-self._kept :]
        for link in list(self.subscribers):
            link.carry(publication)

    def answer(self, question: Question) -> History:
        match question:
            case Newest(limit):
                newest = tuple(self._entries[-limit:] if limit else ())
                return History(self.top, _proof(len(self._entries) > limit), newest)
            case Since(position, limit):
                if self._begins_at(position):
                    return History(self.top, Proof.COMPLETE)
                ours = position.epoch in (self.top.epoch, f"S{self._store}")
                missed = [entry for entry in self._entries if ours and entry.position.offset > position.offset]
                if position == self.top or (missed and follows(position, missed[0])):
                    return History(self.top, _proof(len(missed) > limit), tuple(missed[:limit]))
                self.lost.add(position)
                return History(self.top, Proof.LOST)
            case Before():
                raise PromiseError("a room looks forward only")

    def _begins_at(self, position: Position) -> bool:
        """Whether the room is empty, and has certainly been so since."""
        top = self.top
        return not (top.offset or position.offset) and position.epoch == top.epoch and position.tag >= self._forgotten

    def flush(self) -> None:
        """Everything is gone; the next history is another one."""
        self._simulation.met["rewritten"] += 1
        self._store += 1
        self._forgotten = self._tag
        self._top = None
        self._entries = []

    def forget(self) -> None:
        """The room is gone, whether it was told or not; the store goes on."""
        if self._top is not None:
            self._simulation.met["rewritten"] += 1
            self._forgotten = self._top.tag
            self._top = None
            self._entries = []

    def speak_elsewhere(self) -> None:
        """Another room goes on."""
        self._tag += 1

    def forget_elsewhere(self) -> None:
        """Another room is gone."""
        self._forgotten = self._tag

    def fail_over(self) -> None:
        """A replica takes over that lacks the newest publications. All links end, those that are silent too."""
        missing = min(self._simulation.random.randint(1, 3), len(self._entries) - 1)
        if missing > 0:
            self._simulation.met["rewritten"] += 1
            self._entries = self._entries[:-missing]
            self._top = self._entries[-1].position
            for node in self._simulation.nodes:
                node.link.cut()


class Link:
    """One subscription of one node."""

    def __init__(self, simulation: Simulation, node: Node) -> None:
        self.up = True
        self._simulation = simulation
        self._node = node
        self._busy_until = 0.0

    def carry(self, publication: Publication) -> None:
        """It may be lost, doubled, late, and overtaken."""
        world = self._simulation
        copies = 0 if world.happens(world.loss) else 2 if world.happens(world.doubling) else 1
        for _ in range(copies):
            arrival = world.now + world.latency()
            if not world.overtaking:
                arrival = self._busy_until = max(arrival, self._busy_until)
            world.at(arrival, self._arrive, publication)

    def cut(self, *, silently: bool = False) -> None:
        """Nothing comes any more. A silent link looks well until it was silent for too long."""
        self._simulation.store.subscribers.pop(self, None)
        self.up = self.up and silently
        self._simulation.after(SILENCE if silently else 0.01, self._found_down)

    def _arrive(self, publication: Publication) -> None:
        if self.up:
            self._node.room.deliver(publication)

    def _found_down(self) -> None:
        self.up = False
        self._node.link_down(self)


class Live:
    """The live members of one room on one node."""

    def __init__(self) -> None:
        self._members: dict[Connection, None] = {}

    def add(self, member: Connection) -> None:
        if member in self._members:
            raise PromiseError("a member is live twice")
        self._members[member] = None

    def discard(self, member: Connection) -> None:
        self._members.pop(member, None)

    def publish(self, publication: Publication) -> None:
        for member in list(self._members):
            if member in self._members:
                member.receive((publication,))

    def clear(self) -> Iterable[Connection]:
        members, self._members = self._members, {}
        for member in members:
            member.is_live = False
        return members


class Node:
    """One process: a room, its subscription, and the way of its questions to the history."""

    def __init__(self, simulation: Simulation) -> None:
        self.alive = True
        self.room: Room[Connection] = Room(self, Live())
        self._simulation = simulation
        self._asked = self._answered = 0.0
        self._connect()

    def stop(self) -> None:
        self.alive = False
        self.link.cut()

    def ask(self, question: Question, answered: Callable[[History | None], None]) -> None:
        world = self._simulation
        world.count_question()
        if world.happens(world.at_once):
            answered(self._answer(question))
            return
        arrival = world.now + world.latency()
        if world.in_turn:
            arrival = self._asked = max(arrival, self._asked)
        world.at(arrival, self._question_arrives, question, answered)

    def retry(self, again: Callable[[], None]) -> None:
        self._simulation.after(0.1 + self._simulation.random.random() * 0.2, self._if_alive, again)

    def check(self) -> None:
        """Compare the room with the history, unless something came meanwhile."""
        at, top = self.room.position, self._simulation.store.top

        def compare() -> None:
            if self.alive and self.room.position == at:
                self.room.check(top)

        self._simulation.after(self._simulation.latency(), compare)

    def link_down(self, link: Link) -> None:
        if self.alive and link is self.link:
            self.room.interrupted()
            self._simulation.after(0.05 + self._simulation.random.random() * 0.3, self._if_alive, self._connect)

    def _connect(self) -> None:
        self.link = Link(self._simulation, self)
        self._simulation.after(self._simulation.latency(), self._subscribed, self.link)

    def _subscribed(self, link: Link) -> None:
        if self.alive and link is self.link and link.up:
            self._simulation.store.subscribers[link] = None
            self._simulation.after(self._simulation.latency(), self._confirmed, link)

    def _confirmed(self, link: Link) -> None:
        if self.alive and link is self.link and link.up:
            self.room.sync()

    def _question_arrives(self, question: Question, answered: Callable[[History | None], None]) -> None:
        world = self._simulation
        answer = self._answer(question)
        arrival = world.now + world.latency()
        if world.in_turn:
            arrival = self._answered = max(arrival, self._answered)
        world.at(arrival, self._if_alive, partial(answered, answer))

    def _answer(self, question: Question) -> History | None:
        return None if self._simulation.happens(self._simulation.failure) else self._simulation.store.answer(question)

    def _if_alive(self, call: Callable[[], None]) -> None:
        if self.alive:
            call()


class Connection:
    """One connection of a client to a node: a member of its room."""

    def __init__(self, client: Client, node: Node) -> None:
        self.node = node
        self.is_live = False
        self.gone = False
        self._client = client
        self._simulation = client.simulation
        self._slow = False

    def receive(self, publications: Sequence[Publication]) -> None:
        self._check_open()
        for publication in publications:
            self._client.take(publication)
        self._perhaps_leave()

    def reset(self, position: Position) -> None:
        self._check_open()
        self._client.reset(position)
        self._perhaps_leave()

    def live(self, position: Position) -> None:
        self._check_open()
        if self.is_live:
            raise PromiseError("a live connection is told that it is live")
        self.is_live = True
        self._client.live(position)
        self._perhaps_leave()

    def writable(self) -> bool:
        self._slow = self._simulation.happens(self._simulation.slowness)
        if self._slow:
            self._simulation.met["slow"] += 1
            self._simulation.after(self._simulation.random.random(), self._resume)
        return not self._slow

    def _resume(self) -> None:
        self._slow = False
        if not self.gone:
            self.node.room.resume(self)

    def _check_open(self) -> None:
        if self.gone:
            raise PromiseError("a connection that is gone is given something")
        if self._slow:
            raise PromiseError("a connection that can take no more is given more")

    def _perhaps_leave(self) -> None:
        if self._simulation.happens(self._simulation.leaving):
            self._client.come_back()


class Client:
    """What one client was given over all its connections, compared with what it should have been given."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.position: Position | None = None
        self.connection: Connection | None = None
        self._newest_tag = 0
        self._same = simulation.store.same

    def connect(self) -> None:
        if self.connection is None:
            world = self.simulation
            world.met["joins"] += 1
            self.connection = Connection(self, world.random.choice(world.nodes))
            self.connection.node.room.join(self.connection, self.position, world.random.choice([0, 0, 2]))

    def come_back(self) -> None:
        """Disconnect, and connect to any node after a while."""
        if self.connection is not None:
            self.connection.gone = True
            self.connection.node.room.leave(self.connection)
            self.connection = None
        self.simulation.after(self.simulation.random.random() * 2, self.connect)

    def take(self, publication: Publication) -> None:
        at = publication.position
        if self.simulation.store.published.get(at) != publication:
            raise PromiseError(f"{publication} was never published")
        if self.position is not None:
            before = structs.replace(at, offset=at.offset - 1, tag=at.tag - 1)
            empty = self.position.offset == 0 and before.offset == 0
            if not (self._same(self.position, before) if empty else follows(self.position, publication)):
                raise PromiseError(f"{publication} does not follow {self.position}")
        if at.tag <= self._newest_tag:
            raise PromiseError(f"{publication} is older than what the client has seen")
        self.position = at
        self._newest_tag = at.tag
        self.simulation.met["delivered"] += 1

    def reset(self, position: Position) -> None:
        if self.position is not None and not any(
            self._same(self.position, lost) for lost in self.simulation.store.lost
        ):
            raise PromiseError(f"reset to {position}, but {self.position} could be continued")
        self.position = position
        self.simulation.met["resets"] += 1

    def live(self, position: Position) -> None:
        if self.position is not None and not self._same(self.position, position):
            raise PromiseError(f"live at {position}, but the client has everything up to {self.position}")
        self.position = position


class Simulation:
    """One world, as its seed makes it. `run` raises `PromiseError`; `met` counts what happened in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.met: Counter[str] = Counter()
        self._calls: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._instant = -1.0
        self._questions_now = 0
        self._choose_faults()
        self.nodes = [Node(self) for _ in range(NODES)]
        self.clients = [Client(self) for _ in range(CLIENTS)]
        self._choose_events()

    def _choose_faults(self) -> None:
        choose = self.random.choice
        self.store = Store(self, choose([3, 10, 1000]))
        store = self.store
        elsewhere = [store.speak_elsewhere, store.forget_elsewhere]
        faults = [self._cut, self._restart, self._reconnect, store.flush, store.fail_over, store.forget, *elsewhere]
        self.calm = self.random.random() < 0.15
        self.faults = [] if self.calm else self.random.sample(faults, self.random.randint(0, len(faults)))
        self.max_latency = choose([0.05, 0.5, 1.0])
        self.page, self.waiting = module.PAGE, module.WAITING
        self.piece_bytes, self.waiting_bytes = module.PIECE_BYTES, module.WAITING_BYTES
        self.loss = self.doubling = self.failure = self.at_once = self.slowness = self.leaving = 0.0
        self.overtaking, self.in_turn = False, True
        if not self.calm:
            self.loss, self.doubling, self.failure = choose([0, 0, 0.05, 0.3]), choose([0, 0.1]), choose([0, 0.1])
            self.overtaking, self.in_turn = self.random.random() < 0.3, self.random.random() < 0.5
            self.at_once = 0.0 if self.in_turn else choose([0, 0, 0.5, 1])
            self.slowness, self.leaving = choose([0, 0.3]), choose([0, 0, 0.02])
            self.page, self.waiting = choose([1, 2, self.page]), choose([1, 3, self.waiting])
            self.piece_bytes = choose([1, self.piece_bytes])
            self.waiting_bytes = choose([5, self.waiting_bytes, self.waiting_bytes])

    def _choose_events(self) -> None:
        busy = self.random.choice(BUSY)

        def moment() -> float:
            return self.random.random() * busy

        for _ in range(self.random.choice(PUBLICATIONS)):
            self.at(moment(), self.store.publish)
        for client in self.clients:
            self.at(moment() / 3, client.connect)
        for _ in range(self.random.randint(0, 12) if self.faults else 0):
            self.at(moment(), self.random.choice(self.faults))
        self.at(FAULTS_END, self._heal)
        # A late answer from before a fail-over is found out when the room gets as far again, or by a check
        late_answers = self.store.fail_over in self.faults and not self.in_turn
        findable = self.loss == 0 and not {self.store.flush, self.store.forget} & set(self.faults)
        ending = self.random.choice(["checks", "publication", *["quiet"] * 2 * findable])
        if late_answers or (ending == "checks" and not self.calm):
            for count in range(1, int(CHECKS_END / CHECKS)):
                self.at(count * CHECKS, self._check)
        elif ending == "publication":
            self.at(LAST_PUBLICATION, self.store.publish)

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._calls, (when, self._scheduled, call, arguments))

    def after(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + delay, call, *arguments)

    def latency(self) -> float:
        return self.random.random() * self.max_latency

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def count_question(self) -> None:
        self.met["questions"] += 1
        self._questions_now = self._questions_now + 1 if self._instant == self.now else 1
        self._instant = self.now
        if self._questions_now > QUESTIONS_AT_ONCE:
            raise PromiseError(f"asked {self._questions_now} questions at one instant")
        if self.now > CHECKS_END + 120:
            raise PromiseError("asks on when nothing happens any more")

    # Faults

    def _cut(self) -> None:
        self.random.choice(self.nodes).link.cut(silently=self.happens(0.5))

    def _restart(self) -> None:
        index = self.random.randrange(NODES)
        stopped = self.nodes[index]
        stopped.stop()
        self.nodes[index] = Node(self)
        for client in self.clients:
            if client.connection is not None and client.connection.node is stopped:
                client.come_back()

    def _reconnect(self) -> None:
        self.random.choice(self.clients).come_back()

    def _heal(self) -> None:
        self.loss = self.doubling = self.failure = self.leaving = 0.0

    def _check(self) -> None:
        for node in self.nodes:
            node.check()

    def run(self) -> None:
        bounds: dict[str, Any] = {"PIECE_BYTES": self.piece_bytes, "WAITING_BYTES": self.waiting_bytes}
        with mock.patch.multiple(module, PAGE=self.page, WAITING=self.waiting, **bounds):
            while self._calls:
                self.now, _, call, arguments = heapq.heappop(self._calls)
                call(*arguments)
        for client in self.clients:
            if client.connection is None or not client.connection.is_live:
                raise PromiseError("a connection never became live")
            if client.position is None or not self.store.same(client.position, self.store.top):
                raise PromiseError(f"a client stays at {client.position}, the top is {self.store.top}")
        if self.calm and self.met["questions"] > NODES + 2 * self.met["joins"]:
            raise PromiseError(f"{self.met['joins']} members asked {self.met['questions']} questions without need")


def simulate(seed: int) -> Counter[str]:
    """Run one world; what it met."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    except Exception as error:
        error.add_note(f"in the simulation of seed {seed}")
        raise
    return simulation.met
