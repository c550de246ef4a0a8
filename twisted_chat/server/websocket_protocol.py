"""Autobahn's server protocol with less work for what happens all the time; whatever else happens is left to it.

Done here: handshakes that ask for nothing special; whole, masked, unfragmented, uncompressed text frames, and pongs,
where nothing of an earlier frame waits. That it makes no difference to clients is what
``tests/server/test_websocket_protocol.py`` tries, with Autobahn's own class beside this one.

A connection holds nothing that is the same for all of them: options and beginnings are attributes of the class that
`with_options` makes.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cached_property
from hashlib import sha1
from typing import Any, Final, TypeVar, cast

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

TEXT: Final = 0x81
"""The first byte of a frame that is a whole text message."""

PONG: Final = 0x8A

OPEN: Final = WebSocketProtocol.STATE_OPEN

LONGEST_CONTROL: Final = 125

MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""

PLAIN_FIELDS: Final = {b"Host", b"Upgrade", b"Connection", b"Sec-WebSocket-Version", b"Sec-WebSocket-Key"}
"""Fields of a handshake that asks for nothing special."""


class _NobodyWaits:
    """In place of a Deferred that is only ever called back."""

    def callback(self, result: object) -> None:
        """Nobody is told."""


_NOBODY: Final = _NobodyWaits()


BEGINNINGS: Final[dict[str, Any]] = {
    "is_open": _NOBODY,
    "is_closed": _NOBODY,
    "peer": None,
    "state": WebSocketProtocol.STATE_CONNECTING,
    "send_state": WebSocketProtocol.SEND_STATE_GROUND,
    "data": b"",
    "send_queue": (),
    "triggered": False,
    "trackedTimings": None,
    "trafficStats": TrafficStats(),  # of all connections, read by none
    "current_frame": None,
    "inside_message": False,
    **dict.fromkeys(("failedByMe", "closedByMe", "droppedByMe", "wasClean"), False),
    **dict.fromkeys(("wasMaxFramePayloadSizeExceeded", "wasMaxMessagePayloadSizeExceeded"), False),
    **dict.fromkeys(("wasOpenHandshakeTimeout", "wasCloseHandshakeTimeout", "wasServingFlashSocketPolicyFile"), False),
    **dict.fromkeys(("localCloseCode", "localCloseReason", "remoteCloseCode", "remoteCloseReason"), None),
    **dict.fromkeys(("wasNotCleanReason", "openHandshakeTimeoutCall", "closeHandshakeTimeoutCall"), None),
    **dict.fromkeys(("autoPingTimeoutCall", "autoPingPending", "autoPingPendingCall"), None),
    "_perMessageCompress": None,
    "websocket_version": 13,
}
"""What Autobahn sets on each connection when it is made."""


class LeanProtocol(WebSocketServerProtocol):
    """To be used through `with_options`, and connected when the handshake is there: it has no time-out for that."""

    # TCP, TLS, a unix socket or an HTTP/2 stream: what all of them can do has no interface of its own.
    transport: Any

    answer_head: bytes = b""
    """What an answer to a handshake begins with."""
    longest_plain: int = 0
    """Bytes of payload up to which text frames are read here."""
    heard = True
    """Whether the client sent anything since this was set to False."""
    stopped = False
    """Whether frames that have come are left as they are, until `go_on`."""

    def __init__(self) -> None:
        """Nothing: Autobahn would make futures, listeners and a description of the transport."""

    @cached_property
    def utf8validator(self) -> Utf8Validator:  # type: ignore[override]  # as good as an attribute
        """Made for the first message that is not read here."""
        return Utf8Validator()

    # The connection

    def connectionMade(self) -> None:
        # TCP_NODELAY was set for the request that was upgraded.
        self.factory.countConnections += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        WebSocketProtocol._connectionLost(self, cast("str", reason))  # its annotation is wrong
        self.factory.countConnections -= 1

    def _onOpen(self) -> None:
        self.onOpen()

    def processHandshake(self) -> None:
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        # `http.upgrade` made it, of fields that it checked.
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if not fields.keys() <= PLAIN_FIELDS:
            super().processHandshake()
            return
        accept = b64encode(sha1(fields[b"Sec-WebSocket-Key"] + MAGIC).digest())  # noqa: S324 - as RFC 6455 says
        self.transport.write(b"%bSec-WebSocket-Accept: %b\r\n\r\n" % (self.answer_head, accept))
        self.data = rest
        self.state = OPEN
        self.onOpen()
        if self.data:
            self.consumeData()

    # What comes

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
        waits = self.data or self.inside_message or self.current_frame is not None
        if self.state == OPEN and not (waits or self.stopped):
            data = self._read_plain(data)
        if data:
            self._dataReceived(data)

    def _read_plain(self, data: bytes) -> bytes:
        """Take frames as long as they are plain; what is left."""
        at, end = 0, len(data)
        while end - at >= 6:
            first, size, begin = data[at], data[at + 1] - 0x80, at + 6
            if size > LONGEST_CONTROL:
                if size == 127 or end - at < 8:
                    break
                size, begin = data[at + 2] << 8 | data[at + 3], at + 8
                if size <= LONGEST_CONTROL:
                    break  # not written in the shortest way
            stop = begin + size
            if size < 0 or stop > end:
                break
            if first == TEXT and size <= self.longest_plain:
                payload = unmask(data[begin:stop], data[begin - 4 : begin])
                if not (payload.isascii() or is_utf8(payload)):
                    break
                at = stop
                self.onMessage(payload, False)
                if self.state != OPEN or self.stopped:
                    break
            elif first == PONG and size <= LONGEST_CONTROL:
                at = stop
                self.onPong(unmask(data[begin:stop], data[begin - 4 : begin]))
            else:
                break
        return data[at:] if at else data

    def processData(self) -> bool:
        return not self.stopped and super().processData()

    def go_on(self) -> None:
        """Take what has come while it was stopped."""
        self.stopped = False
        data, self.data = self.data, b""
        if data:
            self.dataReceived(data)

    def onMessageEnd(self) -> None:
        # Autobahn would also fire an event that nobody listens to.
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = []
        if self._perMessageCompress is not None:
            self._perMessageCompress._decompressor = None  # it would keep 40 KiB until the next message

    # What goes

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 section 5.3: all bytes at once, as one number."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


def is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


P = TypeVar("P", bound=LeanProtocol)


def with_options(protocol: type[P], factory: WebSocketServerFactory) -> type[P]:
    """`protocol` with the options and the identity of `factory`, which must not change any more."""
    names = WebSocketServerProtocol.CONFIG_ATTRS
    options = {name: getattr(factory, name) for name in names}
    fixed = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    longest = min(factory.maxFramePayloadSize or 1 << 31, factory.maxMessagePayloadSize or 1 << 31)
    own = {
        "CONFIG_ATTRS": (),
        "factory": factory,
        "longest_plain": longest,
        "answer_head": (
            f"HTTP/1.1 101 Switching Protocols\r\nServer: {factory.server}\r\n"
            "Upgrade: WebSocket\r\nConnection: Upgrade\r\n"
        ).encode(),
    }
    return type(protocol.__name__, (protocol,), {**BEGINNINGS, **fixed, **own})
