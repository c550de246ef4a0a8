"""The standards, case by case: what a client does wrong, and the error that it has to get (RFC 9113, 7541, 8441).

The client is frames written by hand. `test_h2spec.py` asks more of a real server, where h2spec can be had.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.server.http.http2.conftest import Echo, Later, Serve

PROTOCOL, FLOW, SIZE = ErrorCodes.PROTOCOL_ERROR, ErrorCodes.FLOW_CONTROL_ERROR, ErrorCodes.FRAME_SIZE_ERROR
CLOSED, COMPRESSION = ErrorCodes.STREAM_CLOSED, ErrorCodes.COMPRESSION_ERROR


def fields(*more: tuple[str, str], **pseudo: str | None) -> bytes:
    """A head: GET / if nothing else is said, `more` behind it; nothing depends on a table."""
    wanted = {"method": "GET", "scheme": "http", "path": "/", "authority": "chat.test"} | pseudo
    head = [(f":{name}", value) for name, value in wanted.items() if value is not None]
    return Encoder().encode([(name, value, True) for name, value in (*head, *more)])


def head(stream: int, block: bytes, *flags: str) -> bytes:
    return HeadersFrame(stream, block, flags=["END_HEADERS", *flags]).serialize()


def raw(kind: int, stream: int, body: bytes, flags: int = 0) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


GET = head(1, fields(), "END_STREAM")
POST = head(1, fields(method="POST"))


@dataclass(frozen=True)
class Wrong:
    """`sent` is an error of the connection, or of the stream, with this code; of either kind if both are allowed.

    loose
        h2 says PROTOCOL_ERROR where the standard has a code of its own
    """

    section: str
    what: str
    sent: bytes
    code: ErrorCodes
    stream: bool = False
    loose: bool = False


WRONG = [
    Wrong("4.2", "a frame larger than allowed", raw(0, 1, b"x" * 16_385), SIZE),
    Wrong("4.3", "a head that cannot be decoded", head(1, b"\xff\xff\xff"), COMPRESSION, loose=True),
    Wrong("4.3", "another frame within a head",
          HeadersFrame(1, fields()).serialize() + PingFrame(0).serialize(), PROTOCOL),
    Wrong("4.3", "another stream's frame within a head",
          HeadersFrame(1, fields()).serialize() + ContinuationFrame(3, b"").serialize(), PROTOCOL),
    Wrong("5.1", "DATA on a stream that is idle", raw(0, 1, b"x"), PROTOCOL),
    Wrong("5.1", "RST_STREAM on a stream that is idle", RstStreamFrame(1).serialize(), PROTOCOL),
    Wrong("5.1", "WINDOW_UPDATE on a stream that is idle", WindowUpdateFrame(1, 1).serialize(), PROTOCOL),
    Wrong("5.1", "CONTINUATION on a stream that is idle", ContinuationFrame(1, b"").serialize(), PROTOCOL),
    Wrong("5.1", "DATA on a stream that its client has ended", GET + raw(0, 1, b"x"), CLOSED, stream=True),
    Wrong("5.1", "HEADERS on a stream that its client has ended", GET + GET, CLOSED, stream=True),
    Wrong("5.1", "CONTINUATION on a stream that its client has ended",
          GET + ContinuationFrame(1, b"").serialize(), PROTOCOL),
    Wrong("5.1.1", "a stream with an even number", head(2, fields(), "END_STREAM"), PROTOCOL),
    Wrong("5.1.1", "a stream with a number below one that was", head(5, fields(), "END_STREAM") + head(3, fields()),
          PROTOCOL),
    Wrong("5.3.1", "a stream that depends on itself", PriorityFrame(3, depends_on=3).serialize(), PROTOCOL),
    Wrong("6.1", "DATA on no stream", raw(0, 0, b"x"), PROTOCOL),
    Wrong("6.1", "more padding than there is", POST + raw(0, 1, b"\x05xx", 8), PROTOCOL),
    Wrong("6.2", "HEADERS on no stream", raw(1, 0, fields(), 5), PROTOCOL),
    Wrong("6.2", "more padding than there is", raw(1, 1, b"\xf0" + fields(), 0xC | 1), PROTOCOL),
    Wrong("6.3", "PRIORITY on no stream", raw(2, 0, b"\0\0\0\0\1"), PROTOCOL),
    Wrong("6.3", "PRIORITY of another size", GET + raw(2, 1, b"\0\0\0\1"), SIZE),
    Wrong("6.4", "RST_STREAM on no stream", raw(3, 0, b"\0\0\0\x08"), PROTOCOL),
    Wrong("6.4", "RST_STREAM of another size", POST + raw(3, 1, b"\0\0\x08"), SIZE),
    Wrong("6.5", "SETTINGS on a stream", raw(4, 1, b"\0\3\0\0\0\1"), PROTOCOL),
    Wrong("6.5", "an acknowledgement with something in it", raw(4, 0, b"\0\3\0\0\0\1", 1), SIZE,
          loose=True),
    Wrong("6.5", "half a setting", raw(4, 0, b"\0\3\0"), SIZE),
    Wrong("6.5.2", "ENABLE_PUSH that is neither", raw(4, 0, b"\0\2\0\0\0\2"), PROTOCOL),
    Wrong("6.5.2", "INITIAL_WINDOW_SIZE too large", raw(4, 0, b"\0\4\x80\0\0\0"), FLOW),
    Wrong("6.5.2", "MAX_FRAME_SIZE too small", raw(4, 0, b"\0\5\0\0\x3f\xff"), PROTOCOL),
    Wrong("6.5.2", "MAX_FRAME_SIZE too large", raw(4, 0, b"\0\5\1\0\0\0"), PROTOCOL),
    Wrong("6.6", "PUSH_PROMISE of a client", POST + PushPromiseFrame(1, 2, fields(), flags=["END_HEADERS"]).serialize(),
          PROTOCOL),
    Wrong("6.7", "PING on a stream", raw(6, 1, b"12345678"), PROTOCOL),
    Wrong("6.7", "PING of another size", raw(6, 0, b"1234"), SIZE),
    Wrong("6.8", "GOAWAY on a stream", raw(7, 1, b"\0" * 8), PROTOCOL),
    Wrong("6.9", "a window that opens by nothing", POST + raw(8, 1, b"\0" * 4), PROTOCOL, stream=True),
    Wrong("6.9", "the connection's window that opens by nothing", raw(8, 0, b"\0" * 4), PROTOCOL),
    Wrong("6.9", "WINDOW_UPDATE of another size", raw(8, 0, b"\0\0\1"), SIZE),
    Wrong("6.9.1", "a window too large", POST + WindowUpdateFrame(1, 2**31 - 1).serialize(), FLOW, stream=True),
    Wrong("6.9.1", "the connection's window too large", WindowUpdateFrame(0, 2**31 - 1).serialize(), FLOW),
    Wrong("6.9.2", "a window too large by INITIAL_WINDOW_SIZE",
          POST + WindowUpdateFrame(1, 2**31 - 70_000).serialize() + SettingsFrame(0, {4: 2**31 - 1}).serialize(), FLOW),
    Wrong("6.10", "CONTINUATION after the end of a head", POST + ContinuationFrame(1, b"").serialize(), PROTOCOL),
    Wrong("6.10", "CONTINUATION after DATA", POST + raw(0, 1, b"x") + ContinuationFrame(1, b"").serialize(), PROTOCOL),
    Wrong("8.1", "trailers without an end", POST + head(1, Encoder().encode([("x", "y")])), PROTOCOL, stream=True),
    Wrong("8.1", "trailers with pseudo-fields",
          POST + head(1, Encoder().encode([(":method", "GET")]), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.1.1", "less body than was said",
          head(1, fields(("content-length", "3"), method="POST")) + raw(0, 1, b"x", 1), PROTOCOL, stream=True),
    Wrong("8.1.1", "more body than was said",
          head(1, fields(("content-length", "1"), method="POST")) + raw(0, 1, b"xxx", 1), PROTOCOL, stream=True),
    Wrong("8.2.1", "a name with capitals", head(1, fields(("X-Test", "y")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.2.1", "a value with a line break", head(1, fields(("x", "a\r\nb")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.2.2", "connection", head(1, fields(("connection", "close")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.2.2", "transfer-encoding", head(1, fields(("transfer-encoding", "chunked"))), PROTOCOL, stream=True),
    Wrong("8.2.2", "te", head(1, fields(("te", "gzip")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3", "an unknown pseudo-field", head(1, fields((":what", "x")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3", "an answer's pseudo-field", head(1, fields((":status", "200")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3", "a pseudo-field after others",
          head(1, fields(("x", "y"), (":path", "/"), path=None), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3", "a pseudo-field twice", head(1, fields((":path", "/")), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3.1", "no :method", head(1, fields(method=None), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3.1", "no :scheme", head(1, fields(scheme=None), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3.1", "no :path", head(1, fields(path=None), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("8.3.1", "an empty :path", head(1, fields(path=""), "END_STREAM"), PROTOCOL, stream=True),
    Wrong("7541, 2.3.3", "an index beyond the table", head(1, b"\xff\x80\x01", "END_STREAM"), COMPRESSION, loose=True),
    Wrong("7541, 5.2", "a string that ends within a letter", head(1, b"\x00\x81\x00\x81\xfa", "END_STREAM"),
          COMPRESSION, loose=True),
    Wrong("7541, 6.1", "index 0", head(1, fields() + b"\x80", "END_STREAM"), COMPRESSION, loose=True),
    Wrong("7541, 6.3", "a table larger than allowed", head(1, b"\x3f\xe1\xff\x03" + fields(), "END_STREAM"),
          COMPRESSION, loose=True),
    Wrong("7541, 4.2", "the size of a table behind a field", head(1, fields() + b"\x20", "END_STREAM"), COMPRESSION,
          loose=True),
]  # fmt: skip


def frames(sent: bytes) -> list[tuple[int, int, bytes]]:
    """Kind, stream and body of what the server sent."""
    found = []
    while sent:
        length = int.from_bytes(sent[:3])
        found.append((sent[3], int.from_bytes(sent[5:9]), sent[9 : 9 + length]))
        sent = sent[9 + length :]
    return found


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.section} {wrong.what}")
def test_error(serve: Serve, later: Later, wrong: Wrong) -> None:
    client = serve(later).client()
    client.switch.dataReceived(wrong.sent)
    client.clock.advance(0)
    said = frames(client.transport.value())
    ended = [int.from_bytes(body[4:8]) for kind, _, body in said if kind == 7]
    reset = [int.from_bytes(body) for kind, _, body in said if kind == 3]
    codes = {wrong.code, PROTOCOL} if wrong.loose else {wrong.code}
    assert (len(ended) == 1 and ended[0] in codes) or (wrong.stream and not ended and reset == [wrong.code]), said
    assert client.transport.disconnecting == bool(ended)


ALLOWED = {
    "5.1 PRIORITY on an idle stream": PriorityFrame(3, depends_on=1).serialize(),
    "5.1 WINDOW_UPDATE after the end": GET + WindowUpdateFrame(1, 10).serialize(),
    "5.1 RST_STREAM after the end": GET + RstStreamFrame(1, ErrorCodes.CANCEL).serialize(),
    "5.5 an unknown frame": raw(0x77, 0, b"what"),
    "6.2 padding and a priority": raw(1, 1, b"\3\0\0\0\3\1" + fields() + b"\0\0\0", 0x20 | 0x8 | 0x4 | 0x1),
    "6.4 an unknown code": POST + RstStreamFrame(1, 0xFF).serialize(),
    "6.5.2 an unknown setting": raw(4, 0, b"\xab\xcd\0\0\0\1"),
    "6.5 the same setting twice": raw(4, 0, b"\0\4\0\0\0\1" + b"\0\4\0\0\xff\xff"),
    "6.7 PING that acknowledges nothing": PingFrame(0, flags=["ACK"]).serialize(),
    "6.9.2 a window below nothing": SettingsFrame(0, {4: 0}).serialize() + SettingsFrame(0, {4: 65_535}).serialize(),
    "6.10 a head in three pieces": HeadersFrame(1, fields()[:5], flags=["END_STREAM"]).serialize()
    + ContinuationFrame(1, fields()[5:9]).serialize()
    + ContinuationFrame(1, fields()[9:], flags=["END_HEADERS"]).serialize(),
    "8.2.2 te: trailers": head(1, fields(("te", "trailers")), "END_STREAM"),
}


@pytest.mark.parametrize("sent", ALLOWED.values(), ids=ALLOWED.keys())
def test_allowed(serve: Serve, echo: Echo, sent: bytes) -> None:
    site = serve(echo)
    client = site.client()
    client.switch.dataReceived(sent)
    client.transport.clear()
    client.switch.dataReceived(head(9, fields(path="/still-there"), "END_STREAM"))
    client.clock.advance(0)
    said = frames(client.transport.value())
    assert any(kind == 0 and stream == 9 and b"/still-there" in body for kind, stream, body in said)
    assert all(kind != 7 for kind, _, _ in said)
    assert site.refused == []


def test_goaway_names_the_last_stream(serve: Serve, later: Later) -> None:
    """RFC 9113 section 6.8: so a client knows what it may ask again elsewhere."""
    client = serve(later).client()
    client.switch.dataReceived(GET + head(7, fields(), "END_STREAM") + raw(6, 0, b"short"))
    (goaway,) = [body for kind, _, body in frames(client.transport.value()) if kind == 7]
    assert int.from_bytes(goaway[:4]) == 7


def test_client_may_leave_with_any_code(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    client.switch.dataReceived(GoAwayFrame(0, error_code=0xFF, additional_data=b"because").serialize())
    client.clock.advance(0)
    assert client.transport.disconnecting


@pytest.mark.parametrize(
    ("protocol", "scheme", "path"), [("websocket", None, "/"), ("websocket", "http", None), ("", "http", "/")]
)
def test_extended_connect_that_lacks_something(
    serve: Serve, echo: Echo, protocol: str, scheme: str | None, path: str | None
) -> None:
    """RFC 8441 section 4: with :protocol, :scheme and :path must be there too."""
    client = serve(echo).client()
    client.switch.dataReceived(head(1, fields((":protocol", protocol), method="CONNECT", scheme=scheme, path=path)))
    client.clock.advance(0)
    said = frames(client.transport.value())
    refused = any(kind == 1 and b"501" in body for kind, _, body in said) or any(kind == 0 for kind, _, _ in said)
    assert any(kind in (3, 7) for kind, _, _ in said) or refused
    assert b"/" not in b"".join(body for kind, _, body in said if kind == 0)


def test_protocol_without_connect_is_an_error(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    client.switch.dataReceived(head(1, fields((":protocol", "websocket")), "END_STREAM"))
    client.clock.advance(0)
    assert any(kind in (3, 7) for kind, _, _ in frames(client.transport.value()))
