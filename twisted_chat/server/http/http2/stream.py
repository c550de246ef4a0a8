"""One HTTP/2 stream: the channel of a `twisted.web` request, and after an upgrade the transport of a WebSocket."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol

from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IConsumer, IDelayedCall, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.http_headers import Headers
from zope.interface import implementer

from twisted_chat.server.http.connection import HttpConnection
from twisted_chat.server.http.http2.backlog import Backlog
from twisted_chat.server.http.http2.head import (
    AnswerHead,
    Field,
    RequestHead,
    origin_of,
    request_head,
    without_hop_by_hop,
)
from twisted_chat.server.http.http2.pacing import Pacer
from twisted_chat.server.http.http2.send_queue import SendQueue
from twisted_chat.server.http.limits import HttpSite, Refusal, Refused, body_timeout
from twisted_chat.server.http.request import ChatRequest
from twisted_chat.server.http.unfinished import UnfinishedOfConnection
from twisted_chat.server.http.uptake import Progress, Uptake

QUEUE_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait on a stream whose writer knows no pause; the next write after them resets the stream."""

CONNECTION_QUEUE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes that may wait on all streams of a connection; at more, a stream that has its share and writes is reset."""

SHARE: Final = 128 * 1024
"""What every stream may have waiting, whatever its siblings do: a paced writer pauses with less."""


class StreamOwner(Protocol):
    """What a stream asks of its connection."""

    @property
    def blocked(self) -> bool:
        """The connection's own transport takes no more for now."""

    @property
    def backlog(self) -> Backlog:
        """What waits on all its streams."""

    @property
    def site(self) -> HttpSite: ...

    @property
    def connection(self) -> HttpConnection: ...
    def grew(self, size: int) -> None:
        """So many bytes more wait on the stream, which has had its share before."""

    @property
    def unfinished(self) -> UnfinishedOfConnection:
        """What its requests hold whose bodies have not come whole."""

    def send_headers(self, stream: H2Stream, fields: Iterable[Field]) -> None:
        """Send a head; the stream is reset if it cannot be sent."""

    def ready(self, stream: H2Stream) -> None:
        """The stream has something to send, or its end."""

    def acknowledge(self, stream: H2Stream, length: int) -> None:
        """So many bytes of the client's were used up: it may send as many more."""

    def reset(self, stream: H2Stream, code: ErrorCodes) -> None:
        """End the stream now; its `lost` follows in another turn of the reactor."""

    def forget(self, stream: H2Stream) -> None:
        """Both sides have ended the stream."""

    def cut_off(self) -> None:
        """End the connection of a client that asks too much."""

    def uptake(self) -> Uptake | None:
        """What the client has taken of what was sent on the whole connection."""

    def window(self, stream: H2Stream) -> int:
        """Bytes that the client lets the stream send now."""

    def is_secure(self) -> bool: ...

    def getPeer(self) -> IAddress: ...

    def getHost(self) -> IAddress: ...


@implementer(ITransport, IConsumer, IPushProducer)
class H2Stream:
    """Made by a request's head, gone when both sides have ended it or either has reset it.

    protocol
        ``b"websocket"`` when the request is an extended CONNECT (RFC 8441)
    ended
        the client sends no more
    closed
        we send no more: END_STREAM or RST_STREAM is on its way
    """

    _log = Logger()

    __slots__ = (
        "_answer_head",
        "_answered",
        "_bodyless",
        "_head",
        "_head_passed",
        "_held",
        "_owner",
        "_pacer",
        "_progress",
        "_reading",
        "_request",
        "_serving",
        "_waiting_since",
        "_websocket",
        "closed",
        "disconnecting",
        "ended",
        "factory",
        "linger",
        "queue",
        "site",
        "stream_id",
    )

    def __init__(self, owner: StreamOwner, stream_id: int) -> None:
        self.stream_id: Final = stream_id
        self.site: Final = owner.site
        self.factory: Final = owner.site
        self.queue: Final = SendQueue(owner.backlog)
        self.ended = False
        self.closed = False
        self.disconnecting = False
        self.linger: IDelayedCall | None = None
        self._owner: Final = owner
        self._head: RequestHead | None = None
        self._bodyless = False
        self._head_passed = False
        self._serving = False
        self._request: Request | None = None
        self._websocket: IProtocol | None = None
        self._answer_head: AnswerHead | None = None
        self._answered = False
        # What came while nobody read: data, and how much of the window it takes. None is the end.
        self._held: deque[tuple[bytes | None, int]] = deque()
        self._reading = True
        self._pacer: Final = Pacer()
        self._progress: Final = Progress()
        # When the body of a request began to come, then since when an answer waits for the client to take it.
        self._waiting_since: float | None = owner.site.reactor.seconds()

    @property
    def protocol(self) -> bytes | None:
        return None if self._head is None else self._head.protocol

    @property
    def connection(self) -> HttpConnection:
        """What all streams of the connection share."""
        return self._owner.connection

    @property
    def transport(self) -> H2Stream:
        """Requests take their channel's transport for their own."""
        return self

    # From the client

    def start(self, headers: list[Field], *, ended: bool) -> None:
        """The request's head is here; `ended`: all of it is, and `end_received` follows."""
        self._bodyless = (b":method", b"HEAD") in headers
        try:
            head = self._head = request_head(headers, self.site.limits, ended=ended)
        except Refused as refused:
            self._refuse(refused.refusal.adding(self.site.cross_origin(*origin_of(headers))))
            return
        request = self._request = self.site.requestFactory(self)
        for name, value in head.fields:
            request.requestHeaders.addRawHeader(name, value)
        request.gotLength(head.length)
        request.parseCookies()
        if head.protocol is not None:
            # Its stream stays open: the end of the request is not the end of the stream.
            self._dispatch(head, request)

    def data_received(self, data: bytes, length: int) -> None:
        """`data` takes `length` bytes of the window, padding included."""
        if self._websocket is not None and self._reading:
            self._deliver(self._websocket, data)
            self._owner.acknowledge(self, length)
        elif self._websocket is not None or (self.protocol is not None and self._request is not None):
            # Paused, or not upgraded yet. The window bounds it.
            self._held.append((data, length))
        else:
            if self._request is not None:
                self._body_received(self._request, data)
            self._owner.acknowledge(self, length)

    def read_over(self) -> None:
        """Decide by the head whether a body that has not come whole is wanted, and count what is held of it.

        To be called after each read that brought something of the stream.
        """
        head, request = self._head, self._request
        if head is None or request is None or head.protocol is not None or self._serving or self.closed:
            return
        if not (self.ended or self._head_passed):
            assert isinstance(request, ChatRequest)
            answer = request.answer_head(head.method, head.path, b"HTTP/2")
            if answer is not None:
                request.write(answer)
                request.finish()
                return
            self._head_passed = True
            if head.expects_continue:
                self._owner.send_headers(self, [(b":status", b"100")])
        try:
            self._owner.unfinished.hold(request)
        except Refused as refused:
            self.refuse(refused.refusal)

    def serving(self, request: Request) -> None:
        """The request begins to be served: its body is not waited for, nor its turn."""
        self._serving = True
        self._owner.unfinished.release(request)

    def end_received(self) -> None:
        if self.closed:
            self.ended = True
            self._owner.forget(self)
            return
        if self._held or not self._reading or (self.protocol is not None and self._request is not None):
            self._held.append((None, 0))
            return
        self.ended = True
        if self._websocket is not None:
            self._websocket_lost(Failure(ConnectionDone()))
            self.loseConnection()
        elif self._request is not None and self._head is not None:
            self._dispatch(self._head, self._request)

    def _dispatch(self, head: RequestHead, request: Request) -> None:
        self._waiting_since = None
        request.requestReceived(head.method, head.path, b"HTTP/2")

    def _body_received(self, request: Request, data: bytes) -> None:
        try:
            request.handleContentChunk(data)
        except Refused as refused:
            self.refuse(refused.refusal)

    def _deliver(self, websocket: IProtocol, data: bytes) -> None:
        try:
            websocket.dataReceived(data)
        except Exception:  # noqa: BLE001 - one stream fails, as one connection does on TCP
            self._log.failure("a protocol failed on what it received")
            self._owner.reset(self, ErrorCodes.INTERNAL_ERROR)

    def lost(self, reason: Failure) -> None:
        """The stream was reset, or its connection is gone."""
        self.closed = True
        self.queue.clear()
        self._release_held()
        if self.linger is not None and self.linger.active():
            self.linger.cancel()
        self._pacer.stop()
        self._websocket_lost(reason)
        self._request_lost(reason)

    def _websocket_lost(self, reason: Failure) -> None:
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            websocket.connectionLost(reason)

    def _request_lost(self, reason: Failure) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._owner.unfinished.release(request)
            request.connectionLost(reason)

    def _release_held(self) -> None:
        """Give the connection its window back: what was held is not going to be used."""
        held, self._held = self._held, deque()
        for data, length in held:
            if data is None:
                self.ended = True
            else:
                self._owner.acknowledge(self, length)

    # Taken over by a WebSocket

    def take_over(self, websocket: IProtocol) -> None:
        """From here on this is the transport of `websocket`, which writes an HTTP/1.1 answer first.

        The request is never finished and never lost. What the client has sent already follows on `deliver_held`.
        """
        self._request = None
        self._websocket = websocket
        self._answer_head = AnswerHead()

    def _write_answer(self, answer: AnswerHead, data: bytes) -> None:
        try:
            complete = answer.feed(data)
        except ValueError:
            self._log.failure("a WebSocket handshake was answered with something else")
            self._owner.reset(self, ErrorCodes.INTERNAL_ERROR)
            return
        if complete is None:
            return
        self._answer_head = None
        fields, rest = complete
        self._answer(fields)
        self.write(rest)

    def _answer(self, fields: list[Field]) -> None:
        self._answered = True
        self._owner.send_headers(self, fields)

    # Channel of a request

    def refuse(self, refusal: Refusal) -> None:
        """Answer with `refusal`; what the client still sends is thrown away."""
        request = self._request
        if request is not None and self._head is not None:
            assert isinstance(request, ChatRequest)
            refusal = refusal.adding(request.cross_origin(self._head.path))
        self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        self.site.refused(refusal.code)
        self._request_lost(Failure(ConnectionAborted()))
        self.connection.asked = True
        if not self.site.charge(self.connection.address):
            self._owner.cut_off()
            return
        self._answer([(b":status", b"%d" % refusal.status), *refusal.fields])
        if not self._bodyless:
            self.write(refusal.body)
        self.loseConnection()

    def cut_off(self, refusal: Refusal) -> None:
        """End the connection: more would be waiting for it than may."""
        self.site.refused(refusal.code)
        self._owner.cut_off()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        fields = ((name, value) for name, values in headers.getAllRawHeaders() for value in values)
        self._answer([(b":status", code), *without_hop_by_hop(fields)])

    def requestDone(self, request: Request) -> None:
        self._owner.unfinished.release(request)
        self._request = None
        self._release_held()
        self.loseConnection()

    def isSecure(self) -> bool:
        return self._owner.is_secure()

    # ITransport

    def getPeer(self) -> IAddress:
        return self._owner.getPeer()

    def getHost(self) -> IAddress:
        return self._owner.getHost()

    def uptake(self) -> Uptake | None:
        """Return what the client has taken of this stream, as the function `uptake` does.

        What its window lets out of the queue counts while that is shut, and what the connection takes while it is open:
        the one may be our own writing, the other may be that of other streams.
        """
        below = self._owner.uptake()
        waits = self.queue.size > 0
        if below is None:
            return Uptake(self.queue.taken, pending=waits)
        shut = waits and self._owner.window(self) <= 0
        return Uptake((shut, self.queue.taken if shut else below.taken), pending=waits or below.pending)

    def write(self, data: bytes) -> None:
        if self.closed or self.disconnecting or not data:
            return
        if self._answer_head is not None:
            self._write_answer(self._answer_head, data)
            return
        if self._overflows(len(data)):
            self.site.refused("stream_backlog")
            self._owner.reset(self, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        if not self.queue.size:
            self._waiting_since = self.site.reactor.seconds()
        self.queue.push(bytes(data))
        self._owner.ready(self)
        self.check_producer()

    def _overflows(self, more: int) -> bool:
        size = self.queue.size
        if size + more <= SHARE:
            return False
        if self._owner.backlog.size + more > CONNECTION_QUEUE_LIMIT:
            return True
        self._owner.grew(more)
        return size > QUEUE_LIMIT and not self._pacer.streaming

    @property
    def paced(self) -> bool:
        """Whether its writer is told to pause: what waits for its client is counted there."""
        return self._pacer.streaming

    def held_bytes(self) -> int:
        """Bytes that were written and did not leave the queue yet."""
        return self.queue.size

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """End the stream when what waits has been sent."""
        if not self._answered:
            # END_STREAM without a head would be no answer.
            self.abortConnection()
        elif not (self.closed or self.disconnecting):
            self.disconnecting = True
            if self._waiting_since is None:
                self._waiting_since = self.site.reactor.seconds()
            self._owner.ready(self)

    def abortConnection(self) -> None:
        """Reset the stream; what waits is dropped."""
        if not self.closed:
            self._owner.reset(self, ErrorCodes.CANCEL)

    # Sending, for the connection

    @property
    def pending(self) -> bool:
        """Whether there is something to send, or the end."""
        return not self.closed and (self.queue.size > 0 or self.disconnecting)

    def take(self, most: int) -> bytes:
        """The next bytes to send."""
        data = self.queue.take(most)
        self._waiting_since = self.site.reactor.seconds() if self.queue.size or self._pacer.pulling else None
        return data

    def finished(self) -> None:
        """Our END_STREAM is on its way: for a WebSocket that is the end, as it is on TCP after `loseConnection`."""
        self.closed = True
        self._release_held()
        self._pacer.stop()
        self._websocket_lost(Failure(ConnectionDone()))

    def check_deadline(self, now: float) -> None:
        """Refuse a request whose body does not come, and reset a stream whose answer is not taken.

        Whoever registered as a producer, and a WebSocket, are paused while the client does not read, and judge
        themselves how long that may last; until they have ended the stream.
        """
        since = self._waiting_since
        if self.closed or since is None:
            return
        body = self._request is not None and not self._request.startedWriting and not self.queue.size
        if not body and self._progress.look(self):
            self._waiting_since = now
        elif now - since < self.site.limits.idle_timeout:
            return
        elif body:
            self.refuse(body_timeout(self.site.limits))
        elif self.disconnecting or (self._websocket is None and not self._pacer.streaming):
            self.site.refused("stalled")
            self._owner.reset(self, ErrorCodes.CANCEL)

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.closed:
            producer.stopProducing()
            return
        self._pacer.register(producer, streaming)
        if not streaming:
            # It is asked when the client can take something, which may be never.
            self._waiting_since = self.site.reactor.seconds()
        self.check_producer()

    def unregisterProducer(self) -> None:
        self._pacer.unregister()

    def check_producer(self) -> None:
        """Pause or resume whoever writes, by how much waits."""
        if not self.closed:
            self._pacer.check(self.queue.size, self._owner.blocked)

    # IPushProducer: what the client sends

    def pauseProducing(self) -> None:
        """Deliver nothing; the client may fill its window, and then has to wait."""
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self.deliver_held()

    def deliver_held(self) -> None:
        """Give the WebSocket what came before it was there, or while it was paused; it may pause again meanwhile."""
        while self._held and self._reading and self._websocket is not None:
            data, length = self._held.popleft()
            if data is None:
                self.end_received()
            else:
                self.data_received(data, length)

    def stopProducing(self) -> None:
        self.abortConnection()
