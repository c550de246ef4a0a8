"""Rooms and members on a node: who is there, and who hears what."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.conftest import Node
from twisted_chat.core.errors import Reason
from twisted_chat.core.publication import History, Newest, Position, Proof, Publication, Since
from twisted_chat.wire.formats import Event


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
    node.outsider().leave()
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


# Mistakes of ours


def test_an_error_in_an_answer_is_logged_and_goes_no_further(node: Node, logged_failures: Any) -> None:
    ann = node.member()
    here = node.hub.rooms["lobby"]

    def broken(history: History | None) -> None:
        raise ZeroDivisionError

    here.archive.ask(Newest(1), broken)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    node.say("hi")
    assert ann.heard() == ["hi"]
    ann.leave()


def test_the_proof_of_a_history_is_what_the_room_says(node: Node) -> None:
    found: list[History] = []
    position = node.say("one")
    node.hub.history("lobby", Since(position, 10)).addCallback(found.append)
    assert (found[0].proof, found[0].top, found[0].publications) == (Proof.COMPLETE, position, ())


def test_how_old_messages_are_when_they_come_and_when_they_are_written(node: Node) -> None:
    def seconds(name: str) -> float | None:
        return node.metrics.registry.get_sample_value(f"twisted_chat_{name}_seconds_sum")

    ann, bob = node.member(), node.member("kitchen")
    position = node.say("now")
    late = Publication(Position(position.epoch, 2, position.tag + 1), position.tag, b"late")
    node.clock.advance(3)
    assert ann.heard() == ["now"]
    assert (seconds("relay_lag"), seconds("delivery")) == pytest.approx((0.0, 3.0), abs=0.01)
    node.hub.deliver("lobby", late)
    node.clock.advance(1)
    assert ann.heard() == ["late"]
    assert seconds("relay_lag") == pytest.approx(3.0, abs=0.01)
    assert seconds("delivery") == pytest.approx(3.0 + 4.0, abs=0.01)
    assert bob.heard() == []
