"""Handing a request's connection over to a WebSocket protocol, alike on HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441).

The protocol parses a handshake of its own. It gets one made of nothing but the fields that it needs, each checked: what
a client wrote is never passed on as it came, so that no line of it can become another field.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final, cast

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.server import Request as SiteRequest

from twisted_chat.server.http.http1 import Http1Channel
from twisted_chat.server.http.http2.stream import H2Stream
from twisted_chat.server.http.limits import HOST, TARGET, Refusal
from twisted_chat.server.http.request import answer
from twisted_chat.server.http.transport import StreamTransport

VERSION: Final = b"13"
"""RFC 6455 section 4.4: the only version there is."""

# RFC 6455's own example in section 4.1 ends in a digit that no encoder makes of sixteen bytes.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_HANDSHAKE: Final = (
    b"GET %b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: %b\r\nSec-WebSocket-Key: %b\r\n%b\r\n"
)
_VALUE: Final = re.compile(rb"[\x20-\x7e]*")
_UPGRADE: Final = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
_log: Final = Logger()


def is_websocket_request(request: Request) -> bool:
    """Whether `request` asks for a WebSocket: by Upgrade, or as an extended CONNECT."""
    channel = request.channel
    if isinstance(channel, H2Stream):
        return channel.protocol == b"websocket"
    return (
        request.method == b"GET"
        and request.clientproto == b"HTTP/1.1"
        and b"websocket" in _tokens(request.requestHeaders.getRawHeaders(b"Upgrade", ()))
    )


def lost_upgrade(request: Request) -> Refusal | None:
    """Return what to answer to a WebSocket handshake that no longer asks for an upgrade; None: it is no handshake.

    Proxies drop ``Upgrade`` unless they are told to pass it on; the other fields of the handshake remain.
    """
    fields = request.requestHeaders
    # Asked of every request, so first what hardly any has.
    if not (fields.hasHeader(b"Sec-WebSocket-Version") or fields.hasHeader(b"Sec-WebSocket-Key")):
        return None
    if request.method != b"GET" or is_websocket_request(request):
        return None
    return Refusal(
        426,
        "upgrade_missing",
        "this WebSocket handshake asks for no upgrade: a proxy in front has dropped Upgrade and Connection, or spoke "
        "HTTP/1.0; it has to pass them on (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
        "proxy_set_header Connection upgrade)",
        _UPGRADE,
    )


def handshake_refusal(request: Request) -> Refusal | None:
    """What is wrong with the handshake of a WebSocket request, or None."""
    # By names as Twisted writes them; asking it for each costs more.
    fields = dict(request.requestHeaders.getAllRawHeaders())
    if fields.get(b"Sec-Websocket-Version") != [VERSION]:
        return _wrong_version(request)
    if not TARGET.fullmatch(request.path):
        return _bad("the path must start with / and be printable ASCII")
    for name in (b"Sec-Websocket-Protocol", b"Sec-Websocket-Extensions"):
        if not all(map(_VALUE.fullmatch, fields.get(name, ()))):
            return _bad(f"{name.decode()} must be printable ASCII")
    hosts = fields.get(b"Host", ())
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return _bad("Host must be one host name or address")
    if isinstance(request.channel, H2Stream):
        return None
    if b"upgrade" not in _tokens(fields.get(b"Connection", ())):
        return _bad("Connection must name Upgrade")
    keys = fields.get(b"Sec-Websocket-Key", ())
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return _bad("Sec-WebSocket-Key must be sixteen random bytes in Base64, once")
    return None


def upgrade(request: Request, protocol: IProtocol, headers: Iterable[bytes] = ()) -> None:
    """Make `protocol` the owner of the connection, or of the HTTP/2 stream, that `request` came on.

    It is connected to its transport, receives an HTTP/1.1 handshake with the request's path but not its query, which
    may hold a token, and then what the client sent early. It must answer with an HTTP/1.1 head.

    headers
        names of further request fields that its handshake has, where the client sent them

    A handshake that does not hold is answered instead, and `protocol` never connected. Raises `ConnectionLost` when the
    client has left meanwhile. Afterwards `request` must not be used; its `notifyFinish` never fires.
    """
    channel: H2Stream | Http1Channel | None = cast("Any", request).channel
    if channel is None:
        raise ConnectionLost("the client left before the upgrade")
    refusal = handshake_refusal(request)
    if refusal is not None:
        channel.site.refused(refusal.code)
        answer(cast("SiteRequest", request), refusal)
        return
    handshake = _handshake(request, headers)
    if isinstance(channel, H2Stream):
        channel.take_over(protocol)
        if _connect(protocol, channel, handshake):
            # Not resumed: its protocol may have paused it.
            channel.deliver_held()
    else:
        transport, early = channel.detach()
        channel.hand_over(protocol)
        # Requests that came too early may have stopped it.
        transport.resumeProducing()
        _connect(protocol, transport, handshake + early)


def _connect(protocol: IProtocol, transport: H2Stream | StreamTransport, first: bytes) -> bool:
    """Whether `protocol` took it. Its failure must not reach the resource, whose request is gone."""
    try:
        protocol.makeConnection(cast("ITransport", transport))
        protocol.dataReceived(first)
    except Exception:  # noqa: BLE001 - as the reactor does for what it calls
        _log.failure("a WebSocket protocol failed on its handshake")
        transport.abortConnection()
        return False
    return True


def _handshake(request: Request, headers: Iterable[bytes]) -> bytes:
    values = request.requestHeaders.getRawHeaders
    (host,) = values(b"Host", ())
    if isinstance(request.channel, H2Stream):
        # HTTP/2 needs no key: its framing proves what the key proves.
        key = b64encode(os.urandom(16))
    else:
        (key,) = values(b"Sec-WebSocket-Key", ())
    more = b""
    for name in (b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", *headers):
        given = values(name, ())
        if given and all(map(_VALUE.fullmatch, given)):
            more += b"%b: %b\r\n" % (name, b", ".join(given))
    return _HANDSHAKE % (request.path, host, VERSION, key, more)


def _wrong_version(request: Request) -> Refusal:
    message = "Sec-WebSocket-Version must be 13"
    version = (b"sec-websocket-version", VERSION)
    if isinstance(request.channel, H2Stream):
        # 426 is about switching protocols, which HTTP/2 does not do.
        return Refusal(400, "bad_handshake", message, (version,))
    return Refusal(426, "bad_handshake", message, (version, *_UPGRADE))


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad_handshake", message, ((b"sec-websocket-version", VERSION),))


def _tokens(values: Iterable[bytes]) -> set[bytes]:
    return {token.strip().lower() for value in values for token in value.split(b",")}
