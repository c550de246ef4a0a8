"""A hub over a relay whose history answers when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_chat.core.errors import ChatError
from twisted_chat.core.limits import AddressRates, Limits
from twisted_chat.core.permissions import ANYONE
from twisted_chat.core.publication import History, Newest, Position, Question
from twisted_chat.core.session import Session
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire.formats import Event, Format


class PlainFormat:
    """What is said, without framing: a message's text, an event's name."""

    def publication(self, publication: Any) -> bytes:
        return bytes(publication.data) + b"\n"

    def event(self, event: bytes) -> bytes:
        return event + b"\n"

    def reset(self, position: Position) -> bytes:
        return b"reset\n"

    def start(self, position: Position) -> bytes:
        return b""

    def error(self, refused: ChatError) -> bytes:
        return refused.reason.code.encode() + b"\n"


PLAIN: Format = PlainFormat()


class Pipe:
    direct = None

    """Where a member's bytes go."""

    def __init__(self) -> None:
        self.data = b""
        self.full = False

    def write(self, data: bytes) -> None:
        self.data += data

    def writable(self) -> bool:
        return not self.full


class SlowRelay(MemoryRelay):
    """A memory relay that keeps answers of its history back while `holding`, and loses what it should deliver while
    `deaf`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, HistoryLimits(), wall_clock=clock.seconds)
        self.asked: list[tuple[str, Question]] = []
        self.holding = False
        self.deaf = False
        self.subscriptions: list[str] = []
        self._held: deque[tuple[Deferred[History], str, Question]] = deque()
        self._read: deque[tuple[Deferred[History], History]] = deque()

    def history(self, room: str, question: Question) -> Deferred[History]:
        self.asked.append((room, question))
        if not self.holding:
            return super().history(room, question)
        late: Deferred[History] = Deferred()
        self._held.append((late, room, question))
        return late

    def read(self) -> None:
        """Find the answer to the oldest question now; it is given later."""
        if self._held:
            late, room, question = self._held.popleft()
            super().history(room, question).addCallback(lambda history: self._read.append((late, history)))

    def answer(self) -> None:
        """Answer the oldest question: as it was when `read`, or as it is now."""
        if not self._read:
            self.read()
        if self._read:
            late, history = self._read.popleft()
            late.callback(history)

    def answer_all(self) -> None:
        while self._read or self._held:
            self.answer()

    def fail(self, error: Exception) -> None:
        """Fail to answer the oldest question."""
        if not self._read and not self._held:
            return
        late = self._read.popleft()[0] if self._read else self._held.popleft()[0]
        late.errback(error)

    def _deliver(self, room: str, publication: Any) -> None:
        if not self.deaf:
            super()._deliver(room, publication)

    def subscribe(self, room: str) -> None:
        self.subscriptions.append(f"+{room}")
        super().subscribe(room)

    def unsubscribe(self, room: str) -> None:
        self.subscriptions.append(f"-{room}")
        super().unsubscribe(room)


class Node:
    """A hub with its relay."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.relay = SlowRelay(self.clock)
        self.hub = Hub(self.relay, self.clock, self.metrics)
        self.relay.start(self.hub)
        self._members = 0

    def outsider(
        self, room: str = "lobby", handle: str | None = None, events: frozenset[Event] = frozenset()
    ) -> Member:
        """Someone who has not joined the room."""
        self._members += 1
        session = Session(
            ANYONE,
            room,
            address=None,
            rates=AddressRates(Limits().messages_per_address),
            limits=Limits(),
            now=0.0,
            handle=handle,
        )
        return Member(self, f"member-{self._members}", session, events)

    def member(
        self,
        room: str = "lobby",
        handle: str | None = None,
        events: frozenset[Event] = frozenset(),
        since: Position | None = None,
        newest: int = 0,
    ) -> Member:
        member = self.outsider(room, handle, events)
        self.hub.join(member.subscriber, since, newest)
        return member

    def say(self, text: str, room: str = "lobby") -> Position:
        published: list[Any] = []
        self.hub.publish(room, text.encode(), None, "http").addCallback(published.append)
        position = published[0].publication.position
        assert isinstance(position, Position)
        return position

    def top(self, room: str = "lobby") -> Position:
        found: list[History] = []
        MemoryRelay.history(self.relay, room, Newest(0)).addCallback(found.append)
        return found[0].top

    def present(self, room: str = "lobby") -> tuple[str, ...]:
        found: list[tuple[str, ...]] = []
        self.hub.present(room).addCallback(found.append)
        return found[0]


class Member:
    """One, and what it heard."""

    def __init__(self, node: Node, name: str, session: Session, events: frozenset[Event]) -> None:
        self.pipe = Pipe()
        self.session = session
        self._node = node
        self.subscriber = Subscriber(name, session, self.pipe, PLAIN, events)

    def heard(self) -> list[str]:
        """Since the last call."""
        self._node.clock.advance(0)
        lines, self.pipe.data = self.pipe.data.decode().splitlines(), b""
        return lines

    def leave(self) -> None:
        self._node.hub.leave(self.subscriber)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.relay.stop()
    node.clock.advance(0)
    assert not node.clock.getDelayedCalls(), "an empty hub waits for nothing"
