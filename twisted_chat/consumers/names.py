"""Names of channels and groups, and what they say."""

from __future__ import annotations

import re
from typing import Final

REPLY: Final = "websocket.send!"
"""What the name of a client's reply channel begins with; the name of its connection follows."""

DELAY: Final = "asgi.delay"
"""The channel for what is to be sent later; the name is that of Channels."""

LONGEST: Final = 99

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_CHANNEL: Final = re.compile(r"[A-Za-z0-9._-]+(?:[!?][A-Za-z0-9._-]*)?")


def check_group(name: object) -> str:
    """`name`, which a group may have. Raises `TypeError`."""
    return _check("group", name, _NAME, "letters, digits, - _ and .")


def check_channel(name: object) -> str:
    """`name`, which a channel may have. Raises `TypeError`."""
    return _check("channel", name, _CHANNEL, "letters, digits, - _ and ., and one ! or ?")


def _check(what: str, name: object, pattern: re.Pattern[str], right: str) -> str:
    if not isinstance(name, str) or len(name) > LONGEST or not pattern.fullmatch(name):
        raise TypeError(f"{name!r:.120} is no name of a {what}: it has up to {LONGEST} ASCII characters: {right}")
    return name


def reply_channel(connection: str) -> str:
    """The channel on which a client is spoken to."""
    return REPLY + connection


def connection_of(channel: str) -> str | None:
    """The connection that a reply channel is of; None for other channels."""
    return channel.removeprefix(REPLY) if channel.startswith(REPLY) else None


def node_of(connection: str) -> str:
    """The node that holds a connection."""
    return connection.partition("-")[0]


def group_room(group: str) -> str:
    """The room that a group is; no client can have it, for its name has control characters."""
    return f"\x00group\x00{group}"


def node_room(node: str) -> str:
    """The room in which a node is told what to say to its clients."""
    return f"\x00node\x00{node}"
