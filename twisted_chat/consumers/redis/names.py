"""How the queue of consumers is called in Redis.

The events of a connection are in a list, its *mailbox*. A mailbox with events in it has one *token* in the stream
`READY`, from which workers take what is to be done.
"""

from __future__ import annotations

from typing import Final

_PREFIX: Final = b"twisted_chat:consumers:"

NODES: Final = _PREFIX + b"nodes"
"""When each node, and each worker, counts as dead."""

READY: Final = _PREFIX + b"ready"
"""The mailboxes that somebody has to empty."""

WAITING: Final = _PREFIX + b"waiting"
"""How many events there are."""

DELAYED: Final = _PREFIX + b"delayed"
"""Events whose time has not come: names and all, by when that is."""

WORKERS: Final = b"workers"
"""The consumer group of the stream."""

MAILBOX: Final = _PREFIX + b"mailbox:"


def connections_key(node: bytes) -> bytes:
    """The connections of a node, with their paths and the numbers of their next events."""
    return _PREFIX + b"connections:" + node


def mailbox_key(name: bytes) -> bytes:
    """The events of a connection."""
    return MAILBOX + name


def session_key(connection: bytes) -> bytes:
    """What its consumers keep."""
    return _PREFIX + b"session:" + connection


def posted_key(event: bytes) -> bytes:
    """Whether that event was posted."""
    return _PREFIX + b"posted:" + event
