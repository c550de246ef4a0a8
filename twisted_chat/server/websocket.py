"""The sockets of clients: what all of them have, and the one with a room behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.util import encode_truncate
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.incoming import IncomingMeter
from twisted_chat.core.session import Session
from twisted_chat.direct import direct, write_to_each
from twisted_chat.metrics import Transport
from twisted_chat.server.compression import accept
from twisted_chat.server.connection import Connection, Connections
from twisted_chat.server.http.limits import SERVER
from twisted_chat.server.http.transport import held_bytes
from twisted_chat.server.http.uptake import Progress
from twisted_chat.server.tls.transport import DirectTLS
from twisted_chat.server.websocket_protocol import LeanProtocol, with_options
from twisted_chat.wire.formats import TEXT_FRAMES, CompressedFrames, Format
from twisted_chat.wire.query import Wish

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a client has to answer a closing handshake and to take the bytes before it."""

LONGEST_CLOSE_REASON: Final = 123
"""Bytes of UTF-8 that fit into a close frame beside its code (RFC 6455 section 5.5)."""

_FAILURES: Final = {
    WebSocketProtocol.CLOSE_STATUS_CODE_MESSAGE_TOO_BIG: Reason.MESSAGE_TOO_LONG.code,
    WebSocketProtocol.CLOSE_STATUS_CODE_POLICY_VIOLATION: "too_many_fragments",
}
"""Under which reasons connections are counted that fail with these close codes; all others are protocol errors."""

SUBPROTOCOL: Final = "chat"
"""What the room protocol is called where a client has to name one (RFC 6455 section 1.9)."""

PING: Final = b"\x89\x00"
"""A whole frame. Any sign of life answers it."""


class ChatSocket(LeanProtocol):
    """One client's WebSocket; a `server.connection.Edge`. What it does with what comes is for those below."""

    transport_name: Transport = "websocket"
    format: Format = TEXT_FRAMES
    compressed: Format
    """For those that negotiated it."""
    _log = Logger()
    _end: IDelayedCall | None = None
    _meter: IncomingMeter | None = None
    _unanswered = 0
    _progress: Progress

    connection: Connection

    # What Autobahn calls. An exception out of any of these would leave a socket that nobody owns.

    def choose_subprotocol(self, offered: Sequence[str]) -> str | None:
        """Accept `SUBPROTOCOL` for clients that ask for one and end the connection where none is accepted."""
        return SUBPROTOCOL if SUBPROTOCOL in offered else None

    def onOpen(self) -> None:
        if self._perMessageCompress is not None:
            self.format = self.compressed
        self._progress = Progress()
        outbox = self.connection.outbox
        self.transport.registerProducer(outbox, True)
        outbox.direct = direct(self.transport)
        if isinstance(self.transport, DirectTLS):
            self.transport.send_at_once()
        try:
            self._begin()
        except Exception:  # noqa: BLE001 - the last place where it can be told
            self._failed()

    def onPing(self, payload: bytes) -> None:
        # A client that pings and never reads would make us keep every pong.
        if self.connection.outbox.writable():
            self.sendPong(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.connection.ended(_why(wasClean))

    def connectionLost(self, reason: Any = None) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        super().connectionLost(reason)

    def onPong(self, payload: bytes) -> None:
        """Nothing: whatever comes is a sign of life."""

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        # Autobahn ends a connection whose frames are wrong or too large as cleanly as one that a client ends.
        self.connection.failed(_FAILURES.get(code, "protocol_error"))
        super()._fail_connection(code, reason)

    def charge(self, frames: int, parts: int, size: int, *, more: bool) -> float:
        now = self.factory.reactor.seconds()
        if self._meter is None:
            self._meter = self.connection.meter(now)
        if self.connection.session.identity.server:
            frames, size = parts, 0  # its messages have no rates
        elif self.state != self.STATE_OPEN:
            size = 0  # it may have sent much before it learned of the end, which it is to answer
        excess = self._meter.charge(frames, size, now)
        if excess is None:
            return 0.0
        self.connection.throttled(excess.limit)
        if more and excess.of_frames and 2 * parts > frames and not self._meter.may_flood(now):
            self.connection.flooded()
        return excess.seconds

    def _begin(self) -> None:
        """Frames can be sent from now on."""
        raise NotImplementedError

    def _failed(self) -> None:
        self._log.failure("the server failed on what a WebSocket client sent")
        self.connection.close(ChatError(Reason.INTERNAL, "the server failed on what you sent"))

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.connection.outbox.close()  # nothing may follow
        self.hurry()

    def dropConnection(self, abort: bool = False) -> None:
        self.connection.outbox.close()
        super().dropConnection(abort)

    # The edge

    def send(self, data: bytes) -> None:
        if self.state == self.STATE_OPEN:
            self.transport.write(data)

    def held_bytes(self) -> int:
        return held_bytes(self.transport)

    def say_goodbye(self, error: ChatError) -> None:
        text = encode_truncate(f"{error.reason.code}: {error.message}", LONGEST_CLOSE_REASON)
        # `sendClose` takes only the codes that applications may make up; a server has others to say (RFC 6455, 7.4.1).
        self.sendCloseFrame(error.reason.close, text)

    def abort(self) -> None:
        self.transport.abortConnection()

    def beat(self, tell: Callable[[], bool]) -> None:
        if self.state != self.STATE_OPEN:
            return  # the closing handshake has a time-out of its own
        # Before anything is sent here: what is on its way then is what the ping waits behind.
        takes = self._progress.look(self.transport)
        self._unanswered = 1 if self.heard or takes else self._unanswered + 1
        self.heard = False
        tell()
        outbox = self.connection.outbox
        if outbox.writable():
            write_to_each((outbox,), PING)
        else:
            self.transport.write(PING)  # not behind all that waits: it may stand between any two frames

    def judge(self, beats: int) -> None:
        # While nothing is read from the client, it may answer as it likes.
        if self.stopped:
            self.heard = True
        elif not self.heard and self._unanswered >= beats:
            if self._progress.look(self.transport):
                self.heard = True  # the ping waits behind what the client takes
                return
            self.connection.failed("ping_timeout")
            self.abort()

    def _closeConnection(self, abort: bool = False) -> None:
        # After a complete closing handshake Autobahn would abort as well, and browsers report an unclean end.
        if abort and not self.wasClean:
            self.transport.abortConnection()
            return
        self.transport.loseConnection()
        if self._end is None:
            self._end = self.factory.reactor.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)


class RoomSocket(ChatSocket):
    """One client's WebSocket in one room."""

    def __init__(self, connections: Connections, session: Session, wish: Wish, address: str | None) -> None:
        super().__init__()
        self.connection = Connection(connections, self, session, address)
        self._wish: Wish | None = wish

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            if isBinary:
                raise ChatError(Reason.BINARY_FRAME, "this is a binary frame; send JSON in a text frame")
            self.connection.receive(payload)
        except ChatError as error:
            self.connection.refuse(error)
        except Exception:  # noqa: BLE001 - the last place where it can be told
            self._failed()

    def _begin(self) -> None:
        wish, self._wish = self._wish, None
        assert wish is not None
        try:
            self.connection.start(wish)
        except ChatError as error:
            self.say_goodbye(error)


class RoomSocketFactory(WebSocketServerFactory):
    """Makes room sockets and knows who is in which room. Other sockets have its options too (`with_options`).

    compression
        whether messages are compressed for clients that offer it
    """

    protocol: type[RoomSocket] = RoomSocket

    def __init__(self, connections: Connections, url: str | None = None, *, compression: bool = False) -> None:
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
            # RFC 6455 section 5.5.1: the answer to a close frame has its code.
            echoCloseCodeReason=True,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            # The whole handshake is there when a socket is connected, and one timer pings for all of them.
            openHandshakeTimeout=0,
            autoPingInterval=0,
            # Origins are checked, with everything else, before the upgrade.
            allowedOrigins=["*"],
            allowNullOrigin=True,
            serveFlashSocketPolicy=False,
            perMessageCompressionAccept=accept if compression else None,
        )
        self._socket: Final = with_options(self.protocol, self, limits.fragments)
        self._socket.compressed = CompressedFrames(connections.metrics.compressed)

    def socket(self, session: Session, wish: Wish, address: str | None) -> RoomSocket:
        """A socket for a client that may come in."""
        return self._socket(self.connections, session, wish, address)

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
