"""Records go to the socket once a room has said that nothing follows at once, and by Twisted's way before."""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import WantReadError
from twisted.internet import tcp
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol

from twisted_chat.server.tls.transport import DirectTLS


class Connection:
    """OpenSSL's side, with records to send."""

    def __init__(self) -> None:
        self.records = [b"records"]

    def bio_read(self, most: int) -> bytes:
        if not self.records:
            raise WantReadError
        return self.records.pop()


class Socket:
    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)


def secured(below: Any) -> Any:
    made: Any = DirectTLS.__new__(DirectTLS)
    made.transport, made._tlsConnection = below, Connection()
    return made


def bare_socket() -> Any:
    below: Any = tcp.Server.__new__(tcp.Server)
    below.socket, below.connected, below._tempDataBuffer, below._tempDataLen = Socket(), 1, [], 0
    below.startWriting = lambda: None
    return below


def test_records_wait_for_more_until_told_otherwise() -> None:
    below = bare_socket()
    transport = secured(below)
    transport._flushSendBIO()
    assert (below.socket.sent, below._tempDataBuffer) == (b"", [b"records"])


def test_then_they_go_to_the_socket() -> None:
    below = bare_socket()
    transport = secured(below)
    transport.send_at_once()
    transport._flushSendBIO()
    transport._flushSendBIO()
    assert (below.socket.sent, below._tempDataBuffer) == (b"records", [])


def test_what_is_not_a_bare_socket_is_written_to() -> None:
    below = StringTransport()
    transport = secured(below)
    transport.send_at_once()
    transport._flushSendBIO()
    assert below.value() == b"records"


def test_twisted_still_passes_its_records_on_there() -> None:
    assert callable(TLSMemoryBIOProtocol._flushSendBIO), "DirectTLS does nothing any more"
