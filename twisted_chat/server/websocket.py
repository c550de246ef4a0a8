"""The room socket: Autobahn's server protocol with our room behind it. The only importer of autobahn.websocket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.session import Session
from twisted_chat.metrics import Transport
from twisted_chat.server.connection import Connection, Connections
from twisted_chat.server.http.limits import SERVER
from twisted_chat.wire.formats import TEXT_FRAMES, Format
from twisted_chat.wire.query import Wish

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a client has to answer a closing handshake and to take the bytes before it."""

LONGEST_CLOSE_REASON: Final = 123
"""Bytes of UTF-8 that fit into a close frame beside its code (RFC 6455 section 5.5)."""


class RoomSocket(WebSocketServerProtocol):
    """One client's WebSocket in one room; a `server.connection.Edge`."""

    transport_name: Transport = "websocket"
    format: Format = TEXT_FRAMES
    # Autobahn reads it before it copies its options to the connection, and hides the AttributeError.
    tcpNoDelay = True
    # TCP, TLS, a unix socket or an HTTP/2 stream: what all of them can do has no interface of its own.
    transport: Any

    _log = Logger()

    def __init__(self, connections: Connections, session: Session, wish: Wish, address: str | None) -> None:
        super().__init__()
        self.connection: Final = Connection(connections, self, session, address)
        self._wish = wish
        self._end: IDelayedCall | None = None

    # What Autobahn calls. An exception out of any of these would leave a socket that nobody owns.

    def onConnect(self, request: ConnectionRequest) -> None:
        """Everything was checked before the upgrade; no subprotocol is spoken here."""

    def onOpen(self) -> None:
        self.transport.registerProducer(self.connection.outbox, True)
        self._guarded(self._join)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.connection.refuse(ChatError(Reason.BINARY_FRAME, "this is a binary frame; send JSON in a text frame"))
        else:
            self._guarded(lambda: self.connection.receive(payload))

    def onPing(self, payload: bytes) -> None:
        # A client that pings and never reads would make us keep every pong.
        if self.connection.outbox.writable():
            self.sendPong(payload)

    def onAutoPingTimeout(self) -> None:
        self.connection.failed("ping_timeout")
        super().onAutoPingTimeout()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.connection.ended(_why(wasClean))

    def connectionLost(self, reason: Any = None) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        super().connectionLost(reason)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        # Autobahn ends a connection whose frames are wrong or too large as cleanly as one that a client ends.
        too_big = code == self.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG
        self.connection.failed(Reason.MESSAGE_TOO_LONG.code if too_big else "protocol_error")
        super()._fail_connection(code, reason)

    def _join(self) -> None:
        try:
            self.connection.start(self._wish)
        except ChatError as error:
            self.say_goodbye(error)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - the last place where it can be told
            self._log.failure("the server failed on what a WebSocket client sent")
            self.connection.close(ChatError(Reason.INTERNAL, "the server failed on what you sent"))

    # The edge

    def send(self, data: bytes) -> None:
        if self.state == self.STATE_OPEN:
            self.transport.write(data)

    def say_goodbye(self, error: ChatError) -> None:
        text = encode_truncate(f"{error.reason.code}: {error.message}", LONGEST_CLOSE_REASON)
        # `sendClose` takes only the codes that applications may make up; a server has others to say (RFC 6455, 7.4.1).
        self.sendCloseFrame(error.reason.close, text)

    def abort(self) -> None:
        self.transport.abortConnection()

    def beat(self) -> None:
        """Autobahn sends pings."""

    def _closeConnection(self, abort: bool = False) -> None:
        # After a complete closing handshake Autobahn would abort as well, and browsers report an unclean end.
        if abort and not self.wasClean:
            self.transport.abortConnection()
            return
        self.transport.loseConnection()
        if self._end is None:
            self._end = self.factory.reactor.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)


class RoomSocketFactory(WebSocketServerFactory):
    """Makes room sockets and knows who is in which room."""

    def __init__(self, connections: Connections, url: str | None = None) -> None:
        super().__init__(url, server=SERVER.decode(), reactor=connections.reactor)
        self.connections: Final = connections
        limits = connections.limits
        self.setProtocolOptions(
            webStatus=False,
            utf8validateIncoming=True,
            requireMaskedClientFrames=True,
            maxFramePayloadSize=limits.frame_bytes,
            maxMessagePayloadSize=limits.frame_bytes,
            failByDrop=False,
            echoCloseCodeReason=False,
            openHandshakeTimeout=limits.handshake_timeout,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            autoPingInterval=limits.ping_interval,
            autoPingTimeout=limits.ping_timeout,
            autoPingRestartOnAnyTraffic=True,
            # Origins are checked, with everything else, before the upgrade.
            allowedOrigins=["*"],
            allowNullOrigin=True,
            serveFlashSocketPolicy=False,
        )

    def socket(self, session: Session, wish: Wish, address: str | None) -> RoomSocket:
        """A socket for a client that may come in."""
        socket = RoomSocket(self.connections, session, wish, address)
        socket.factory = self
        socket.is_server = True
        return socket

    def members(self, room: str) -> frozenset[RoomSocket]:
        """The sockets that are in a room."""
        return frozenset(
            connection.edge
            for connection in self.connections.open
            if connection.session.room == room and isinstance(connection.edge, RoomSocket)
        )


def _why(was_clean: bool) -> str:
    """An end that was not ours, in one of a few words."""
    return "client_left" if was_clean else "connection_lost"
