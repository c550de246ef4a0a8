"""What one HTTP connection may use, and what a client is told that asks for more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request, datetimeToString
from twisted.web.http_headers import Headers

from twisted_chat.core.errors import Reason
from twisted_chat.server.http.fairness import FairTurns
from twisted_chat.server.http.request_rates import RequestRates
from twisted_chat.server.http.rotation import Work
from twisted_chat.server.http.waiting import WaitingBytes

if TYPE_CHECKING:  # it needs the limits itself
    from twisted_chat.server.http.unfinished import UnfinishedBytes

SERVER: Final = b"twisted_chat"
"""The ``Server`` header: what we are, not which version of what."""

LINGER: Final = 5.0
"""Seconds that a refused client has to read the answer while what it still sends is thrown away."""

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2: methods, field names, subprotocols."""

TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
"""A request target in origin form: printable ASCII without spaces."""

HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%\-]*)(:[0-9]{0,5})?")
"""RFC 9110 section 7.2: a ``Host``; it may be empty."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of a site's connections, alike on HTTP/1.1 and HTTP/2. Times are seconds, sizes bytes.

    handshake_timeout
        from accepting until TLS is up and the first request's head, or HTTP/2's SETTINGS, arrived; on HTTP/1.1 each
        later head gets as long, from its first line on
    idle_timeout
        without a request; also for a whole request body, and for a response that makes no progress
    headers, header_bytes
        fields of one request, and their sizes together; HTTP/2 counts 32 more for each field, as RFC 9113 does
    streams
        requests and WebSockets at once on one HTTP/2 connection: all tabs of a browser share it
    unfinished_bytes, unfinished_bytes_per_address, unfinished_bytes_per_connection
        memory that requests may take whose bodies have not come whole: in all, of one address, on one connection
    connections, connections_per_address
        of the whole site, whatever is done on them; one more is closed without an answer
    ping_interval
        after so long a silence an HTTP/2 client with open streams is asked whether it lives, and after as much again
        it is cut off
    """

    handshake_timeout: float = 10.0
    idle_timeout: float = 75.0
    request_line_bytes: int = 8_192
    header_bytes: int = 16_384
    headers: int = 100
    body_bytes: int = 65_536
    streams: int = 256
    unfinished_bytes: int = 64 << 20
    unfinished_bytes_per_address: int = 8 << 20
    unfinished_bytes_per_connection: int = 2 << 20
    connections: int = 20_000
    connections_per_address: int = 800
    ping_interval: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be more than 0, not {value!r}")


CrossOriginFields = Callable[[bytes, Headers], Iterable[tuple[bytes, bytes]]]
"""Returns, by the target and the fields of a request, those of its answer that let a page of another site read it."""


class HttpSite(Protocol):
    """What a channel needs of the site that it serves."""

    @property
    def limits(self) -> HttpLimits: ...

    @property
    def reactor(self) -> IReactorTime: ...

    @property
    def waiting_bytes(self) -> WaitingBytes:
        """What waits for all its clients."""

    @property
    def turns(self) -> FairTurns: ...

    @property
    def unfinished(self) -> UnfinishedBytes: ...

    @property
    def rates(self) -> RequestRates | None: ...

    @property
    def requestFactory(self) -> Callable[..., Request]: ...

    def address(self, request: Request) -> str | None:
        """Return the address that a request is counted under."""

    def cross_origin(self, target: bytes, headers: Headers) -> Iterable[tuple[bytes, bytes]]:
        """Return the fields with which the page that sent a request may read its answer."""

    def charge(self, address: str | None) -> bool:
        """Count against the rate of a connection's peer what was refused before it was a request.

        Returns whether that is within the rate.
        """

    def forget(self, work: Work) -> None:
        """Drop work for which nobody waits any more."""

    def refused(self, reason: str) -> None:
        """Something was refused; `reason` is a `Refusal.code` or another of a small fixed set."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the HTTP layer itself, given before or instead of a resource's.

    code
        what a client branches on, and the label under which it is counted
    message
        for people: what was wrong and what would be right; never what the client sent
    """

    status: int
    code: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """``{"error": {"code": …, "message": …}}`` and a newline."""
        error = {"error": {"code": self.code, "message": self.message}}
        return json.dumps(error, ensure_ascii=False).encode() + b"\n"

    def adding(self, headers: Iterable[tuple[bytes, bytes]]) -> Refusal:
        """Return this refusal with more header fields."""
        return replace(self, headers=(*self.headers, *headers))

    @property
    def phrase(self) -> bytes:
        return HTTPStatus(self.status).phrase.encode()

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Header fields for `body`, names in lower case."""
        return [
            (b"server", SERVER),
            (b"date", _date()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]


def http1_answer(refusal: Refusal) -> bytes:
    """Compose `refusal` as the last answer on an HTTP/1.1 connection."""
    lines = [b"HTTP/1.1 %d %s" % (refusal.status, refusal.phrase), b"connection: close"]
    lines += [b"%s: %s" % field for field in refusal.fields]
    return b"\r\n".join([*lines, b"", refusal.body])


class Refused(Exception):  # noqa: N818  # it is an answer, not an error of ours
    """Raised where a request breaks a limit, caught where its channel can answer it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal: Final = refusal


def malformed(message: str) -> Refusal:
    return Refusal(400, "malformed", message)


def body_too_large(limits: HttpLimits) -> Refusal:
    return Refusal(413, "body_too_large", f"a request body may have {limits.body_bytes} bytes")


def header_too_large(limits: HttpLimits) -> Refusal:
    return Refusal(
        431,
        "header_too_large",
        f"a request may have {limits.headers} header fields of {limits.header_bytes} bytes together",
    )


def target_too_long(limits: HttpLimits) -> Refusal:
    return Refusal(414, "target_too_long", f"a request line may have {limits.request_line_bytes} bytes")


def handshake_timeout(limits: HttpLimits) -> Refusal:
    return Refusal(
        408, "handshake_timeout", f"the head of a request must arrive in {limits.handshake_timeout:g} seconds"
    )


def too_many_requests(wait: float) -> Refusal:
    """Refuse a request of an address that may send the next one in `wait` seconds."""
    reason = Reason.RATE_LIMITED
    return Refusal(
        reason.http,
        reason.code,
        f"too many requests from this address; try again in {wait:.1f} seconds",
        ((b"retry-after", b"%d" % max(1, ceil(wait))),),
    )


def body_timeout(limits: HttpLimits) -> Refusal:
    return Refusal(408, "body_timeout", f"the body of a request must arrive in {limits.idle_timeout:g} seconds")


def too_many_unfinished(status: int, whose: str, most: int) -> Refusal:
    message = (
        f"requests whose bodies have not come whole may hold {most} bytes {whose}; send a body together with its head, "
        "and try again in a second"
    )
    return Refusal(status, "too_many_unfinished", message, ((b"retry-after", b"1"),))


def not_implemented(message: str) -> Refusal:
    return Refusal(501, "not_implemented", message)


def expectation_failed() -> Refusal:
    return Refusal(417, "expectation_failed", "the only expectation that is met here is 100-continue")


def bare_line_feed() -> Refusal:
    return malformed("lines of a request's head end with CR LF; one of these ends with LF alone")


def not_ascii() -> Refusal:
    """Refuse raw UTF-8 in a path or a query: what it names is left to each proxy on the way to guess."""
    return malformed(
        "a URL is printable ASCII in a request: percent-encode the UTF-8 of anything else, %C3%A9 for \u00e9"
    )


def _date() -> bytes:
    date: bytes = datetimeToString()
    return date
