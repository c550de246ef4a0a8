"""What consumers may raise, and what is raised at them."""

from __future__ import annotations


class DenyConnection(Exception):  # noqa: N818 - the name that it has in Channels
    """Raised by a consumer of ``websocket.connect``: refuse the client with 403."""


class ConsumeLater(Exception):  # noqa: N818 - the name that it has in Channels
    """Raised by a consumer of a channel of the application's own: call it again later with this message.

    Up to ten times, after 0.1 seconds and then each time twice as long. Messages of clients are not put off: they are
    run in order.
    """


class SendNotAvailableOnDemultiplexer(Exception):  # noqa: N818 - the name that it has in Channels
    """A consumer of a stream sends without its ``multiplexer``, so that nobody would know of which stream it is."""


class BadFrameError(ValueError):
    """What a client sent is nothing that its consumer can take: the client's mistake, not the consumer's."""


class NotReadyError(Exception):
    """The queue or the relay cannot be reached now; what was to be done was not, or nobody knows."""


class RoutingError(Exception):
    """A routing that cannot be used; the message says which part of it, and what would be right."""
