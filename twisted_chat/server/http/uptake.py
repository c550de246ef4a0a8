"""How much of what was sent to a client has arrived there, as far as the system can tell.

A client that reads slowly answers nothing while the question is still on its way, behind what was sent before. That it
lives shows in the bytes that its system acknowledges. The buffers of this process do not show it: the kernel keeps
megabytes for one connection, which such a client takes minutes to read.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
"""Others that have this option fill another structure."""

_FIELDS: Final = struct.Struct("=24xI92xQ16xI")
"""``tcpi_unacked`` (segments), ``tcpi_bytes_acked`` and ``tcpi_notsent_bytes`` of ``struct tcp_info`` in
``linux/tcp.h``; all three are there since Linux 4.6."""


@dataclass(frozen=True, slots=True)
class Uptake:
    """What a client has taken of what was sent to it.

    taken
        differs from an earlier one of the same client if the client has taken something meanwhile
    pending
        whether more is on its way
    """

    taken: object
    pending: bool


@runtime_checkable
class Measured(Protocol):
    """A transport that is not a socket of its own and knows its uptake."""

    def uptake(self) -> Uptake | None:
        """As the function `uptake`."""


def uptake(transport: object) -> Uptake | None:
    """Return what the client of `transport` has taken by now; None where the system cannot tell."""
    if isinstance(transport, Measured):
        return transport.uptake()
    # TLS and the PROXY protocol pass on the attributes of the transport below them.
    below = getattr(transport, "socket", None)
    if _TCP_INFO is None or not isinstance(below, socket.socket):
        return None
    try:
        unacked, acked, unsent = _FIELDS.unpack_from(below.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _FIELDS.size))
    except (OSError, struct.error):
        return None  # it is no TCP, is gone, or the kernel is older
    return Uptake(acked, pending=bool(unacked or unsent))


class Progress:
    """Whether a client takes what is on its way to it, from one look to the next."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: object = None

    def look(self, transport: object) -> bool:
        """Return whether the client has taken something since the last look, at which more was on its way.

        Where all had arrived at the last look, what the client takes is no sign of life: the system of one that hangs
        goes on to acknowledge what its buffers have room for.
        """
        before, now = self._taken, uptake(transport)
        self._taken = now.taken if now is not None and now.pending else None
        return before is not None and now is not None and now.taken != before
