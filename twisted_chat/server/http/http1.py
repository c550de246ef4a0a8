"""HTTP/1.1: Twisted's channel with absolute deadlines, a bound for each thing, and refusals that say what was wrong."""

# mypy: disable-error-code="no-untyped-call"
# (calls of an inherited method count as ours, and twisted.web.http has no annotations)

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, cast

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.python.failure import Failure
from twisted.web import http

from twisted_chat.server.http.connection import HttpConnection
from twisted_chat.server.http.limits import (
    HOST,
    LINGER,
    HttpSite,
    Refusal,
    Refused,
    bare_line_feed,
    body_timeout,
    body_too_large,
    expectation_failed,
    handshake_timeout,
    header_too_large,
    http1_answer,
    malformed,
    not_ascii,
    not_implemented,
    target_too_long,
)
from twisted_chat.server.http.pull import Pull
from twisted_chat.server.http.request import ChatRequest
from twisted_chat.server.http.transport import StreamTransport, end_writing, held_bytes
from twisted_chat.server.http.unfinished import UnfinishedOfConnection
from twisted_chat.server.http.uptake import Progress

_BEFORE: Final = b"\r\n"
"""What ends a request line: with it before them, no fields at all end like any others."""

_FOLD: Final = re.compile(rb"(?<=[^\r\n])\r\n[ \t]+")
"""RFC 9112 section 5.2: a line that begins with a space belongs to the field before; there must be one."""

_TARGET: Final = re.compile(rb"/|\*\Z|https?://", re.IGNORECASE)
"""RFC 9112 section 3.2: the forms of a target that are for an origin server, by how they begin."""

TRAILER_BYTES: Final = 1_024
"""Bytes of fields after a chunked body, which nobody reads; Twisted keeps each line of them, for 80 bytes."""


class _Phase(Enum):
    """What the connection is doing; each has one deadline, which a trickle of bytes does not move."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    REFUSED = auto()


class Http1Channel(http.HTTPChannel):
    """One HTTP/1.1 connection.

    hand_over
        makes another protocol the receiver of everything that the connection still brings, its end included
    first_head
        seconds left for the first request's head: accepting and TLS have used up some of them
    grew
        called with how many bytes more wait for the client than before, at most
    """

    _path = b""  # until a request line has come

    def __init__(
        self,
        site: HttpSite,
        hand_over: Callable[[IProtocol], None],
        first_head: float,
        grew: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__()
        limits = site.limits
        self.site = self.factory = site
        self.requestFactory = cast("type[http.Request]", site.requestFactory)
        self.callLater = site.reactor.callLater  # type: ignore[assignment,method-assign]  # as Twisted's factory does
        self.MAX_LENGTH = limits.request_line_bytes
        self.totalHeadersSize = limits.request_line_bytes
        self.hand_over: Final = hand_over
        self.connection: Final = HttpConnection()
        self._limits: Final = limits
        self._phase = _Phase.HEAD
        self._first_head: float | None = first_head
        self._fields = _BEFORE
        """What has come of a head after its request line, and the end of that."""
        self._http10 = False
        self._paced = False
        self._pull: Pull | None = None
        self._grew: Final = grew
        self._progress: Final = Progress()
        self._draining = False
        self._closer: IDelayedCall | None = None
        self._unfinished: UnfinishedOfConnection | None = None
        self._unserved: ChatRequest | None = None
        self._head_passed = False

    # From the connection

    def connectionMade(self) -> None:
        self.connection.made(self._connection)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self._phase is _Phase.REFUSED:
            return
        self.connection.fresh = True
        super().dataReceived(data)
        self._read_over()
        if self._first_head is not None:
            left, self._first_head = self._first_head, None
            if self._phase is _Phase.HEAD:  # most heads are here at once, and need no time-out
                self.setTimeout(left)

    def resetTimeout(self) -> None:
        """Nothing: Twisted calls this for each segment, and a byte a minute must not keep a connection."""

    def timeoutConnection(self) -> None:
        if self._phase is _Phase.HEAD:
            self.refuse(handshake_timeout(self._limits))
        elif self._phase is _Phase.BODY:
            self.refuse(body_timeout(self._limits))
        elif self._phase is _Phase.ANSWERING and self._progress.look(self._connection):
            self.setTimeout(self._limits.idle_timeout)
        elif self._phase is _Phase.ANSWERING:
            self.site.refused("stalled")
            self.abortConnection()
        else:
            self.loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's differ in the default
        if self._closer is not None and self._closer.active():
            self._closer.cancel()
        self._give_up()
        super().connectionLost(reason)

    # The head

    def lineReceived(self, line: bytes) -> None:
        """A request line; what follows is taken as it comes, by `rawDataReceived`."""
        if not self.persistent:
            return  # what a client sends after its last request
        if b"\n" in line:
            self.refuse(bare_line_feed())
            return
        if not line.isascii() and b" HTTP/1." in line:
            self.refuse(not_ascii())
            return
        if self._phase is _Phase.IDLE and line:
            self._phase = _Phase.HEAD
            self.setTimeout(self._limits.handshake_timeout)
        super().lineReceived(line)
        if self._phase is _Phase.HEAD and line:
            self._http10 = line.endswith(b" HTTP/1.0")
            self.setRawMode()

    def setLineMode(self, extra: bytes = b"") -> None:
        # Twisted passes `extra`, which came before, to our `dataReceived`: it would be taken for a new read.
        self.line_mode = 1
        if extra:
            super().dataReceived(extra)
            self._read_over()

    def _read_over(self) -> None:
        """Look at what is left incomplete of what came."""
        if self._unserved is not None:
            self._hold(self._unserved)
        elif self.line_mode and self._buffer and b"\n" in self._buffer.partition(b"\r\n")[0]:
            # A line is complete with CR LF only, so this one would be waited for until the time is over.
            self.refuse(bare_line_feed())

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(target_too_long(self._limits))

    def _fields_received(self, data: bytes) -> None:
        """Take all fields at once, when they are here: line by line costs several times as much."""
        came = self._fields + data
        fields, end, rest = came.partition(b"\r\n\r\n")
        if not end:
            fields = came[:-3]  # the last ones may be of the end
        lines = fields.count(b"\r\n")
        if len(fields) > self._limits.header_bytes or lines > self._limits.headers:
            whole = fields if end else fields.rpartition(b"\r\n")[0]
            self._read_origin(whole.split(b"\r\n"))
            self.refuse(header_too_large(self._limits))
        elif fields.count(b"\n") != lines:
            self.refuse(bare_line_feed())
        elif not end:
            self._fields = came
        else:
            self._fields = _BEFORE
            if b"\r\n " in fields or b"\r\n\t" in fields:
                fields = _FOLD.sub(b" ", fields)
            if all(map(self.headerReceived, fields.split(b"\r\n")[1:])):
                self._buffer = rest
                self._head_received()

    def _read_origin(self, lines: list[bytes]) -> None:
        """Take from whole lines of a head that is refused what its answer depends on."""
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() in (b"origin", b"host"):
                self.requests[-1].requestHeaders.addRawHeader(name, value.strip(b" \t"))

    def _head_received(self) -> None:
        self.allHeadersReceived()
        if self.length == 0:
            self.allContentReceived()

    def headerReceived(self, line: bytes) -> bool:
        if line[:18].lower() == b"transfer-encoding:" and line[18:].strip(b" \t").lower() != b"chunked":
            self.refuse(self._unknown_coding(line[18:]))
            return False
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # Python refuses to read numbers of thousands of digits: a Content-Length far beyond any limit.
            self.refuse(body_too_large(self._limits))
            return False

    def _unknown_coding(self, value: bytes) -> Refusal:
        """RFC 9112 sections 6.1 and 6.3: a length that cannot be known is malformed, a coding may be unknown."""
        *before, last = (coding.strip(b" \t").lower() for coding in value.split(b","))
        if self._http10 or (b"chunked" in before) or last == b"":
            return malformed("Transfer-Encoding may only be chunked, once, as the last, and only on HTTP/1.1")
        return not_implemented("the only transfer coding that is taken here is chunked")

    def allHeadersReceived(self) -> None:
        refusal = self._check_head()
        if refusal is not None:
            self.refuse(refusal)
            return
        self._phase = _Phase.BODY
        if self.length != 0:
            self.setTimeout(self._limits.idle_timeout)
        # Twisted's would say "100 Continue" before anybody has looked at the head.
        request = self.requests[-1]
        request.parseCookies()
        self.persistent = self.checkPersistence(request, self._version)
        request.gotLength(self.length)
        self._head_passed = False
        if self.length != 0:
            self._unserved = cast("ChatRequest", request)
        if self.length is None:
            cast("http._ChunkedTransferDecoder", self._transferDecoder)._maxTrailerHeadersSize = TRAILER_BYTES

    def _check_head(self) -> Refusal | None:
        """What Twisted leaves to us; it has refused two lengths and a length beside a transfer coding."""
        if not _TARGET.match(self._path):
            return malformed("a request is for a path, which begins with a slash")
        headers = self.requests[-1].requestHeaders
        codings = headers.getRawHeaders(b"transfer-encoding", [])
        if codings and (self._http10 or [coding.lower() for coding in codings] != [b"chunked"]):
            # RFC 9112 section 6.1: "identity" is gone, and HTTP/1.0 has none; a proxy may read either another way.
            return malformed("Transfer-Encoding may only be chunked, and only on HTTP/1.1")
        hosts = headers.getRawHeaders(b"host", [])
        if len(hosts) > 1 or not (hosts or self._http10) or not all(map(HOST.fullmatch, hosts)):
            return malformed("a request has one Host header, with a host name or address")
        if self.length is not None and self.length > self._limits.body_bytes:
            return body_too_large(self._limits)
        # RFC 9110 section 10.1.1: HTTP/1.0 knows no expectations, and they are ignored there.
        expectations = headers.getRawHeaders(b"expect", [])
        if expectations and not self._http10 and [value.lower() for value in expectations] != [b"100-continue"]:
            return expectation_failed()
        return None

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        if self._draining:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False
        return bool(super().checkPersistence(request, version))

    # The body and the answer

    def rawDataReceived(self, data: bytes) -> None:
        if self._phase is _Phase.HEAD:
            self._fields_received(data)
            return
        try:
            super().rawDataReceived(data)
        except Refused as refused:
            self.refuse(refused.refusal)

    def _hold(self, request: ChatRequest) -> None:
        """Decide by the head whether a body that has not come whole is wanted, and count what is held of it."""
        if self._phase is _Phase.BODY and not self._head_passed:
            answer = request.answer_head(self._command, self._path, self._version)
            if answer is not None:
                self._answer_without_body(request, answer)
                return
            self._head_passed = True
            if not self._http10 and request.requestHeaders.hasHeader(b"expect"):
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._unfinished is None:
            self._unfinished = self.site.unfinished.connection(self.connection.address)
        try:
            self._unfinished.hold(request)
        except Refused as refused:
            self.refuse(refused.refusal)

    def _answer_without_body(self, request: ChatRequest, answer: bytes) -> None:
        self._phase = _Phase.REFUSED
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        request.write(answer)
        request.finish()

    def serving(self, request: ChatRequest) -> None:
        """A request begins to be served: its body is not waited for, nor its turn."""
        self._unserved = None
        if self._unfinished is not None:
            self._unfinished.release(request)

    def _give_up(self) -> None:
        """Let go of a request that is not going to be served."""
        if self._unserved is not None:
            self.serving(self._unserved)

    def allContentReceived(self) -> None:
        # Twisted goes on to here after a refusal in allHeadersReceived.
        if self._phase is not _Phase.REFUSED:
            self._phase = _Phase.ANSWERING
            super().allContentReceived()

    def requestDone(self, request: http.Request) -> None:
        if self._phase is _Phase.REFUSED:
            self._linger()
            return
        # First: the base class goes straight on to the next request if it is here already.
        self._phase = _Phase.IDLE
        self._savedTimeOut = self._limits.idle_timeout
        super().requestDone(request)

    # The transport is our consumer, and we are the answer's

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            # Twisted's would ask it between two turns of the global reactor.
            self._pull = pull = Pull(producer)
            super().registerProducer(pull, True)
            if not self._waitingForTransport:
                pull.resumeProducing()
            return
        # It is told to pause, and judges itself how long that may last.
        self._paced = True
        self.setTimeout(None)
        super().registerProducer(producer, True)

    def unregisterProducer(self) -> None:
        self._paced = False
        pull, self._pull = self._pull, None
        if pull is not None:
            pull.pauseProducing()
        super().unregisterProducer()

    def pauseProducing(self) -> None:
        super().pauseProducing()
        if self._phase is _Phase.ANSWERING and not self._paced:
            self.setTimeout(self._limits.idle_timeout)
            self._progress.look(self._connection)
            if self._pull is None:
                # TLS is told in the middle of what it writes.
                self._grew(max(self.held_bytes(), _length(self.requests[0])))

    def resumeProducing(self) -> None:
        if self._phase is _Phase.ANSWERING:
            self.setTimeout(None)
        super().resumeProducing()

    def held_bytes(self) -> int:
        """Bytes that were written and that the system has not taken yet."""
        return held_bytes(self.transport)

    def waiting_bytes(self) -> int:
        """Bytes of answers that wait for the client; an event stream counts for itself."""
        return 0 if self._paced else self.held_bytes()

    def give_up(self) -> int:
        """Cut off a client that does not take its answers. Return the bytes that waited for it."""
        size = self.held_bytes()
        self.site.refused("stalled")
        self.abortConnection()
        return size

    # Endings

    def refuse(self, refusal: Refusal) -> None:
        """Answer with `refusal`, read nothing more, and close once the client had time to read it."""
        if self._phase is _Phase.REFUSED:
            return
        self._phase = _Phase.REFUSED
        self.site.refused(refusal.code)
        self.connection.asked = True
        self.site.charge(self.connection.address)
        if self.requests:
            refusal = refusal.adding(cast("ChatRequest", self.requests[-1]).cross_origin(self._path))
        self._connection.write(http1_answer(refusal))
        for request in self.requests:
            # One that waits for its turn must not be served: its client has been told that it was refused.
            request.connectionLost(Failure(ConnectionAborted()))
        self._linger()

    def _linger(self) -> None:
        """Close once the client had time to read the answer; what it still sends is thrown away."""
        self._give_up()
        self.requests.clear()  # nobody else knows of it, and it holds what came of its body
        self._transferDecoder = None
        self.setTimeout(None)
        self.clearLineBuffer()
        transport = self._connection
        transport.unregisterProducer()
        # It may have been paused: the client's end must be seen.
        transport.resumeProducing()
        end_writing(transport)
        self._abort_after(LINGER)

    def cut_off(self, refusal: Refusal) -> None:
        """Answer with `refusal` and end the connection: more would be waiting for it than may."""
        self.refuse(refusal)

    def _respondToBadRequestAndDisconnect(self) -> None:
        # The one place where Twisted answers what it cannot parse. It offers no public one.
        self.refuse(malformed("this is not an HTTP/1.1 request"))

    def loseConnection(self) -> None:
        """Close when what was written has gone out; who takes none of it for the idle timeout is cut off."""
        super().loseConnection()
        if self._closer is None:
            self._progress.look(self._connection)
            self._closer = self.site.reactor.callLater(self._limits.idle_timeout, self._not_closed)

    def _not_closed(self) -> None:
        if self._progress.look(self._connection):
            self._closer = self.site.reactor.callLater(self._limits.idle_timeout, self._not_closed)
        else:
            self.abortConnection()

    def abortConnection(self) -> None:
        """Close now, so that a client sees that an answer was cut."""
        self._connection.abortConnection()

    def shutdown(self) -> None:
        """Close after the answer under way, or at once when there is none."""
        self._draining = True
        if self._phase is _Phase.IDLE:
            self.loseConnection()
        elif self._phase is not _Phase.HEAD:
            # checkPersistence has been asked already.
            self.persistent = 0
            for request in self.requests:
                if not request.startedWriting:
                    request.responseHeaders.setRawHeaders(b"connection", [b"close"])

    def detach(self) -> tuple[StreamTransport, bytes]:
        """Give up the connection while answering a request: its transport, and the bytes that came after the request.

        The request is never finished and never lost.
        """
        transport = self._connection
        # Bytes in the segment of the request are still in the line buffer, later ones were kept aside.
        early = b"".join(self._dataBuffer) + self.clearLineBuffer()
        self._dataBuffer.clear()
        self.requests.clear()
        self.setTimeout(None)
        transport.unregisterProducer()
        self.transport = None
        return transport, early

    @property
    def _connection(self) -> StreamTransport:
        return cast("StreamTransport", self.transport)

    def _abort_after(self, seconds: float) -> None:
        if self._closer is None:
            self._closer = self.site.reactor.callLater(seconds, self._connection.abortConnection)


def _length(request: http.Request) -> int:
    """Bytes of an answer's body, as far as it says so: ours that are long do."""
    (length,) = request.responseHeaders.getRawHeaders(b"content-length", [b"0"])
    return int(length)
