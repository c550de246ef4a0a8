"""How things are called in Redis: keys and channels.

All keys of a room share one hash tag, its percent-encoded name: ``twisted_chat:{a%2Fb}:stream``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import quote

NODES: Final = b"twisted_chat:nodes"
"""When each node counts as dead."""


@lru_cache(maxsize=50_000)
def _tag(room: str) -> bytes:
    return b"{%b}" % quote(room, safe="", errors="surrogatepass").encode()


def position_key(room: str) -> bytes:
    """Where the room stands."""
    return b"twisted_chat:%b:position" % _tag(room)


def stream_key(room: str) -> bytes:
    """Its publications."""
    return b"twisted_chat:%b:stream" % _tag(room)


def idempotency_key(room: str, key: str) -> bytes:
    """What was stored under that key; any text is one."""
    return b"twisted_chat:%b:key:%b" % (_tag(room), key.encode("utf-8", "surrogatepass"))


def members_key(room: str, node: bytes) -> bytes:
    """The members that one node has in it."""
    return b"twisted_chat:%b:members:%b" % (_tag(room), node)


def counts_key(room: str) -> bytes:
    """How many members each handle has."""
    return b"twisted_chat:%b:counts" % _tag(room)


def handles_key(room: str) -> bytes:
    """The handles in it, in the order in which they came."""
    return b"twisted_chat:%b:handles" % _tag(room)


def rooms_key(node: bytes) -> bytes:
    """The rooms in which a node has members, and maybe some more."""
    return b"twisted_chat:rooms:" + node


def channel(database: int, room: str) -> bytes:
    """Where the room's messages go. Channels, unlike keys, are shared by all databases of a server."""
    return b"twisted_chat:%d:%b" % (database, _tag(room))


def inbox_channel(database: int, node: bytes) -> bytes:
    """The channel on which a node hears itself."""
    return b"twisted_chat:%d:inbox:%b" % (database, node)


def probe_key(node: bytes) -> bytes:
    """Written by a node to find out whether writing works."""
    return b"twisted_chat:probe:" + node
