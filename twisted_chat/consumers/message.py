"""What a consumer is given."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, ValuesView
from http.cookies import CookieError, SimpleCookie
from typing import Any

from twisted_chat.consumers.channel import Channel
from twisted_chat.consumers.session import ChannelSession


class Message:
    """A message on a channel: ``message["text"]`` is ``message.content["text"]``.

    channel
        where it came, ``websocket.receive`` for example
    reply_channel
        the client that it is of; None where there is none
    channel_session
        is there in consumers under ``@channel_session``
    http_session, user
        are there in consumers under the decorators in `twisted_chat.consumers.users`: Django's, so nothing is known of
        their types here
    """

    channel_session: ChannelSession
    http_session: Any
    user: Any
    reply_channel: Channel | None

    def __init__(self, content: dict[str, Any], channel_name: str, channel_layer: object = None) -> None:
        self.content = content
        self.channel = Channel(channel_name)
        self.channel_layer = channel_layer
        reply = content.get("reply_channel")
        self.reply_channel = Channel(reply) if reply else None

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.content[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.content

    def keys(self) -> KeysView[str]:
        return self.content.keys()

    def values(self) -> ValuesView[Any]:
        return self.content.values()

    def items(self) -> ItemsView[str, Any]:
        return self.content.items()

    def get(self, key: str, default: Any = None) -> Any:
        return self.content.get(key, default)

    def copy(self) -> Message:
        """Another one with the same content."""
        return Message(dict(self.content), self.channel.name, self.channel_layer)

    def header(self, name: str) -> str | None:
        """A header field of the handshake; its values with a comma between where there are several."""
        wanted = name.lower().encode("latin-1")
        values = [bytes(value) for key, value in self.content.get("headers", ()) if bytes(key).lower() == wanted]
        return b", ".join(values).decode("latin-1") if values else None

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that came with the handshake; nothing in later messages, which have no headers."""
        try:
            return {name: morsel.value for name, morsel in SimpleCookie(self.header("cookie") or "").items()}
        except CookieError:
            return {}

    def __repr__(self) -> str:
        return f"<Message on {self.channel.name}>"
