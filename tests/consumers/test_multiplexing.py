"""Streams over one WebSocket: who is told what, and what goes wrong."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_chat.consumers import (
    BaseConsumer,
    Channel,
    DenyConnection,
    Group,
    JsonWebsocketConsumer,
    Message,
    SendNotAvailableOnDemultiplexer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)
from twisted_chat.consumers.errors import BadFrameError
from twisted_chat.testing import Client, Consumers


def routed(streams: dict[str, Any], **attributes: Any) -> Consumers:
    made = type("Demultiplexer", (WebsocketDemultiplexer,), {"consumers": streams, **attributes})
    return Consumers([made.as_route(path=r"^/path/(?P<id>\d+)")])  # type: ignore[attr-defined]  # of its base


def say(client: Client, stream: str, payload: Any) -> None:
    client.send(json={"stream": stream, "payload": payload})


class Telling(JsonWebsocketConsumer):
    """What Channels' own test of it is about."""

    def connection_groups(self, **kwargs: Any) -> list[str]:
        return [f"{kwargs['multiplexer'].stream}-{kwargs['id']}"]

    def connect(self, message: Message, multiplexer: Any = None, **kwargs: Any) -> None:
        multiplexer.send(kwargs)

    def disconnect(self, message: Message, multiplexer: Any = None, **kwargs: Any) -> None:
        multiplexer.group_send("watch", multiplexer.stream, kwargs)

    def receive(self, content: Any = None, multiplexer: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        multiplexer.send(content)


def test_connect_and_disconnect_reach_all_and_a_frame_the_one_of_its_stream() -> None:
    consumers = routed({"mine": Telling, "other": Telling})
    client, watcher = consumers.connect("/path/1"), consumers.connect("/path/2")
    assert client.accepted
    assert [client.receive_json() for _ in range(2)] == [
        {"stream": "mine", "payload": {"id": "1"}},
        {"stream": "other", "payload": {"id": "1"}},
    ]
    assert consumers.group("mine-1") == consumers.group("other-1") == {client}
    say(client, "other", {"text": "ü"})
    assert client.receive_json() == {"stream": "other", "payload": {"text": "ü"}}
    assert not client.messages
    watcher.messages.clear()
    with consumers:
        Group("watch").add(f"websocket.send!{watcher.name}")
    client.disconnect()
    assert [watcher.receive_json()["stream"] for _ in range(2)] == ["mine", "other"]
    assert consumers.group("mine-1") == set()


@pytest.mark.parametrize(
    "frame",
    [
        '{"stream": "mine"}',
        '{"payload": {}}',
        '{"stream": "mine", "payload": "text"}',
        '{"stream": ["mine"], "payload": {}}',
        '{"stream": "nobody\'s", "payload": {}}',
        "[]",
        "no JSON",
    ],
)
def test_a_frame_of_no_stream_is_a_mistake_of_the_client(frame: str) -> None:
    client = routed({"mine": Telling}).connect("/path/1")
    client.messages.clear()
    with pytest.raises(BadFrameError):
        client.send(frame)
    say(client, "mine", {"still": "here"})
    assert client.receive_json()["payload"] == {"still": "here"}


def test_who_sends_without_a_stream_is_told_so() -> None:
    class Careless(JsonWebsocketConsumer):
        def connect(self, message: Message, **kwargs: Any) -> None:
            """Says nothing."""

        def receive(self, content: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
            self.send(content)

    client = routed({"mine": Careless}).connect("/path/1")
    with pytest.raises(SendNotAvailableOnDemultiplexer, match=r"multiplexer\.send"):
        say(client, "mine", {})
    with pytest.raises(SendNotAvailableOnDemultiplexer, match=r"WebsocketMultiplexer\.group_send"):
        WebsocketDemultiplexer.group_send("a", "mine", {})
    # On its own, without streams, it sends as before.
    alone = Consumers([Careless.as_route(path="/")])
    with alone:
        client = alone.connect()
        Channel(f"websocket.send!{client.name}").send({"accept": True})
        client.send("[1]")
    assert client.receive_json() == [1]


def test_a_group_is_sent_to_on_a_stream_and_may_be_closed() -> None:
    consumers = routed({"mine": Telling})
    client = consumers.connect("/path/1")
    client.messages.clear()
    with consumers:
        WebsocketMultiplexer.group_send("mine-1", "mine", [1, 2])
        WebsocketMultiplexer.group_send("mine-1", "mine", "bye", close=True)
    assert [client.receive_json()["payload"] for _ in range(2)] == [[1, 2], "bye"]
    assert client.close_code == 1000


def test_consumers_may_be_functions_and_classes_of_any_kind() -> None:
    def function(message: Message, multiplexer: Any, id: str) -> None:  # noqa: A002 - the route's name
        multiplexer.send({"channel": message.channel.name, "id": id})

    class Base(BaseConsumer):
        method_mapping = {  # noqa: RUF012 - as people write it
            "websocket.connect": "nothing",
            "websocket.receive": "answer",
            "websocket.disconnect": "nothing",
        }

        def nothing(self, message: Message, **kwargs: Any) -> None:
            """For this."""

        def answer(self, message: Message, multiplexer: Any, **kwargs: Any) -> None:
            multiplexer.send(json.loads(message["text"]))

    client = routed({"function": function, "base": Base}).connect("/path/7")
    assert client.receive_json()["payload"] == {"channel": "websocket.connect", "id": "7"}
    say(client, "function", {"a": 1})
    assert client.receive_json()["payload"] == {"channel": "websocket.receive", "id": "7"}
    say(client, "base", {"a": 1})
    assert client.receive_json() == {"stream": "base", "payload": {"a": 1}}


def test_json_may_be_coded_in_other_ways() -> None:
    class Shouting(JsonWebsocketConsumer):
        @classmethod
        def decode_json(cls, text: str) -> Any:
            return {key.upper(): value for key, value in json.loads(text).items()}

        def connect(self, message: Message, **kwargs: Any) -> None:
            """Says nothing."""

        def receive(self, content: Any = None, multiplexer: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
            multiplexer.send({**content, "id": uuid.UUID(int=1)})

    class Multiplexer(WebsocketMultiplexer):
        @classmethod
        def encode_json(cls, content: Any) -> str:
            return json.dumps(content, default=str)

    client = routed({"mine": Shouting}, multiplexer_class=Multiplexer).connect("/path/1")
    say(client, "mine", {"key": "value"})
    assert client.receive_json()["payload"] == {"KEY": "value", "id": str(uuid.UUID(int=1))}
    client = routed({"mine": Shouting}).connect("/path/1")
    with pytest.raises(TypeError, match="UUID"):
        say(client, "mine", {})


class Waiting(Telling):
    """With coroutines."""

    waiting: Deferred[None]

    async def connect(self, message: Message, multiplexer: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        await self.waiting
        multiplexer.send("came")


def test_coroutines_are_run_one_after_the_other() -> None:
    first, second = Deferred[None](), Deferred[None]()
    streams = {
        "first": type("First", (Waiting,), {"waiting": first}),
        "plain": Telling,
        "second": type("Second", (Waiting,), {"waiting": second}),
    }
    consumers = routed(streams)
    client = consumers.connect("/path/1")
    second.callback(None)
    assert not client.accepted
    first.callback(None)
    assert consumers.idle().called
    assert [client.receive_json()["stream"] for _ in range(3)] == ["plain", "first", "second"]


def test_one_that_refuses_refuses_for_all() -> None:
    class Refusing(JsonWebsocketConsumer):
        def connect(self, message: Message, **kwargs: Any) -> None:
            raise DenyConnection

    waits = type("Waits", (Waiting,), {"waiting": Deferred()})
    client = routed({"mine": Telling, "waits": waits, "refusing": Refusing}).connect("/path/1")
    assert (client.accepted, client.close_code) == (False, 403)
    assert not client.messages
