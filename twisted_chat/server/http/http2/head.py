"""Header blocks: an HTTP/2 request's is checked and taken apart, an HTTP/1.1 answer's is made into HTTP/2's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from twisted.web.http_headers import Headers

from twisted_chat.server.http.limits import (
    HOST,
    TARGET,
    TOKEN,
    HttpLimits,
    Refused,
    body_too_large,
    expectation_failed,
    header_too_large,
    malformed,
    not_ascii,
    not_implemented,
    target_too_long,
)

Field = tuple[bytes, bytes]

FIELD_OVERHEAD: Final = 32
"""RFC 9113 section 6.5.2: what each field counts beside its name and value."""

LONGEST_ANSWER_HEAD: Final = 16_384
"""Bytes that the head of an upgraded protocol's answer may have."""

HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""RFC 9113 section 8.2.2: fields that HTTP/2 does not carry."""

_HANDSHAKE_ONLY: Final = frozenset({b"sec-websocket-key", b"sec-websocket-accept", b"content-length"})
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})( .*)?")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head, ready for `twisted.web.http.Request`.

    protocol
        what an extended CONNECT (RFC 8441) asks for, None for every other request
    length
        of the body, None when it is not known beforehand
    """

    method: bytes
    path: bytes
    protocol: bytes | None
    fields: list[Field]
    length: int | None
    expects_continue: bool


def request_head(headers: Iterable[Field], limits: HttpLimits, *, ended: bool) -> RequestHead:
    """Take apart what h2 found well-formed: pseudo-headers first, each once, lower case, no NUL, CR or LF.

    `ended`: there is no body. Raises `Refused`.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: list[Field] = []
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + FIELD_OVERHEAD
        if name.startswith(b":"):
            pseudo[name] = value
        else:
            fields.append((name, value))
    if size > limits.header_bytes or len(fields) > limits.headers:
        raise Refused(header_too_large(limits))
    if b":authority" in pseudo:
        fields = [(b"host", pseudo[b":authority"]), *((name, value) for name, value in fields if name != b"host")]
    _check(pseudo, fields, limits)
    protocol = pseudo.get(b":protocol")
    length = 0 if protocol is not None else _length(fields)
    if ended and length:
        # h2 looks at this when DATA comes.
        raise Refused(malformed("content-length says that there is a body, and there is none"))
    if ended:
        length = 0
    if length is not None and length > limits.body_bytes:
        raise Refused(body_too_large(limits))
    expectations = [value.strip().lower() for name, value in fields if name == b"expect"]
    if expectations not in ([], [b"100-continue"]):
        raise Refused(expectation_failed())
    expects = not ended and bool(expectations)
    return RequestHead(pseudo[b":method"], pseudo[b":path"], protocol, fields, length, expects)


def origin_of(headers: list[Field]) -> tuple[bytes, Headers]:
    """Return the target of a request that may be refused, and those of its fields that say whose page sent it."""
    found = Headers()
    target = b""
    for name, value in headers:
        if name == b":path":
            target = value
        elif name in (b"origin", b":authority", b"host"):
            found.addRawHeader(b"host" if name == b":authority" else name, value)
    return target, found


def _check(pseudo: dict[bytes, bytes], fields: list[Field], limits: HttpLimits) -> None:
    method = pseudo[b":method"]
    if method == b"CONNECT" and pseudo.get(b":protocol") != b"websocket":
        raise Refused(not_implemented("CONNECT is for WebSockets here: :protocol is websocket"))
    if not TOKEN.fullmatch(method):
        raise Refused(malformed(":method is a token"))
    path = pseudo[b":path"]
    if len(path) > limits.request_line_bytes:
        raise Refused(target_too_long(limits))
    if not path.isascii():
        raise Refused(not_ascii())
    if not TARGET.fullmatch(path) and (method, path) != (b"OPTIONS", b"*"):
        raise Refused(malformed(":path starts with / and is printable ASCII without spaces"))
    if pseudo[b":scheme"].lower() not in {b"http", b"https"}:
        raise Refused(malformed(":scheme is http or https"))
    if not all(HOST.fullmatch(value) for name, value in fields if name == b"host"):
        raise Refused(malformed(":authority is a host name or address, and maybe a port"))


def _length(fields: list[Field]) -> int | None:
    # h2 has refused lengths that are no number, or not the same.
    return next((int(value) for name, value in fields if name == b"content-length"), None)


def without_hop_by_hop(fields: Iterable[Field]) -> list[Field]:
    """Fields of an HTTP/1.1 answer as HTTP/2 carries them: lower case, no spaces around, nothing on the connection."""
    lower = ((name.lower(), value.strip()) for name, value in fields)
    return [(name, value) for name, value in lower if name not in HOP_BY_HOP]


class AnswerHead:
    """Collects the HTTP/1.1 answer to a WebSocket handshake, to give it as HTTP/2's (RFC 8441 section 5).

    ``101 Switching Protocols`` becomes ``:status 200``, every other status stays.
    """

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = b""

    def feed(self, data: bytes) -> tuple[list[Field], bytes] | None:
        """The fields, ``:status`` first, and what followed the head; None until it is complete.

        Raises `ValueError` for what is not the head of an answer.
        """
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if len(head) > LONGEST_ANSWER_HEAD:
            raise ValueError(f"the answer to a handshake may have {LONGEST_ANSWER_HEAD} bytes")
        if not end:
            return None
        first, *lines = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            raise ValueError("the answer to a handshake must start with an HTTP/1.1 status line")
        fields = without_hop_by_hop(_field(line) for line in lines)
        code = b"200" if status[1] == b"101" else status[1]
        return [(b":status", code), *(field for field in fields if field[0] not in _HANDSHAKE_ONLY)], rest


def _field(line: bytes) -> Field:
    name, colon, value = line.partition(b":")
    if not colon or not TOKEN.fullmatch(name):
        raise ValueError("a line of the answer to a handshake is not a header field")
    return name, value.strip()
