"""An application, as one for Channels 1 is written; what `test_behaviour.py` runs everywhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from twisted_chat.consumers import (
    Channel,
    DenyConnection,
    Group,
    JsonWebsocketConsumer,
    Message,
    WebsocketConsumer,
    WebsocketDemultiplexer,
    allowed_hosts_only,
    channel_session,
    enforce_ordering,
    include,
    on_reactor,
    route,
    route_class,
)

# The chat of the first pages of Channels' documentation.


@channel_session
def chat_connect(message: Message, room: str) -> None:
    message.reply_channel.send({"accept": True})  # type: ignore[union-attr]  # as people write it
    message.channel_session["room"] = room
    Group(f"chat-{room}").add(message.reply_channel)  # type: ignore[arg-type]
    Group(f"watch-{room}").send({"text": "came"})


@enforce_ordering
@channel_session
def chat_receive(message: Message) -> None:
    Group(f"chat-{message.channel_session['room']}").send({"text": f"{message['order']}: {message['text']}"})


@channel_session
def chat_disconnect(message: Message) -> None:
    room = message.channel_session["room"]
    Group(f"chat-{room}").discard(message.reply_channel)  # type: ignore[arg-type]
    Group(f"watch-{room}").send({"text": f"left with {message['code']}"})


# One that does what it is told.


def tool_connect(message: Message) -> None:
    client: Any = message.reply_channel
    match message["query_string"]:
        case b"refuse":
            client.send({"close": True})
        case b"deny":
            client.send({"text": "never sent"})
            raise DenyConnection
        case b"raise":
            client.send({"accept": True})
            raise LookupError("it was told to")
        case b"text":
            client.send({"text": "this accepts too"})
        case _:
            client.send({"accept": True})
            client.send({"text": json.dumps(_plain(message))})


def _plain(message: Message) -> dict[str, Any]:
    headers = {bytes(name).decode(): bytes(value).decode() for name, value in message["headers"]}
    return {
        "path": message["path"],
        "query": message["query_string"].decode(),
        "order": message["order"],
        "channel": message.channel.name,
        "cookies": message.cookies,
        "user-agent": headers.get("x-agent"),
        "client": message["client"][0],
        "keys": sorted(message.keys()),
    }


def tool_receive(message: Message) -> None:
    client: Any = message.reply_channel
    if "bytes" in message:
        client.send({"bytes": message["bytes"][::-1]})
        return
    words = message["text"].split()
    match words:
        case ["raise"]:
            client.send({"text": "never sent"})
            raise LookupError("it was told to")
        case ["raise-now"]:
            client.send({"text": "sent at once"}, immediately=True)
            raise LookupError("it was told to")
        case ["close"]:
            client.send({"text": "bye", "close": True})
        case ["close", code]:
            client.send({"close": int(code)})
        case ["later", word]:
            Channel("tool.later").send({"reply_channel": client.name, "word": word, "data": b"\x00\xff"})
            client.send({"text": "before"})
        case ["who"]:
            client.send({"text": client.name})
        case ["tell", group, word]:
            Channel("tool.tell").send({"group": group, "text": word})
        case ["delay", delay, word]:
            content = {"reply_channel": client.name, "word": word, "data": b"\x00\xff"}
            Channel("asgi.delay").send({"channel": "tool.later", "delay": int(delay), "content": content})
        case ["delay-me", delay, word]:
            content = {"text": word}
            Channel("asgi.delay").send({"channel": client.name, "delay": int(delay), "content": content})
        case ["order", group]:
            Group(group).add(client)
            client.send({"text": "1"})
            Group(group).send({"text": "2"})
            client.send({"text": "3"})
        case ["bad", kind]:
            client.send({"text": "never sent"})
            client.send({"text": b"bytes"} if kind == "text" else {"close": 12})
        case ["join", group]:
            Group(group).add(client)
            client.send({"text": "joined"})
        case ["end", group]:
            Group(group).send({"text": "the end", "close": 3001})
        case _:
            client.send({"text": message["text"]})


def tool_later(message: Message) -> None:
    message.reply_channel.send({"text": f"{message['word']} {message['data'] == bytes([0, 255])}"})  # type: ignore[union-attr]


def tool_tell(message: Message) -> None:
    Group(message["group"]).send({"text": f"{message['text']} of {message.reply_channel}"})


# Nothing answers its handshake but what Channels does by itself.


def echo(message: Message) -> None:
    message.reply_channel.send({"text": message["text"]})  # type: ignore[union-attr]


# Coroutines, and what returns a Deferred.


@channel_session
async def slow(message: Message) -> None:
    message.channel_session["seen"] = message.channel_session.get("seen", 0) + 1
    await succeed(None)
    message.reply_channel.send({"text": f"{message.channel_session['seen']} {message['text']}"})  # type: ignore[union-attr]


@on_reactor
def deferred(message: Message) -> Deferred[None]:
    def answer(_: object) -> None:
        message.reply_channel.send({"text": "in the end"})  # type: ignore[union-attr]

    return succeed(None).addCallback(answer)


# Classes.


class Room(WebsocketConsumer):
    channel_session = True

    def connection_groups(self, **kwargs: Any) -> list[str]:
        return [f"class-{kwargs['name']}"]

    def connect(self, message: Message, **kwargs: Any) -> None:
        message.channel_session["count"] = 0
        super().connect(message, **kwargs)

    def receive(self, text: str | None = None, bytes: bytes | None = None, **kwargs: Any) -> None:  # noqa: A002
        self.message.channel_session["count"] += 1
        count = self.message.channel_session["count"]
        if text == "close":
            self.close(4001)
        elif text == "mine":
            self.send(text=f"{self.path} {count}")
        else:
            said = f"{count} {text}" if text is not None else None
            self.group_send(f"class-{kwargs['name']}", text=said, bytes=bytes)

    def disconnect(self, message: Message, **kwargs: Any) -> None:
        self.group_send(f"class-{kwargs['name']}", text=f"gone {message['code']}")


class Json(JsonWebsocketConsumer):
    groups = ("json",)

    async def receive(self, content: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        self.group_send("json", {"you said": content})
        self.send([1, None, "ü"])


class Echo(JsonWebsocketConsumer):
    """The first consumer of Channels' page about streams."""

    channel_session = True

    def connect(self, message: Message, multiplexer: Any = None, **kwargs: Any) -> None:
        message.channel_session["name"] = kwargs["name"]
        multiplexer.send({"status": "I just connected!"})

    def disconnect(self, message: Message, multiplexer: Any = None, **kwargs: Any) -> None:
        multiplexer.group_send(f"streams-{kwargs['name']}", multiplexer.stream, {"left": message["code"]})

    def receive(self, content: Any = None, multiplexer: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        multiplexer.send({"original_message": content, "name": self.message.channel_session["name"]})


class Others(JsonWebsocketConsumer):
    def connection_groups(self, **kwargs: Any) -> list[str]:
        return [f"streams-{kwargs['name']}"]

    async def receive(self, content: Any = None, multiplexer: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        multiplexer.group_send(f"streams-{kwargs['name']}", multiplexer.stream, content)


class Streams(WebsocketDemultiplexer):
    consumers = {"echo": Echo, "others": Others}  # noqa: RUF012 - as people write it


@allowed_hosts_only
def guarded(message: Message) -> None:
    message.reply_channel.send({"accept": True})  # type: ignore[union-attr]


def watch(message: Message, room: str) -> None:
    message.reply_channel.send({"accept": True})  # type: ignore[union-attr]
    Group(f"watch-{room}").add(message.reply_channel)  # type: ignore[arg-type]


def sleepy(message: Message) -> None:
    """Takes its time, and writes down that it was here: for tests of what happens meanwhile."""
    with open(os.environ["BEHAVIOUR_LOG"], "a", encoding="ascii") as log:  # noqa: PTH123 - one write, which appends
        log.write(f"{message.reply_channel} {message['order']} {message.get('text', message.channel.name)}\n")
    if message.channel.name == "websocket.receive":
        time.sleep(0.01)
        message.reply_channel.send({"text": message["text"]})  # type: ignore[union-attr]


def held(message: Message) -> None:
    """Does not return before there is a file of that name."""
    file = Path(message["text"])
    while not file.exists():
        time.sleep(0.01)
    message.reply_channel.send({"text": "done"})  # type: ignore[union-attr]


def stuck(message: Message) -> None:
    """Does not return, the first time that it is called."""
    with open(os.environ["BEHAVIOUR_LOG"], "r+", encoding="ascii") as log:  # noqa: PTH123 - read, and then written
        before = log.read()
        log.write(f"{message.reply_channel} {message['order']} {message['text']}\n")
    if not before:
        time.sleep(600)
    message.reply_channel.send({"text": message["text"]})  # type: ignore[union-attr]


chat = [
    route("websocket.connect", chat_connect, path=r"^/(?P<room>[^/]+)/?$"),
    route("websocket.receive", chat_receive),
    route("websocket.disconnect", chat_disconnect),
]

channel_routing = [
    include(chat, path=r"^/rooms"),
    route("websocket.connect", tool_connect, path=r"^/tool"),
    route("websocket.receive", tool_receive, path=r"^/tool"),
    route("tool.later", tool_later),
    route("tool.tell", tool_tell),
    route("websocket.receive", echo, path=r"^/echo"),
    route("websocket.receive", slow, path=r"^/slow"),
    route("websocket.receive", held, path=r"^/held"),
    route("websocket.receive", stuck, path=r"^/stuck"),
    route("websocket.receive", deferred, path=r"^/deferred"),
    route(("websocket.receive", "websocket.disconnect"), sleepy, path=r"^/sleepy"),
    route_class(Room, path=r"^/class/(?P<name>\w+)/$"),
    Json.as_route(path=r"^/json"),
    Streams.as_route(path=r"^/streams/(?P<name>\w+)/$"),
    route("websocket.connect", guarded, path=r"^/guarded"),
    route("websocket.connect", watch, path=r"^/watch/(?P<room>\w+)/"),
]
