"""TLS whose records go straight to the socket below."""

from __future__ import annotations

import re

from OpenSSL.SSL import WantReadError
from twisted.protocols.tls import TLSMemoryBIOProtocol

from twisted_chat.direct import SocketTransport, direct, write_now
from twisted_chat.server.http.limits import Refusal, http1_answer

RECORDS = 1 << 15
"""Bytes taken from OpenSSL at a time; it makes records of half as many."""


_REQUEST_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT|TRACE|PRI) ")
"""How HTTP without TLS begins; a TLS record cannot begin so."""

TLS_REQUIRED = Refusal(
    400, "tls_required", "this port speaks TLS, and this request came without: use https:// or wss://"
)


class DirectTLS(TLSMemoryBIOProtocol):
    """Not Twisted's default, which collects writes until the reactor's next turn: rooms join what they write.

    Where a later Twisted passes records on in another way, that is used.
    """

    _direct: SocketTransport | None = None
    _begun = False

    def dataReceived(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            if _REQUEST_LINE.match(data):
                # A browser that was given http:// for https:// shows this; OpenSSL then ends the connection.
                assert self.transport is not None
                self.transport.write(http1_answer(TLS_REQUIRED))
        super().dataReceived(data)

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
