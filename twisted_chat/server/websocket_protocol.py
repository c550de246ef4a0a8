"""Autobahn's server protocol with less work for what happens all the time; whatever else happens is left to it.

Done here: handshakes, whose fields `http.upgrade` has checked, so that none can fail any more; what is read is in
`websocket_reading`. That it makes no difference to clients is what ``tests/server/test_websocket_protocol.py`` tries,
with Autobahn's own class beside this one.

A connection holds nothing that is the same for all of them: options and beginnings are attributes of the class that
`with_options` makes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import sha1
from typing import Any, Final, TypeVar, cast

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_chat.server.compression import read_offers
from twisted_chat.server.websocket_reading import OPEN, PONG, PacedReading

MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""


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


class LeanProtocol(PacedReading):
    """To be used through `with_options`, and connected when the handshake is there: it has no time-out for that."""

    answer_head: bytes = b""
    """What an answer to a handshake begins with."""
    # One of the options, which Autobahn does not declare.
    perMessageCompressionAccept: Callable[[list[PerMessageDeflateOffer]], PerMessageDeflateOfferAccept | None]

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
        self.forget()
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
        accept = b64encode(sha1(fields[b"Sec-WebSocket-Key"] + MAGIC).digest())  # noqa: S324 - as RFC 6455 says
        answer = b"%bSec-WebSocket-Accept: %b\r\n" % (self.answer_head, accept)
        if (offered := fields.get(b"Sec-WebSocket-Protocol")) is not None:
            answer += self._answer_subprotocols(offered.decode())
        if (offered := fields.get(b"Sec-WebSocket-Extensions")) is not None:
            answer += self._answer_extensions(offered.decode())
        self.transport.write(answer + b"\r\n")
        self.data = rest
        self.state = OPEN
        self.onOpen()

    def choose_subprotocol(self, offered: Sequence[str]) -> str | None:
        """Return the subprotocol that is spoken, one of those `offered`; None: none."""
        return None

    def _answer_subprotocols(self, offered: str) -> bytes:
        chosen = self.choose_subprotocol([name.strip() for name in offered.split(",")])
        return b"" if chosen is None else b"Sec-WebSocket-Protocol: %b\r\n" % chosen.encode()

    def _answer_extensions(self, offered: str) -> bytes:
        accepted = self.perMessageCompressionAccept(read_offers(offered))
        if accepted is None:
            return b""
        self._perMessageCompress = PerMessageDeflate.create_from_offer_accept(True, accepted)
        return b"Sec-WebSocket-Extensions: %b\r\n" % accepted.get_extension_string().encode()

    def onMessageEnd(self) -> None:
        # Autobahn would also fire an event that nobody listens to.
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = []
        if self._perMessageCompress is not None:
            self._perMessageCompress._decompressor = None  # it would keep 40 KiB until the next message

    # What goes

    def sendPong(self, payload: bytes | None = None) -> None:
        if self.state == OPEN:
            payload = payload or b""
            self.transport.write(b"%c%c%b" % (PONG, len(payload), payload))

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)


P = TypeVar("P", bound=LeanProtocol)


def with_options(protocol: type[P], factory: WebSocketServerFactory, most_fragments: int = 1 << 31) -> type[P]:
    """`protocol` with the options and the identity of `factory`, which must not change any more.

    most_fragments
        frames that one message may have
    """
    names = WebSocketServerProtocol.CONFIG_ATTRS
    options = {name: getattr(factory, name) for name in names}
    fixed = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    longest = min(factory.maxFramePayloadSize or 1 << 31, factory.maxMessagePayloadSize or 1 << 31)
    own = {
        "CONFIG_ATTRS": (),
        "factory": factory,
        "longest_plain": longest,
        "most_fragments": most_fragments,
        "answer_head": (
            f"HTTP/1.1 101 Switching Protocols\r\nServer: {factory.server}\r\n"
            "Upgrade: WebSocket\r\nConnection: Upgrade\r\n"
        ).encode(),
    }
    return type(protocol.__name__, (protocol,), {**BEGINNINGS, **fixed, **own})
