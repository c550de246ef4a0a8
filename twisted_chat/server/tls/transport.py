"""TLS whose records go straight to the socket below."""

from __future__ import annotations

from OpenSSL.SSL import WantReadError
from twisted.protocols.tls import TLSMemoryBIOProtocol

from twisted_chat.direct import SocketTransport, direct, write_now

RECORDS = 1 << 15
"""Bytes taken from OpenSSL at a time; it makes records of half as many."""


class DirectTLS(TLSMemoryBIOProtocol):
    """Not Twisted's default, which collects writes until the reactor's next turn: rooms join what they write.

    Where a later Twisted passes records on in another way, that is used.
    """

    _direct: SocketTransport | None = None

    def send_at_once(self) -> None:
        """From here on one write is all there is to send, so nothing is gained by waiting for another."""
        self._direct = direct(self.transport)

    def _flushSendBIO(self) -> None:
        if self._direct is None:
            super()._flushSendBIO()
            return
        try:
            records = self._tlsConnection.bio_read(RECORDS)
        except WantReadError:
            return
        write_now(self._direct, records)
