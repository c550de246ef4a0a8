"""Several streams over one WebSocket, each with a consumer of its own: frames are ``{"stream": …, "payload": …}``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn

from twisted_chat.consumers import django
from twisted_chat.consumers.channel import Channel, Group
from twisted_chat.consumers.errors import BadFrameError, SendNotAvailableOnDemultiplexer
from twisted_chat.consumers.generic import BaseConsumer, JsonWebsocketConsumer
from twisted_chat.consumers.message import Message


class WebsocketMultiplexer:
    """Sends on one stream of a client; consumers of a `WebsocketDemultiplexer` are given it as ``multiplexer``."""

    def __init__(self, stream: str, reply_channel: Channel) -> None:
        self.stream: Final = stream
        self.reply_channel: Final = reply_channel

    def send(self, payload: Any) -> None:
        """Send something that JSON can say to the client, on this stream."""
        self.reply_channel.send(self.encode(self.stream, payload))

    @classmethod
    def group_send(cls, name: str, stream: str, payload: Any, close: bool | int = False) -> None:
        """Send it to all members of a group, on a stream; and then end their connections if `close` says so."""
        Group(name).send(cls.encode(stream, payload) | ({"close": close} if close else {}))

    @classmethod
    def encode(cls, stream: str, payload: Any) -> dict[str, Any]:
        """What is sent, as a message for a channel or a group."""
        return {"text": cls.encode_json({"stream": stream, "payload": payload})}

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """With Django, dates, UUIDs and the like may be in it."""
        return json.dumps(content, cls=django.json_encoder())


class WebsocketDemultiplexer(JsonWebsocketConsumer):
    """Passes each frame on to the consumer of its stream, and the connect and the disconnect to all of them.

    consumers
        stream to consumer: a class such as `JsonWebsocketConsumer`, or a function
    multiplexer_class
        of what they are given as ``multiplexer``, to send with
    """

    consumers: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    multiplexer_class: ClassVar[type[WebsocketMultiplexer]] = WebsocketMultiplexer

    def connect(self, message: Message, **kwargs: Any) -> Any:
        super().connect(message, **kwargs)
        return self._pass_on(list(self.consumers), message, kwargs)

    def receive(self, content: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]  # as in Channels
        """Raises `BadFrameError`, which is a `ValueError`, for a frame of no stream."""
        stream, payload = _opened(content)
        if stream not in self.consumers:
            raise BadFrameError(f"there is no stream {stream!r:.80}, only {', '.join(map(repr, self.consumers))}")
        # As if it were all that came: it is decoded by the consumer, in its own way.
        self.message["text"] = self.encode_json(payload)
        return self._pass_on([stream], self.message, kwargs)

    def disconnect(self, message: Message, **kwargs: Any) -> Any:
        return self._pass_on(list(self.consumers), message, kwargs)

    def _pass_on(self, streams: Sequence[str], message: Message, kwargs: Mapping[str, Any]) -> Any:
        waiting = []
        try:
            for stream in streams:
                result = self._call(stream, message, dict(kwargs))
                if inspect.isawaitable(result):
                    waiting.append(result)
        except BaseException:
            for each in waiting:
                if inspect.iscoroutine(each):
                    each.close()  # it is not going to be run
            raise
        return _all(waiting) if waiting else None

    def _call(self, stream: str, message: Message, kwargs: dict[str, Any]) -> Any:
        consumer = self.consumers[stream]
        kwargs["multiplexer"] = self.multiplexer_class(stream, message.reply_channel)  # type: ignore[arg-type]  # a client's
        made: Any = consumer(message, **kwargs)
        if not isinstance(made, BaseConsumer):
            return made  # it was a function
        # What it would send has no stream, and the client could not tell whose it is.
        made.send = self.send  # type: ignore[attr-defined]  # which those for WebSockets have
        return made.dispatch(message, **kwargs)

    def send(self, *_: Any, **__: Any) -> NoReturn:
        """Raises `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer("say it on a stream: multiplexer.send(payload)")

    @classmethod
    def group_send(cls, *_: Any, **__: Any) -> NoReturn:
        """Raises `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer(
            "say it on a stream: WebsocketMultiplexer.group_send(name, stream, payload)"
        )


def _opened(content: Any) -> tuple[str, dict[str, Any]]:
    match content:
        case {"stream": str(stream), "payload": dict(payload)}:
            return stream, payload
    raise BadFrameError('this consumer takes {"stream": "…", "payload": {…}}, and what came is something else')


async def _all(waiting: Sequence[Awaitable[Any]]) -> None:
    for each in waiting:
        await each
