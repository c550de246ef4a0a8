"""How things are called in Redis: keys and channels.

All of them begin with the prefix of the application and a colon. All keys of a room share one hash tag, its
percent-encoded name: ``twisted_chat:{a%2Fb}:stream``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

PREFIX: Final = b"twisted_chat"
"""Of an application that names no other."""


@lru_cache(maxsize=50_000)
def _tag(room: str) -> bytes:
    return b"{%b}" % quote(room, safe="", errors="surrogatepass").encode()


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one application.

    database
        part of the names of channels, which, unlike keys, are shared by all databases of a server
    prefix
        without a colon, so that no name of one application is a name of another
    """

    database: int = 0
    prefix: bytes = PREFIX

    @property
    def nodes_key(self) -> bytes:
        """When each node counts as dead."""
        return b"%b:nodes" % self.prefix

    @property
    def store_key(self) -> bytes:
        """Which store this is, and since when."""
        return b"%b:store" % self.prefix

    def position_key(self, room: str) -> bytes:
        """Where the room stands."""
        return b"%b:%b:position" % (self.prefix, _tag(room))

    def stream_key(self, room: str) -> bytes:
        """Its publications."""
        return b"%b:%b:stream" % (self.prefix, _tag(room))

    def idempotency_key(self, room: str, key: str) -> bytes:
        """What was stored under that key; any text is one."""
        return b"%b:%b:key:%b" % (self.prefix, _tag(room), key.encode("utf-8", "surrogatepass"))

    def members_key(self, room: str, node: bytes) -> bytes:
        """The members that one node has in it."""
        return b"%b:%b:members:%b" % (self.prefix, _tag(room), node)

    def counts_key(self, room: str) -> bytes:
        """How many members each handle has."""
        return b"%b:%b:counts" % (self.prefix, _tag(room))

    def handles_key(self, room: str) -> bytes:
        """The handles in it, in the order in which they came."""
        return b"%b:%b:handles" % (self.prefix, _tag(room))

    def rooms_key(self, node: bytes) -> bytes:
        """The rooms in which a node has members, and maybe some more."""
        return b"%b:rooms:%b" % (self.prefix, node)

    def channel(self, room: str) -> bytes:
        """Where the room's messages go."""
        return b"%b:%d:%b" % (self.prefix, self.database, _tag(room))
