"""How the queue of consumers is called in Redis.

The events of a connection are in a list, its *mailbox*. A mailbox with events in it has one *token* in the stream
`ready`, from which workers take what is to be done.
"""

from __future__ import annotations

from typing import Final

from twisted_chat.relay.redis.names import PREFIX

WORKERS: Final = b"workers"
"""The consumer group of the stream."""

ALL: Final = b" all"
"""Stands for all mailboxes together; the name of none has a space."""


class QueueNames:
    """The names of one application's queue; they begin with its prefix, see `relay.redis.names`."""

    def __init__(self, prefix: bytes = PREFIX) -> None:
        self._prefix: Final = b"%b:consumers:" % prefix
        self.nodes: Final = self._prefix + b"nodes"
        """When each node, and each worker, counts as dead."""
        self.ready: Final = self._prefix + b"ready"
        """The mailboxes that somebody has to empty."""
        self.waiting: Final = self._prefix + b"waiting"
        """How many events there are."""
        self.delayed: Final = self._prefix + b"delayed"
        """Events whose time has not come: names and all, by when that is."""
        self.bytes: Final = self._prefix + b"bytes"
        """How many bytes the events have that are not delayed: those of each mailbox, and `ALL` together."""
        self.delayed_bytes: Final = self._prefix + b"delayed_bytes"
        """How many bytes the delayed ones have."""
        self.attempts: Final = self._prefix + b"attempts"
        """How many workers died of the first event of a mailbox."""
        self.aside: Final = self._prefix + b"aside"
        """Events that were set aside because of that."""
        self.aside_amounts: Final = self._prefix + b"aside_amounts"
        """How many these are, and how many bytes they have."""
        self.mailbox: Final = self._prefix + b"mailbox:"
        """What the names of mailboxes begin with."""

    def connections_key(self, node: bytes) -> bytes:
        """The connections of a node, with their paths and the numbers of their next events."""
        return self._prefix + b"connections:" + node

    def mailbox_key(self, name: bytes) -> bytes:
        """The events of a connection."""
        return self.mailbox + name

    def probe_keys(self) -> tuple[bytes, bytes, bytes]:
        """A mailbox, a stream and a mark that are written to find out whether writing works."""
        name = b"probe"
        return self.mailbox_key(name), self._prefix + name, self.posted_key(name)

    def session_key(self, connection: bytes) -> bytes:
        """What its consumers keep."""
        return self._prefix + b"session:" + connection

    def posted_key(self, event: bytes) -> bytes:
        """Whether that event was posted."""
        return self._prefix + b"posted:" + event
