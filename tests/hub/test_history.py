"""Rooms whose history answers late, not at all, or through an interruption."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hub.conftest import Member, Node
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Since
from twisted_chat.hub import RETRY


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
    slow = node.outsider()
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
