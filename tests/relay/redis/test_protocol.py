"""One connection: commands and replies in order, bounds, and how its end is noticed and told."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from txredisapi import ResponseError

from tests.conftest import LoggedFailures
from tests.relay.redis.conftest import Connect, Peer, Watch
from twisted_chat.relay.redis.errors import LinkDownError, LinkFullError, LinkLostError
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.protocol import CHANNELS, SubscriberProtocol, encode

# Commands


def test_commands_are_bytes_text_and_integers(connect: Connect) -> None:
    peer = connect()
    peer.protocol.execute_command("SET", b"\x00\r\n", "schlüssel", 7, -1)
    assert peer.commands() == [[b"SET", b"\x00\r\n", "schlüssel".encode(), b"7", b"-1"]]


@pytest.mark.parametrize("argument", [None, 1.5, ["x"]])
def test_anything_else_is_a_mistake_and_not_turned_into_text(argument: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        encode(("SET", "key", argument))


def test_replies_answer_the_commands_in_their_order(connect: Connect, watch: Watch) -> None:
    peer = connect()
    outcomes = [watch(peer.protocol.execute_command("GET", number)) for number in range(3)]
    peer.say(b"$3\r\n007\r\n:7\r\n", b"*2\r\n$2\r\n42\r\n$-1\r\n")
    assert [outcome.results for outcome in outcomes] == [[b"007"], [7], [[b"42", None]]]


def test_an_error_reply_fails_its_command_alone(connect: Connect, watch: Watch) -> None:
    peer = connect()
    first, second = watch(peer.protocol.execute_command("INCR", "x")), watch(peer.protocol.ping())
    peer.say(b"-WRONGTYPE Operation against a key\r\n+PONG\r\n")
    assert isinstance(first.errors[0], ResponseError)
    assert str(first.errors[0]) == "WRONGTYPE Operation against a key"
    assert second.results == [b"PONG"]


def test_a_command_that_its_caller_gave_up_keeps_its_place(connect: Connect, watch: Watch) -> None:
    peer = connect()
    given_up = peer.protocol.execute_command("GET", 1)
    waiting, after = watch(given_up), watch(peer.protocol.execute_command("GET", 2))
    given_up.cancel()
    assert not waiting.pending
    peer.say(b":1\r\n", b":2\r\n")
    assert after.results == [2]


def test_commands_of_txredisapi_process_their_replies(connect: Connect, watch: Watch) -> None:
    peer = connect()
    outcome = watch(peer.protocol.hgetall("key"))
    peer.say(b"*2\r\n$1\r\na\r\n$1\r\n1\r\n")
    assert outcome.results == [{b"a": b"1"}]


def test_what_waits_is_bounded_and_the_rest_refused_unsent(connect: Connect, watch: Watch) -> None:
    peer = connect(commands=2)
    sent = [watch(peer.protocol.ping()) for _ in range(2)]
    assert isinstance(watch(peer.protocol.ping()).errors[0], LinkFullError)
    assert len(peer.commands()) == 2
    peer.say(b"+PONG\r\n")
    assert watch(peer.protocol.ping()).pending
    assert sent[0].results == [b"PONG"]


def test_what_waits_is_bounded_in_bytes_but_one_of_any_size_is_sent(connect: Connect, watch: Watch) -> None:
    peer = connect(command_bytes=100)
    assert watch(peer.protocol.execute_command("SET", "k", b"x" * 1_000)).pending
    assert isinstance(watch(peer.protocol.ping()).errors[0], LinkFullError)
    peer.say(b"+OK\r\n")
    assert watch(peer.protocol.ping()).pending


def test_small_packets_are_not_held_back(connect: Connect) -> None:
    assert connect().transport.options == ["no delay", "keep alive"]


# The end


def test_commands_under_way_are_lost_and_later_ones_not_sent(connect: Connect, watch: Watch) -> None:
    peer = connect()
    lost = watch(peer.protocol.lost)
    first = watch(peer.protocol.ping())
    peer.transport.lose(ConnectionLost("a cable"))
    assert isinstance(first.errors[0], LinkLostError)
    assert isinstance(watch(peer.protocol.ping()).errors[0], LinkDownError)
    assert "a cable" in lost.results[0]
    assert peer.protocol.closed.called


def test_whoever_asks_again_when_it_fails_finds_a_dead_link(connect: Connect, watch: Watch) -> None:
    peer = connect()
    again: list[Any] = []
    for _ in range(3):
        peer.protocol.ping().addErrback(lambda _: again.append(watch(peer.protocol.ping())))
    peer.protocol.drop("enough")
    assert [type(outcome.errors[0]) for outcome in again] == [LinkDownError] * 3
    assert peer.transport.gone


def test_replies_after_the_end_are_nobodys(connect: Connect, watch: Watch) -> None:
    peer = connect()
    first, second = peer.protocol.ping(), watch(peer.protocol.ping())
    first.addCallback(lambda _: peer.protocol.drop("enough"))
    peer.say(b"+PONG\r\n+PONG\r\n+PONG\r\n")
    assert isinstance(second.errors[0], LinkLostError)


def test_a_replica_is_left_at_once(connect: Connect, watch: Watch) -> None:
    peer = connect()
    lost = watch(peer.protocol.lost)
    written, other = watch(peer.protocol.execute_command("SET", "k", "v")), watch(peer.protocol.ping())
    peer.say(b"-READONLY You can't write against a read only replica.\r\n")
    assert peer.transport.gone
    assert isinstance(written.errors[0], ResponseError)
    assert isinstance(other.errors[0], LinkLostError)
    assert "replica" in lost.results[0]


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", b"+PONG\r\n", b"-ERR max number of clients reached\r\n"]
)
def test_what_nobody_asked_for_ends_it(connect: Connect, watch: Watch, data: bytes) -> None:
    peer = connect()
    lost = watch(peer.protocol.lost)
    peer.say(data)
    assert peer.transport.gone
    [reason] = lost.results
    assert "protocol" in reason or "nobody waits for" in reason


# Silence


def test_an_idle_link_is_pinged(connect: Connect, clock: Clock) -> None:
    peer = connect(deadline=5.0)
    clock.pump([0.5] * 8)
    assert peer.commands() == [[b"PING"]]
    peer.say(b"+PONG\r\n")
    clock.pump([0.5] * 8)
    assert peer.commands() == [[b"PING"]]
    peer.transport.lose()


def test_a_link_that_falls_silent_is_given_up(connect: Connect, clock: Clock, watch: Watch) -> None:
    peer = connect(deadline=5.0)
    lost = watch(peer.protocol.lost)
    asked = watch(peer.protocol.execute_command("GET", "x"))
    clock.pump([0.5] * 10)
    assert asked.pending
    clock.pump([0.5] * 4)
    assert isinstance(asked.errors[0], LinkLostError)
    assert lost.results == ["no answer for 5 seconds"]
    assert clock.getDelayedCalls() == []


def test_an_idle_link_that_falls_silent_is_given_up(connect: Connect, clock: Clock, watch: Watch) -> None:
    peer = connect(deadline=5.0)
    lost = watch(peer.protocol.lost)
    clock.pump([0.5] * 20)
    assert lost.results == ["no answer for 5 seconds"]
    assert peer.transport.gone


def test_a_slow_server_is_not_a_silent_one(connect: Connect, clock: Clock, watch: Watch) -> None:
    peer = connect(deadline=5.0)
    lost = watch(peer.protocol.lost)
    outcomes = [watch(peer.protocol.execute_command("GET", number)) for number in range(10)]
    for _ in range(9):
        clock.pump([1.0] * 4)
        peer.say(b":1\r\n")
    assert lost.pending
    assert outcomes[9].pending
    peer.transport.lose()


def test_we_may_have_been_away_ourselves(connect: Connect, clock: Clock, watch: Watch) -> None:
    # A laptop wakes up: the reply may wait to be read.
    peer = connect(deadline=5.0)
    asked = watch(peer.protocol.execute_command("GET", "x"))
    clock.pump([0.5] * 4)
    clock.advance(3_600)
    assert asked.pending
    peer.say(b":1\r\n")
    assert asked.results == [1]
    peer.transport.lose()


# Subscriptions


class Heard:
    """Messages, and a handler that may fail."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []

    def __call__(self, channel: bytes, data: bytes) -> None:
        if data == b"bad":
            raise RuntimeError("what a message")
        self.messages.append((channel, data))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def subscriber(connect: Connect, clock: Clock, heard: Heard) -> Peer:
    return connect(SubscriberProtocol(clock, LinkLimits(), heard))


def bulk(*parts: bytes | int) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(
        b":%d\r\n" % part if isinstance(part, int) else b"$%d\r\n%b\r\n" % (len(part), part) for part in parts
    )


def test_a_subscription_is_confirmed_channel_by_channel(subscriber: Peer, watch: Watch, heard: Heard) -> None:
    both = watch(subscriber.protocol.subscribe([b"a", b"b"]))
    one = watch(subscriber.protocol.subscribe([b"c"]))
    assert subscriber.commands() == [[b"SUBSCRIBE", b"a", b"b"], [b"SUBSCRIBE", b"c"]]
    subscriber.say(bulk(b"subscribe", b"a", 1), bulk(b"message", b"a", b"x"))
    assert both.pending
    subscriber.say(bulk(b"subscribe", b"b", 2))
    assert both.results == [None]
    assert one.pending
    subscriber.say(bulk(b"subscribe", b"c", 3))
    assert one.results == [None]
    assert heard.messages == [(b"a", b"x")]


def test_replies_keep_their_order_among_confirmations(subscriber: Peer, watch: Watch) -> None:
    outcomes = [
        watch(subscriber.protocol.ping()),
        watch(subscriber.protocol.subscribe([b"a"])),
        watch(subscriber.protocol.ping()),
        watch(subscriber.protocol.unsubscribe([b"a"])),
        watch(subscriber.protocol.subscribe([b"a"])),
    ]
    for reply in [
        b"+PONG\r\n",
        bulk(b"subscribe", b"a", 1),
        bulk(b"pong", b""),
        bulk(b"unsubscribe", b"a", 0),
        bulk(b"subscribe", b"a", 1),
    ]:
        assert outcomes[0].pending
        subscriber.say(reply)
        assert not outcomes.pop(0).pending


def test_many_channels_are_several_commands_and_one_answer(subscriber: Peer, watch: Watch) -> None:
    channels = [b"%d" % number for number in range(2 * CHANNELS + 1)]
    outcome = watch(subscriber.protocol.subscribe(channels))
    assert [len(command) - 1 for command in subscriber.commands()] == [CHANNELS, CHANNELS, 1]
    for number, channel in enumerate(channels):
        assert outcome.pending
        subscriber.say(bulk(b"subscribe", channel, number + 1))
    assert outcome.results == [None]


def test_nothing_to_subscribe_to_is_subscribed_to(subscriber: Peer, watch: Watch) -> None:
    assert watch(subscriber.protocol.subscribe([])).results == [None]
    assert subscriber.commands() == []


def test_a_refused_subscription_ends_the_connection(subscriber: Peer, watch: Watch) -> None:
    lost = watch(subscriber.protocol.lost)
    outcome = watch(subscriber.protocol.subscribe([b"%d" % number for number in range(CHANNELS + 1)]))
    subscriber.say(b"-NOPERM this user has no permissions to access one of the channels\r\n")
    assert len(outcome.errors) == 1
    assert lost.results == ["NOPERM this user has no permissions to access one of the channels"]


def test_a_handler_that_fails_loses_no_other_message(
    subscriber: Peer, heard: Heard, logged_failures: LoggedFailures
) -> None:
    subscriber.say(bulk(b"message", b"a", b"1") + bulk(b"message", b"a", b"bad") + bulk(b"message", b"a", b"2"))
    assert heard.messages == [(b"a", b"1"), (b"a", b"2")]
    assert len(logged_failures.flush(RuntimeError)) == 1


def test_a_subscription_without_link_is_not_sent(subscriber: Peer, watch: Watch) -> None:
    subscriber.transport.lose()
    assert isinstance(watch(subscriber.protocol.subscribe([b"a"])).errors[0], LinkDownError)


def test_a_silent_subscriber_link_is_given_up(subscriber: Peer, clock: Clock, watch: Watch) -> None:
    lost, outcome = watch(subscriber.protocol.lost), watch(subscriber.protocol.subscribe([b"a"]))
    clock.pump([0.5] * 14)
    assert isinstance(outcome.errors[0], LinkLostError)
    assert not lost.pending


def test_messages_without_end_are_a_sign_of_life(subscriber: Peer, clock: Clock, watch: Watch) -> None:
    lost = watch(subscriber.protocol.lost)
    for _ in range(40):
        clock.advance(0.5)
        subscriber.say(bulk(b"message", b"a", b"x"))
    assert lost.pending
    subscriber.transport.lose()
