"""Rooms and members on a node, over a relay whose history answers when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import AddressRates, Limits
from twisted_chat.core.permissions import ANYONE
from twisted_chat.core.publication import History, Newest, Position, Proof, Question, Since
from twisted_chat.core.session import Session
from twisted_chat.hub import RETRY, Hub
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
        super().__init__(clock, HistoryLimits())
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

    def member(
        self,
        room: str = "lobby",
        handle: str | None = None,
        events: frozenset[Event] = frozenset(),
        since: Position | None = None,
        newest: int = 0,
    ) -> Member:
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
        member = Member(self, f"member-{self._members}", session, events)
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


# Members and rooms


def test_members_of_a_room_hear_what_is_said_there(node: Node) -> None:
    ann, bob, elsewhere = node.member(), node.member(), node.member("elsewhere")
    node.say("one")
    node.say("two")
    assert ann.heard() == bob.heard() == ["one", "two"]
    assert elsewhere.heard() == []
    assert node.hub.member_count() == 3
    for member in (ann, bob, elsewhere):
        member.leave()
    assert node.hub.member_count() == 0


def test_a_room_is_there_as_long_as_it_has_members(node: Node) -> None:
    ann, bob = node.member(), node.member()
    assert node.relay.subscriptions == ["+lobby"]
    ann.leave()
    assert list(node.hub.rooms) == ["lobby"]
    node.say("bye")
    bob.leave()
    assert not node.hub.rooms
    assert node.relay.subscriptions == ["+lobby", "-lobby"]
    assert bob.heard() == ["bye"], "what was said before it left was written to it"
    assert ann.heard() == []


def test_leaving_without_having_joined(node: Node) -> None:
    ann = node.member()
    stranger = Member(node, "stranger", ann.session, frozenset())
    stranger.leave()
    ann.leave()
    ann.leave()
    assert node.relay.subscriptions == ["+lobby", "-lobby"]


def test_joining_with_what_was_missed(node: Node) -> None:
    first = node.say("one")
    node.say("two")
    late, newest, live = node.member(since=first), node.member(newest=1), node.member()
    assert (late.heard(), newest.heard(), live.heard()) == (["two"], ["two"], [])
    lost = node.member(since=Position("other", 3, 7))
    assert lost.heard() == ["reset"]
    node.say("three")
    for member in (late, newest, live, lost):
        assert member.heard() == ["three"]
        member.leave()


def test_publications_are_counted_with_their_latency(node: Node) -> None:
    node.say("one")
    sample = node.metrics.registry.get_sample_value
    assert sample("twisted_chat_publications_total", {"source": "http"}) == 1.0


def test_what_the_relay_refuses_is_passed_on(node: Node) -> None:
    node.relay.stop()
    failures: list[Any] = []
    node.hub.publish("lobby", b"hi", None, "http").addErrback(failures.append)
    node.hub.history("lobby", Newest(1)).addErrback(failures.append)
    assert [failure.value.reason for failure in failures] == [Reason.TRY_AGAIN] * 2
    assert node.metrics.registry.get_sample_value("twisted_chat_publications_total", {"source": "http"}) == 0.0


def test_a_room_that_nobody_is_in_hears_nothing(node: Node) -> None:
    node.hub.signal("lobby", b"{}")
    node.hub.joined("lobby", "ann")
    node.hub.left("lobby", "ann")
    node.hub.top("lobby", Position("e", 1, 1))
    node.hub.typing("lobby", "ann")
    node.say("hi")
    assert not node.hub.rooms


# Presence and typing


def test_presence(node: Node) -> None:
    watcher = node.member(events=frozenset({Event.PRESENCE}))
    ann = node.member(handle="ann")
    again = node.member(handle="ann")
    silent = node.member()
    assert node.present() == ("ann",)
    assert watcher.heard() == ['{"event":"join","handle":"ann"}'], "once for a handle, and not for who has none"
    silent.session.handle = "sue"
    node.hub.announce(silent.subscriber)
    assert watcher.heard() == ['{"event":"join","handle":"sue"}']
    again.leave()
    assert watcher.heard() == []
    ann.leave()
    silent.leave()
    assert watcher.heard() == ['{"event":"leave","handle":"ann"}', '{"event":"leave","handle":"sue"}']
    assert node.present() == ()
    watcher.leave()


def test_typing_reaches_those_who_asked_for_it(node: Node) -> None:
    asked, other = node.member(events=frozenset({Event.TYPING})), node.member()
    node.hub.typing("lobby", "ann")
    assert asked.heard() == ['{"event":"typing","handle":"ann"}']
    assert other.heard() == []
    asked.leave()
    other.leave()


def test_a_reply_comes_after_what_was_said_before_it(node: Node) -> None:
    ann, bob = node.member(), node.member()
    node.say("one")
    node.hub.reply(ann.subscriber, b"to ann\n")
    node.say("two")
    assert ann.heard() == ["one", "to ann", "two"]
    assert bob.heard() == ["one", "two"]
    ann.leave()
    node.hub.reply(ann.subscriber, b"late\n")
    bob.leave()
    node.hub.reply(bob.subscriber, b"to an empty room\n")
    assert (ann.heard(), bob.heard()) == (["late"], ["to an empty room"])


# A history that answers late, or not


def test_what_is_said_before_the_room_knows_where_it_stands_is_not_lost(node: Node) -> None:
    node.relay.holding = True
    ann = node.member()
    node.say("one")
    assert ann.heard() == []
    node.relay.answer()  # the room's question
    node.relay.answer()  # ann's
    assert ann.heard() == ["one"]
    node.relay.holding = False
    node.say("two")
    assert ann.heard() == ["two"]
    ann.leave()


@pytest.mark.parametrize("newest", [0, 1])
@pytest.mark.parametrize("answers_before", [0, 1])
def test_what_is_said_before_the_answers_is_in_them_and_not_lost(node: Node, newest: int, answers_before: int) -> None:
    node.say("zero")
    node.relay.holding = True
    ann = node.member(newest=newest)
    for _ in range(answers_before):
        node.relay.answer()
    node.say("one")
    node.say("two")
    node.relay.answer_all()
    assert ann.heard() == ["one", "two"], "with both, it has the newest one too"
    node.relay.holding = False
    node.say("three")
    assert ann.heard() == ["three"]
    ann.leave()


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from(["join", "join", "newest", "say", "read", "answer", "fail", "retry"]), max_size=25))
def test_members_hear_all_that_is_said_after_they_joined(steps: list[str]) -> None:
    node = Node()
    node.relay.holding = True
    said: list[str] = ["before"]
    node.say("before")
    members: list[tuple[Member, int, int]] = []
    for step in steps:
        match step:
            case "join" | "newest":
                newest = 2 if step == "newest" else 0
                members.append((node.member(newest=newest), len(said), newest))
            case "say":
                said.append(f"{len(said)}")
                node.say(said[-1])
            case "read":
                node.relay.read()
            case "answer":
                node.relay.answer()
            case "fail":
                node.relay.fail(ChatError(Reason.TRY_AGAIN, "busy"))
            case "retry":
                node.clock.advance(RETRY[1])
    node.relay.holding = False
    node.relay.answer_all()
    node.clock.advance(RETRY[1])
    for member, joined, newest in members:
        heard = member.heard()
        assert heard == said[len(said) - len(heard) :], "in order, without a gap, nothing twice"
        since = len(said) - joined
        assert since <= len(heard) <= since + newest
        member.leave()
    node.relay.stop()
    node.clock.advance(0)
    assert not node.clock.getDelayedCalls()


def test_a_history_that_fails_is_asked_again(node: Node) -> None:
    node.relay.holding = True
    ann = node.member(newest=5)
    node.relay.fail(ChatError(Reason.TRY_AGAIN, "busy"))
    node.relay.fail(ChatError(Reason.TRY_AGAIN, "busy"))
    node.say("one")
    node.relay.holding = False
    assert ann.heard() == []
    node.clock.advance(RETRY[0] / 2)
    assert len(node.relay.asked) == 2, "not at once"
    node.clock.advance(RETRY[1])
    # In one order or the other: the times are chosen to spread many of them out.
    assert {question for _, question in node.relay.asked[2:]} == {Newest(0), Newest(5)}
    assert ann.heard() == ["one"]
    ann.leave()


def test_who_leaves_meanwhile_is_not_asked_for(node: Node) -> None:
    node.relay.holding = True
    before = list(node.clock.getDelayedCalls())
    ann = node.member(newest=5)
    node.relay.fail(ChatError(Reason.TRY_AGAIN, "busy"))
    assert len(node.clock.getDelayedCalls()) == len(before) + 1
    ann.leave()
    node.relay.fail(ChatError(Reason.TRY_AGAIN, "busy"))
    assert node.clock.getDelayedCalls() == before
    node.relay.holding = False
    node.clock.advance(5)
    assert (len(node.relay.asked), ann.heard()) == (2, [])


def test_an_answer_for_a_room_that_is_gone_is_nothing(node: Node) -> None:
    node.say("one")
    node.relay.holding = True
    ann = node.member(newest=1)
    ann.leave()
    bob = node.member(newest=1)
    for _ in range(4):
        node.relay.answer()
    assert ann.heard() == []
    assert bob.heard() == ["one"]
    bob.leave()


def test_a_gap_is_filled_from_the_history(node: Node) -> None:
    ann = node.member()
    node.say("one")
    node.relay.deaf = True
    node.say("lost")
    node.relay.deaf = False
    assert ann.heard() == ["one"]
    node.say("three")
    assert ann.heard() == ["lost", "three"]
    ann.leave()


def test_the_last_one_lost_is_found_by_a_comparison(node: Node) -> None:
    ann = node.member()
    node.relay.deaf = True
    node.say("lost")
    asked = len(node.relay.asked)
    node.hub.top("lobby", node.top())
    assert ann.heard() == ["lost"]
    node.hub.top("lobby", node.top())
    assert len(node.relay.asked) == asked + 1, "one who has everything asks for nothing"
    ann.leave()


def test_through_an_interruption(node: Node) -> None:
    ann, bob = node.member(), node.member("elsewhere")
    first = node.say("one")
    node.say("one", "elsewhere")
    assert (ann.heard(), bob.heard()) == (["one"], ["one"])
    node.hub.interrupted()
    node.relay.deaf = True
    node.say("two")
    node.say("two", "elsewhere")
    node.relay.deaf = False
    node.say("three")
    assert ann.heard() == [], "nothing is delivered before its place is proven"
    node.hub.resumed()
    assert (ann.heard(), bob.heard()) == (["two", "three"], ["two"])
    assert ("lobby", Since(first, 200)) in node.relay.asked
    ann.leave()
    bob.leave()


def test_an_interruption_of_some_rooms(node: Node) -> None:
    ann, bob = node.member(), node.member("elsewhere")
    node.hub.interrupted(["lobby", "unknown"])
    node.say("hi")
    node.say("hi", "elsewhere")
    assert (ann.heard(), bob.heard()) == ([], ["hi"])
    asked = len(node.relay.asked)
    node.hub.resumed(["lobby", "unknown"])
    assert [room for room, _ in node.relay.asked[asked:]] == ["lobby"]
    assert ann.heard() == ["hi"]
    ann.leave()
    bob.leave()


def test_an_answer_from_before_an_interruption_is_void(node: Node) -> None:
    node.say("zero")
    ann = node.member()
    node.relay.holding = True
    node.hub.resumed()  # asks
    node.relay.read()
    node.hub.interrupted()
    node.relay.deaf = True
    node.say("one")
    node.relay.deaf = False
    node.relay.answer()
    node.say("two")
    assert ann.heard() == []
    node.hub.resumed()
    node.relay.answer()
    assert ann.heard() == ["one", "two"]
    ann.leave()


# A client that reads slowly


def test_history_waits_for_a_client_that_reads_slowly(node: Node) -> None:
    first = node.say("0")
    for number in range(1, 500):
        node.say(f"{number}")
    ann = node.member()  # so that the room is open
    session = Session(
        ANYONE, "lobby", address=None, rates=AddressRates(Limits().messages_per_address), limits=Limits(), now=0.0
    )
    slow = Member(node, "slow", session, frozenset())
    slow.pipe.full = True
    node.hub.join(slow.subscriber, first)
    assert slow.heard() == [f"{number}" for number in range(1, 201)], "a page"
    node.say("500")
    assert slow.heard() == []
    slow.pipe.full = False
    node.hub.resume(slow.subscriber)
    assert slow.heard() == [f"{number}" for number in range(201, 501)]
    ann.leave()
    slow.leave()
    node.hub.resume(slow.subscriber)


# Mistakes of ours


def test_an_error_in_an_answer_is_logged_and_goes_no_further(node: Node, logged_failures: Any) -> None:
    ann = node.member()
    here = node.hub.rooms["lobby"]

    def broken(history: History | None) -> None:
        raise ZeroDivisionError

    here.ask(Newest(1), broken)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    node.say("hi")
    assert ann.heard() == ["hi"]
    ann.leave()


def test_the_proof_of_a_history_is_what_the_room_says(node: Node) -> None:
    found: list[History] = []
    position = node.say("one")
    node.hub.history("lobby", Since(position, 10)).addCallback(found.append)
    assert (found[0].proof, found[0].top, found[0].publications) == (Proof.COMPLETE, position, ())
