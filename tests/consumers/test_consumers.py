"""Messages, channels, groups, sessions, decorators and classes, as a consumer meets them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_chat.consumers import (
    Channel,
    ChannelSession,
    Group,
    Message,
    WebsocketConsumer,
    allowed_hosts_only,
    channel_session,
    enforce_ordering,
    route,
)
from twisted_chat.consumers.generic import BaseConsumer
from twisted_chat.testing import Consumers

Seen = list[Message]


@pytest.fixture
def seen() -> Seen:
    return []


def accepting(message: Message) -> None:
    message.reply_channel.send({"accept": True})  # type: ignore[union-attr]


# Messages


def test_a_message_is_like_its_content(seen: Seen) -> None:
    Consumers({"mine": seen.append}).send("mine", {"a": 1, "b": None})
    [message] = seen
    assert (message["a"], message.get("b", 2), message.get("c", 3)) == (1, None, 3)
    assert "a" in message
    assert "c" not in message
    assert list(message.keys()) == ["a", "b"]
    assert dict(message.items()) == message.content == {"a": 1, "b": None}
    assert list(message.values()) == [1, None]
    assert message.reply_channel is None
    assert message.channel == Channel("mine")
    message["a"] = 5
    assert message.copy()["a"] == 5


def test_headers_and_cookies(seen: Seen) -> None:
    consumers = Consumers({"websocket.connect": seen.append})
    consumers.connect(headers={"Cookie": "a=1; b=2", "X-Some": "thing"})
    consumers.connect(headers={"Cookie": "a=1; =; \x00"})
    assert seen[0].cookies == {"a": "1", "b": "2"}
    assert seen[0].header("x-some") == "thing"
    assert seen[0].header("nothing") is None
    assert "b" not in seen[1].cookies, "and what is no cookie raises nothing"


# Channels and groups


@pytest.mark.parametrize("name", ["", "a b", "ü", "a" * 100, "a!b!c", None, 7])
def test_names_that_channels_may_not_have(name: Any) -> None:
    with pytest.raises(TypeError, match="is no name of a channel"):
        Channel(name)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a!b", b"a"])
def test_names_that_groups_may_not_have(name: Any) -> None:
    with pytest.raises(TypeError, match="is no name of a group"):
        Group(name)


def test_nothing_is_sent_where_no_consumers_run() -> None:
    with pytest.raises(RuntimeError, match="no consumers run in this process"):
        Group("a").send({"text": "x"})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"text": b"x"}, TypeError),
        ({"bytes": "x"}, TypeError),
        ({"close": 1}, ValueError),
        ({"close": 1001}, ValueError),
        ({"close": "yes"}, ValueError),
        ({"text": "x", "more": object()}, TypeError),
        ("x", TypeError),
    ],
)
def test_what_cannot_be_said_to_a_client(content: Any, error: type[Exception]) -> None:
    with Consumers({"websocket.connect": accepting}), pytest.raises(error):
        Group("a").send(content)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"channel": "mine", "content": {}}, ValueError),
        ({"channel": "mine", "content": {}, "delay": -1}, ValueError),
        ({"channel": "mine", "content": {}, "delay": True}, ValueError),
        ({"channel": "mine", "content": {}, "delay": "10"}, ValueError),
        ({"channel": "mine", "content": {}, "delay": float("nan")}, ValueError),
        ({"channel": "mine", "content": {}, "delay": 1e15}, ValueError),
        ({"channel": "mine", "content": "x", "delay": 1}, TypeError),
        ({"channel": "mine", "delay": 1}, TypeError),
        ({"content": {}, "delay": 1}, TypeError),
        ({"channel": "asgi.delay", "content": {}, "delay": 1}, ValueError),
        ({"channel": "websocket.send!a", "content": {"text": b"x"}, "delay": 1}, TypeError),
    ],
)
def test_what_cannot_be_sent_later(content: Any, error: type[Exception]) -> None:
    with Consumers({"mine": accepting}) as consumers:
        with pytest.raises(error):
            Channel("asgi.delay").send(content)
        consumers.advance(1e9)
        assert not consumers.posted


def test_a_test_lets_time_go_by(seen: Seen) -> None:
    with Consumers({"mine": seen.append}) as consumers:
        Channel("asgi.delay").send({"channel": "mine", "content": {"a": b"x"}, "delay": 2500})
        consumers.advance(2)
        assert not seen
        consumers.advance(0.5)
        assert seen[0].content == {"a": b"x"}
        assert [channel for channel, _ in consumers.posted] == ["asgi.delay", "mine"]


def test_members_of_groups_are_clients() -> None:
    with Consumers({"websocket.connect": accepting}), pytest.raises(TypeError, match="not the channel of a client"):
        Group("a").add("mine")


def test_code_outside_of_consumers_sends_at_once() -> None:
    with Consumers({"websocket.connect": accepting}) as consumers:
        client = consumers.connect()
        Group("a").add(f"websocket.send!{client.name}")
        Group("a").add(f"websocket.send!{client.name}")
        Group("a").send({"text": "once"})
        Channel(f"websocket.send!{client.name}").send({"text": "more"})
        assert [client.receive(), client.receive()] == ["once", "more"]
        assert consumers.group("a") == {client}
        Group("a").discard(f"websocket.send!{client.name}")
        Group("a").send({"text": "not to it"})
        assert not client.messages


def test_who_left_is_in_no_group() -> None:
    with Consumers({"websocket.connect": accepting}) as consumers:
        client = consumers.connect()
        Group("a").add(f"websocket.send!{client.name}")
        client.disconnect()
        assert consumers.group("a") == set()


# Sessions


def test_a_session_lives_as_long_as_the_connection() -> None:
    said: list[Any] = []

    @channel_session
    def count(message: Message) -> None:
        message.channel_session["list"] = [*message.channel_session.get("list", []), message["order"]]
        said.append(message.channel_session["list"])

    @channel_session
    def connect(message: Message) -> None:
        accepting(message)
        message.channel_session.setdefault("list", [])

    routing = {"websocket.connect": connect, "websocket.receive": count, "websocket.disconnect": count}
    consumers = Consumers(routing)
    first, second = consumers.connect(), consumers.connect()
    for client in (first, second, first):
        client.send("x")
    assert said == [[1], [1], [1, 2]]
    first.disconnect()
    assert said[-1] == [1, 2, 3]
    assert dict(first.session) == {}


def test_a_session_is_kept_when_the_consumer_raises() -> None:
    @channel_session
    def fail(message: Message) -> None:
        message.channel_session["deep"] = {"a": [1]}
        raise LookupError("told to")

    client = Consumers({"websocket.connect": accepting, "websocket.receive": fail}).connect()
    with pytest.raises(LookupError):
        client.send("x")
    assert dict(client.session) == {"deep": {"a": [1]}}


def test_a_session_holds_what_json_knows() -> None:
    @channel_session
    def fail(message: Message) -> None:
        message.channel_session["thing"] = object()
        message.reply_channel.send({"text": "never"})  # type: ignore[union-attr]

    client = Consumers({"websocket.connect": accepting, "websocket.receive": fail}).connect()
    with pytest.raises(TypeError, match="JSON does not know"):
        client.send("x")
    assert not client.messages


def test_changes_within_a_value_are_seen() -> None:
    session = ChannelSession(b'{"a":[1]}')
    assert session.changed() is None
    session["a"].append(2)
    assert session.changed() == b'{"a":[1,2]}'
    session.flush()
    assert session.changed() == b"{}"


def test_there_is_no_session_without_a_client() -> None:
    with pytest.raises(ValueError, match="has no reply_channel"):
        Consumers({"mine": channel_session(accepting)}).send("mine", {})


# Decorators


def test_ordering_needs_nothing() -> None:
    assert enforce_ordering(accepting) is accepting
    assert enforce_ordering(slight=True)(accepting) is accepting


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://testserver:1"}, None),
        ({"Origin": "https://elsewhere"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_allowed_hosts(headers: dict[str, str], status: int | None) -> None:
    client = Consumers({"websocket.connect": allowed_hosts_only(accepting)}).connect(headers=headers)
    assert (client.accepted, client.close_code) == (status is None, status)


# Coroutines


def test_a_coroutine_that_waits_does_not_hold_others_up() -> None:
    waiting: list[Deferred[str]] = []

    @channel_session
    async def slow(message: Message) -> None:
        waiting.append(Deferred())
        message.channel_session["said"] = await waiting[-1]
        message.reply_channel.send({"text": message["text"]})  # type: ignore[union-attr]

    consumers = Consumers({"websocket.receive": slow})
    first, second = consumers.connect(), consumers.connect()
    for client in (first, second):
        client.send("a")
        client.send("b")
    assert len(waiting) == 2, "one of each client at a time"
    waiting[1].callback("x")
    assert second.receive() == "a"
    assert dict(second.session) == {"said": "x"}
    assert not first.messages
    waiting[0].callback("y")
    waiting[2].callback("z")
    waiting[3].callback("z")
    assert [second.receive(), first.receive(), first.receive()] == ["b", "a", "b"]
    assert consumers.idle().called


# Classes


def test_a_class_for_channels_of_ones_own() -> None:
    said: list[str] = []

    class Mine(BaseConsumer):
        method_mapping = {"a": "on_a", "b": "on_b"}  # noqa: RUF012 - as people write it

        def on_a(self, message: Message, **kwargs: str) -> None:
            said.append(f"a {message['x']} {kwargs} {self.kwargs}")

        def on_b(self, message: Message, **kwargs: str) -> None:
            said.append("b")

    consumers = Consumers([Mine.as_route(x="(?P<x>.*)")])
    consumers.send("a", {"x": "1"})
    consumers.send("b", {"x": ""})
    assert said == ["a 1 {'x': '1'} {'x': '1'}", "b"]


def test_a_class_with_other_attributes() -> None:
    class Mine(WebsocketConsumer):
        groups = ("a",)

    consumers = Consumers([Mine.as_route(attrs={"groups": ["b"]}, path="/b"), Mine.as_route()])
    first, second = consumers.connect("/b"), consumers.connect("/a")
    assert consumers.group("b") == {first}
    assert consumers.group("a") == {second}


def test_a_class_is_told_what_to_send() -> None:
    class Mine(WebsocketConsumer):
        def receive(self, text: str | None = None, bytes: bytes | None = None, **kwargs: Any) -> None:  # noqa: A002
            self.send()

    client = Consumers([route("websocket.connect", accepting), Mine.as_route()]).connect()
    with pytest.raises(ValueError, match="send text or bytes"):
        client.send("x")
