"""Consumers as classes. An instance is made for each message; what is to be kept belongs into `channel_session`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from twisted_chat.consumers.channel import Group
from twisted_chat.consumers.decorators import channel_session
from twisted_chat.consumers.errors import BadFrameError
from twisted_chat.consumers.events import CONNECT, DISCONNECT, RECEIVE
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.routing import Route, route_class
from twisted_chat.consumers.users import (
    channel_and_http_session_user_from_http,
    channel_session_user,
    channel_session_user_from_http,
)


class BaseConsumer:
    """A consumer of several channels, each with a method.

    method_mapping
        channel to the name of its method
    channel_session
        True: messages have `channel_session`
    channel_session_user
        True: they have `user` besides, see `twisted_chat.consumers.users`
    """

    method_mapping: ClassVar[Mapping[str, str]] = {}
    channel_session: ClassVar[bool] = False
    channel_session_user: ClassVar[bool] = False

    def __init__(self, message: Message, **kwargs: Any) -> None:
        self.message = message
        self.kwargs = kwargs

    @classmethod
    def channel_names(cls) -> set[str]:
        """The channels that it consumes."""
        return set(cls.method_mapping)

    @classmethod
    def as_route(cls, attrs: Mapping[str, Any] | None = None, **filters: str) -> Route:
        """A route to this class, or to one like it with other attributes."""
        made: Any = type(cls.__name__, (cls,), dict(attrs)) if attrs else cls
        return route_class(made, **filters)

    @classmethod
    def consumer(cls, message: Message, **kwargs: Any) -> Any:
        """Make an instance for the message, and let it do its work."""
        return cls(message, **kwargs).dispatch(message, **kwargs)

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        """The method for the message, decorated as the attributes ask for."""
        handler: Callable[..., Any] = getattr(self, self.method_mapping[message.channel.name])
        if self.channel_session_user:
            return channel_session_user(handler)
        return channel_session(handler) if self.channel_session else handler

    def dispatch(self, message: Message, **kwargs: Any) -> Any:
        """Call the method for the message."""
        return self.get_handler(message, **kwargs)(message, **kwargs)


class WebsocketConsumer(BaseConsumer):
    """Override `connect`, `receive` and `disconnect`; each may be a coroutine function.

    groups
        every client is a member of these; `connection_groups` can say it for each
    strict_ordering
        has no effect: order is always kept
    http_user
        True: messages have `user` and `channel_session`, see `twisted_chat.consumers.users`
    http_user_and_session
        True: they have `http_session` besides
    """

    method_mapping: ClassVar[Mapping[str, str]] = {
        CONNECT: "raw_connect",
        RECEIVE: "raw_receive",
        DISCONNECT: "raw_disconnect",
    }
    strict_ordering: ClassVar[bool] = False
    http_user: ClassVar[bool] = False
    http_user_and_session: ClassVar[bool] = False
    groups: ClassVar[Iterable[str] | None] = None

    def __init__(self, message: Message, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.path: str = message.get("path", "")

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        handler = super().get_handler(message, **kwargs)
        if self.http_user_and_session:
            return channel_and_http_session_user_from_http(handler)
        if not self.http_user:
            return handler
        return (channel_session_user_from_http if message.channel.name == CONNECT else channel_session_user)(handler)

    def connection_groups(self, **kwargs: Any) -> Iterable[str]:
        """The groups that the client is a member of from its connect to its end."""
        return self.groups or ()

    # What comes

    def raw_connect(self, message: Message, **kwargs: Any) -> Any:
        for group in self.connection_groups(**kwargs):
            Group(group).add(_client(message))
        return self.connect(message, **kwargs)

    def connect(self, message: Message, **kwargs: Any) -> Any:
        """A client wants to connect: accept it."""
        _client(message).send({"accept": True})

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        if message.get("text") is not None:
            return self.receive(text=message["text"], **kwargs)
        return self.receive(bytes=message["bytes"], **kwargs)

    def receive(self, text: str | None = None, bytes: bytes | None = None, **kwargs: Any) -> Any:  # noqa: A002 - so it is called in Channels
        """The client sent a frame: either `text` or `bytes`."""

    def raw_disconnect(self, message: Message, **kwargs: Any) -> Any:
        for group in self.connection_groups(**kwargs):
            Group(group).discard(_client(message))
        return self.disconnect(message, **kwargs)

    def disconnect(self, message: Message, **kwargs: Any) -> Any:
        """The client is gone; ``message["code"]`` says why."""

    # What goes

    def send(self, text: str | None = None, bytes: bytes | None = None, close: bool | int = False) -> None:  # noqa: A002
        """Send a frame to the client, and then end the connection if `close` says so."""
        _client(self.message).send(_frame(text, bytes, close))

    def close(self, status: bool | int = True) -> None:
        """End the connection, with a close code if one is given; refuse it where it was not accepted yet."""
        _client(self.message).send({"close": status})

    @classmethod
    def group_send(
        cls,
        name: str,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002
        close: bool | int = False,
    ) -> None:
        """Send a frame to all members of a group."""
        Group(name).send(_frame(text, bytes, close))


class JsonWebsocketConsumer(WebsocketConsumer):
    """The same for frames of JSON: `receive` is given what was decoded, `send` and `group_send` take what to encode.

    `receive` is not called for other frames. Override `raw_receive` to do something about them.
    """

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        """Raises `BadFrameError`, which is a `ValueError`, for what is no JSON."""
        if message.get("text") is None:
            raise BadFrameError("this consumer takes JSON in text frames, and a binary frame came")
        try:
            content = self.decode_json(message["text"])
        except (ValueError, RecursionError) as error:  # the latter: brackets within brackets, without end
            raise BadFrameError(f"this consumer takes JSON, and what came is none: {error}") from error
        return self.receive(content, **kwargs)

    def receive(self, content: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]  # as in Channels
        """The client sent a frame with this in it."""

    def send(self, content: Any = None, close: bool | int = False) -> None:  # type: ignore[override]  # as in Channels
        super().send(text=self.encode_json(content), close=close)

    @classmethod
    def group_send(cls, name: str, content: Any = None, close: bool | int = False) -> None:  # type: ignore[override]  # as in Channels
        WebsocketConsumer.group_send(name, text=cls.encode_json(content), close=close)

    @classmethod
    def decode_json(cls, text: str) -> Any:
        return json.loads(text)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        return json.dumps(content)


def _client(message: Message) -> Any:
    if message.reply_channel is None:
        raise ValueError(f"this message, on {message.channel.name!r}, is of no client: it has no reply_channel")
    return message.reply_channel


def _frame(text: str | None, data: bytes | None, close: bool | int) -> dict[str, Any]:
    if text is None and data is None:
        raise ValueError("send text or bytes")
    frame: dict[str, Any] = {"text": text} if text is not None else {"bytes": data}
    return frame | ({"close": close} if close is not False else {})
