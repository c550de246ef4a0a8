"""`Channel` and `Group`: what consumers send to. They are only names; whatever runs the consumer does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted_chat.consumers.events import Send, SendGroup
from twisted_chat.consumers.names import DELAY, check_channel, check_group, connection_of
from twisted_chat.consumers.run import sender

LONGEST_DELAY: Final = 10 * 366 * 24 * 3600 * 1000
"""Milliseconds: ten years."""


class Channel:
    """A client (``message.reply_channel``), or a name that the routing has a consumer for.

    channel_layer
        is taken because Channels has it; there is one layer here
    """

    def __init__(self, name: str, alias: object = None, channel_layer: object = None) -> None:
        self.name: Final = check_channel(name)

    def send(self, content: Mapping[str, Any], immediately: bool = False) -> None:
        """Send a message: when the consumer returns, or `immediately`. Raises `TypeError` if it cannot be carried.

        To a client: ``{"accept": True}``, ``{"text": "…"}``, ``{"bytes": b"…"}``, ``{"close": True}`` or with a code
        in its place. To ``asgi.delay``, what is to be sent later: ``{"channel": "…", "content": {…}, "delay": 1000}``,
        in milliseconds.
        """
        checked = _checked(content)
        check_content(self.name, checked)
        sender().cause(Send(self.name, checked), immediately=immediately)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Channel {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Group:
    """Clients that are sent to together. One that vanishes leaves by itself."""

    def __init__(self, name: str, alias: object = None, channel_layer: object = None) -> None:
        self.name: Final = check_group(name)

    def add(self, channel: Channel | str) -> None:
        """Make a client a member, at once; again does no harm."""
        sender().add(self.name, _client(channel))

    def discard(self, channel: Channel | str) -> None:
        """Make it no member any more, at once; no harm if it is none."""
        sender().discard(self.name, _client(channel))

    def send(self, content: Mapping[str, Any], immediately: bool = False) -> None:
        """Send a message to all members, as `Channel.send` does."""
        checked = _checked(content)
        check_frame(checked)
        sender().cause(SendGroup(self.name, checked), immediately=immediately)

    def __repr__(self) -> str:
        return f"<Group {self.name}>"


def _checked(content: object) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise TypeError(f'a message is a dictionary such as {{"text": "hello"}}, not a {type(content).__name__}')
    return dict(content)


def check_content(channel: str, content: Mapping[str, Any]) -> None:
    """Raise `TypeError` or `ValueError` for what cannot be sent to that channel."""
    if channel == DELAY:
        _check_delayed(content)
    elif connection_of(channel) is not None:
        check_frame(content)


def _check_delayed(content: Mapping[str, Any]) -> None:
    delay = content.get("delay")
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= LONGEST_DELAY:
        raise ValueError(f'"delay" is {delay!r}: give milliseconds, from 0 to {LONGEST_DELAY}')
    channel = check_channel(content.get("channel"))
    if channel == DELAY:
        raise ValueError(f'"channel" is {DELAY!r} again: say the whole "delay" at once')
    check_content(channel, _checked(content.get("content")))


def check_frame(content: Mapping[str, Any]) -> None:
    """Raise `TypeError` or `ValueError` for what cannot be said to a client."""
    text, data, close = content.get("text"), content.get("bytes"), content.get("close")
    if text is not None and not isinstance(text, str):
        raise TypeError(f'"text" is a {type(text).__name__}: give text, and bytes as "bytes"')
    if data is not None and not isinstance(data, bytes):
        raise TypeError(f'"bytes" is a {type(data).__name__}: give bytes, and text as "text"')
    if close and close is not True and not (isinstance(close, int) and (close == 1000 or 3000 <= close <= 4999)):
        raise ValueError(f'"close" is {close!r}: give True, or a close code: 1000, or 3000 to 4999 (RFC 6455, 7.4.2)')


def _client(channel: Channel | str) -> str:
    name = channel.name if isinstance(channel, Channel) else check_channel(channel)
    if connection_of(name) is None:
        raise TypeError(f"{name!r} is not the channel of a client: groups have message.reply_channel as members")
    return name
