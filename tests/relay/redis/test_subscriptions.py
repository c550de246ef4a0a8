"""Which rooms are listened to, whatever becomes of the link."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.relay.redis.conftest import Connect, Peer, Watch
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.protocol import SubscriberProtocol
from twisted_chat.relay.redis.subscriptions import SLICE, Subscriptions


class Listener:
    """`Subscriptions`, and what they tell; `pace` lets the next slice of rooms go."""

    def __init__(self, clock: Clock, connect: Connect) -> None:
        self.told: list[tuple[str, list[str]]] = []
        self.paced: list[Deferred[None]] = []
        self._clock = clock
        self._connect = connect
        self.subscriptions = Subscriptions(
            Names(),
            b"inbox",
            interrupted=lambda rooms: self.told.append(("interrupted", rooms)),
            resumed=lambda rooms: self.told.append(("resumed", rooms)),
            paced=self._pace,
        )

    def link(self) -> Peer:
        """A new one, on which nothing was confirmed."""
        peer = self._connect(SubscriberProtocol(self._clock, LinkLimits(), print))
        self.subscriptions.up(peer.protocol)
        return peer

    def lose(self, peer: Peer) -> None:
        peer.transport.lose()
        self.subscriptions.down()

    def take(self) -> list[tuple[str, list[str]]]:
        told, self.told = self.told, []
        return told

    def pace(self) -> None:
        self.paced.pop(0).callback(None)

    def _pace(self) -> Deferred[None]:
        self.paced.append(Deferred())
        return self.paced[-1]


@pytest.fixture
def listener(clock: Clock, connect: Connect) -> Listener:
    return Listener(clock, connect)


def channel(room: str) -> bytes:
    return b"twisted_chat:0:{%b}" % room.encode()


def confirm(peer: Peer) -> list[list[bytes]]:
    """Everything that was asked; that it was."""
    commands = peer.commands()
    for verb, *channels in commands:
        for name in channels:
            peer.say(b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % (len(verb), verb.lower(), len(name), name))
    return commands


def pending(listener: Listener, room: str, watch: Watch) -> Any:
    waiting = listener.subscriptions.confirmed(room)
    assert waiting is not None
    return watch(waiting)


def test_rooms_are_remembered_until_there_is_a_link(listener: Listener) -> None:
    for room in "abc":
        listener.subscriptions.add(room)
    listener.subscriptions.remove("b")
    assert listener.subscriptions.confirmed("a") is None, "it will be told to ask again"
    peer = listener.link()
    assert not listener.subscriptions.live
    assert listener.take() == []
    assert confirm(peer) == [[b"SUBSCRIBE", b"inbox", channel("a"), channel("c")]]
    assert listener.subscriptions.live
    assert listener.take() == [("resumed", ["a", "c"])]


def test_a_room_is_waited_for_until_it_is_confirmed(listener: Listener, watch: Watch) -> None:
    peer = listener.link()
    confirm(peer)
    listener.subscriptions.add("a")
    waiting = [pending(listener, "a", watch), pending(listener, "a", watch)]
    assert listener.subscriptions.confirmed("b") is None
    assert waiting[0].pending
    assert confirm(peer) == [[b"SUBSCRIBE", channel("a")]]
    assert [outcome.results for outcome in waiting] == [[None], [None]]
    assert listener.subscriptions.confirmed("a") is None
    assert listener.take() == []


def test_a_room_that_left_and_came_back_waits_for_its_last_confirmation(listener: Listener, watch: Watch) -> None:
    peer = listener.link()
    confirm(peer)
    listener.subscriptions.add("a")
    first = pending(listener, "a", watch)
    listener.subscriptions.remove("a")
    assert not first.pending, "nobody will wait for it any more"
    listener.subscriptions.add("a")
    second = pending(listener, "a", watch)
    name = channel("a")
    peer.say(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(name), name))
    peer.say(b"*3\r\n$11\r\nunsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(name), name))
    assert second.pending
    peer.say(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(name), name))
    assert second.results == [None]


def test_a_room_that_comes_while_others_are_resumed_waits_for_its_own_confirmation(
    listener: Listener, watch: Watch
) -> None:
    peer = listener.link()
    listener.subscriptions.add("late")
    [first, second] = peer.commands()
    assert first == [b"SUBSCRIBE", b"inbox"]
    peer.say(b"*3\r\n$9\r\nsubscribe\r\n$5\r\ninbox\r\n:1\r\n")
    assert listener.take() == [("resumed", ["late"])]
    waiting = pending(listener, "late", watch)
    peer.say(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(second[1]), second[1]))
    assert waiting.results == [None]


def test_a_lost_link_is_told_and_who_waits_waits_no_longer(listener: Listener, watch: Watch) -> None:
    peer = listener.link()
    listener.subscriptions.add("a")
    confirm(peer)
    listener.take()
    listener.subscriptions.add("b")
    waiting = pending(listener, "b", watch)
    listener.lose(peer)
    assert listener.take() == [("interrupted", ["a", "b"])]
    assert waiting.results == [None]
    assert listener.subscriptions.confirmed("b") is None
    peer = listener.link()
    assert confirm(peer) == [[b"SUBSCRIBE", b"inbox", channel("a"), channel("b")]]
    assert listener.take() == [("resumed", ["a", "b"])]


def test_a_link_that_is_lost_before_it_was_of_any_use_interrupts_nothing(listener: Listener) -> None:
    listener.subscriptions.add("a")
    peer = listener.link()
    listener.lose(peer)
    assert listener.take() == []
    confirm(listener.link())
    assert listener.take() == [("resumed", ["a"])]


def test_adding_and_removing_again_changes_nothing(listener: Listener) -> None:
    peer = listener.link()
    confirm(peer)
    for _ in range(2):
        listener.subscriptions.add("a")
    for _ in range(2):
        listener.subscriptions.remove("a")
    assert peer.commands() == [[b"SUBSCRIBE", channel("a")], [b"UNSUBSCRIBE", channel("a")]]


def test_many_rooms_are_resumed_slice_by_slice(listener: Listener) -> None:
    rooms = [str(number) for number in range(2 * SLICE + 1)]
    for room in rooms:
        listener.subscriptions.add(room)
    confirm(listener.link())
    for part in (rooms[:SLICE], rooms[SLICE : 2 * SLICE], rooms[2 * SLICE :]):
        assert listener.take() == [("resumed", part)]
        listener.pace()
    assert listener.take() == []


def test_the_rest_is_not_resumed_on_a_link_that_is_lost(listener: Listener) -> None:
    rooms = [str(number) for number in range(SLICE + 1)]
    for room in rooms:
        listener.subscriptions.add(room)
    peer = listener.link()
    confirm(peer)
    listener.lose(peer)
    assert [what for what, _ in listener.take()] == ["resumed", "interrupted"]
    confirm(listener.link())
    assert [len(part) for _, part in listener.take()] == [SLICE]
    listener.pace()  # of the first link
    assert listener.take() == []
    listener.pace()
    assert [len(part) for _, part in listener.take()] == [1]
