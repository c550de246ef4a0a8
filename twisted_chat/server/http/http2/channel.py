"""One HTTP/2 connection: h2 keeps the protocol, this keeps its promises: fairness, backpressure, deadlines, bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from h2 import events
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import ProtocolError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat.server.http.connection import HttpConnection
from twisted_chat.server.http.http2.backlog import Backlog
from twisted_chat.server.http.http2.conduct import Conduct
from twisted_chat.server.http.http2.frames import FrameCutter
from twisted_chat.server.http.http2.head import Field
from twisted_chat.server.http.http2.intake import Offence, receive
from twisted_chat.server.http.http2.keepalive import KeepAlive
from twisted_chat.server.http.http2.machine import h2_connection, longest_head
from twisted_chat.server.http.http2.sender import Sender
from twisted_chat.server.http.http2.stream import H2Stream
from twisted_chat.server.http.http2.streams import Streams
from twisted_chat.server.http.limits import LINGER, HttpSite
from twisted_chat.server.http.rotation import Work
from twisted_chat.server.http.transport import StreamTransport, held_bytes, is_secure
from twisted_chat.server.http.unfinished import UnfinishedOfConnection
from twisted_chat.server.http.uptake import Progress, Uptake, uptake

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a client has to read what was written before the end."""

HEADS_AT_ONCE: Final = 32
"""Heads that are read in one go while nobody waits; what came behind them waits for its turn, as requests do."""

HEADS_IN_TURN: Final = 2
"""The same while others wait."""

FRAMES_AT_ONCE: Final = 128
"""Frames of any kind that are read in one go while nobody waits: small DATA too, of which a read may have thousands."""

FRAMES_IN_TURN: Final = 32
"""The same while others wait."""

_LAST_STREAM: Final = 2**31 - 1
_ALIVE: Final = b"are you?"
_DRAINED: Final = b"draining"


@implementer(IPushProducer)
class H2Channel(Protocol):
    """Serves `site` to one client.

    first_settings
        seconds left until the client's SETTINGS must be here
    grew
        called with how many bytes more wait for the client than before, at most
    """

    _log = Logger()

    def __init__(self, site: HttpSite, first_settings: float, grew: Callable[[int], None] = lambda _: None) -> None:
        self.site: Final = site
        self.grew: Final = grew
        self._limits: Final = site.limits
        self._reactor: Final = site.reactor
        self._h2: Final = h2_connection(site.limits)
        self._sender: Final = Sender(self._h2, self._write, self)
        self._progress: Final = Progress()
        self._keepalive: Final = KeepAlive(site.reactor, site.limits, self)
        self.backlog: Final = Backlog()
        self.connection: Final = HttpConnection()
        self._cutter: Final = FrameCutter()
        self._unread = b""
        self._reading_later: Work | None = None
        self._streams: Final = Streams()
        self._conduct: Final = Conduct(site.reactor.seconds(), longest_head(site.limits), self._streams.has_ended)
        self._unfinished: UnfinishedOfConnection | None = None
        # Those of which this read brought something of a body.
        self._moved: dict[H2Stream, None] = {}
        self._first_settings: Final = first_settings
        self._receiving = False
        self._windows_changed = False
        # After either side's GOAWAY the connection ends with its last stream.
        self._leaving = False
        self._takes_streams = True
        self._closed = False
        self._turn_call: IDelayedCall | None = None
        self._handshake_call: IDelayedCall | None = None
        self._close_call: IDelayedCall | None = None

    # From the transport

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.connection.made(self._transport)
        self._transport.registerProducer(self, True)
        self._sender.flush()
        self._handshake_call = self._reactor.callLater(self._first_settings, self._handshake_timed_out)
        self._keepalive.start()

    def dataReceived(self, data: bytes) -> None:
        if self._closed:
            return
        self._keepalive.heard()
        self.connection.fresh = True
        if self._unread:
            self._unread += data
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        heads, frames = (HEADS_IN_TURN, FRAMES_IN_TURN) if self.site.turns else (HEADS_AT_ONCE, FRAMES_AT_ONCE)
        end = self._cutter.cut(data, heads, frames)
        self._receiving = True
        try:
            self._receive(data[:end])
        finally:
            self._receiving = False
        self._send()
        if end < len(data) and not self._closed:
            self._unread = data[end:]
            self._transport.pauseProducing()
            self._reading_later = self.site.turns.later(self.connection, self.connection.address, self._read_on)

    def _read_on(self) -> None:
        self._reading_later = None
        data, self._unread = self._unread, b""
        self._transport.resumeProducing()
        self._read(data)

    def _stop_reading(self) -> None:
        self._unread = b""
        if self._reading_later is not None:
            self.site.turns.forget(self._reading_later)
            self._reading_later = None

    def _receive(self, data: bytes) -> None:
        # A GOAWAY makes h2 forget what it has not given out: heads must not be lost, the next ones build on them.
        self._sender.flush()
        try:
            received = receive(self._h2, self._conduct, data, self._reactor.seconds())
        except Offence as offence:
            self._log.debug("{peer} broke HTTP/2: {error}", peer=self.getPeer(), error=offence)
            self.site.refused(offence.reason)
            if offence.code is None:
                self._close()
            else:
                self.close(offence.code)
            return
        except Exception:  # noqa: BLE001 - whatever a library trips over, the connection must not stay half open
            self._log.failure("HTTP/2 input of {peer} was not understood", peer=self.getPeer())
            self.close(ErrorCodes.INTERNAL_ERROR)
            return
        for event in received:
            if self._closed:
                return
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        moved, self._moved = self._moved, {}
        for stream in moved:
            if stream in self._streams:
                self._guarded(stream, stream.read_over)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = True
        self._stop_calls()
        if self._close_call is not None and self._close_call.active():
            self._close_call.cancel()
        self._lose_streams(reason)

    def _stop_calls(self) -> None:
        self._stop_reading()
        self._keepalive.stop()
        for call in (self._turn_call, self._handshake_call):
            if call is not None and call.active():
                call.cancel()

    def _lose_streams(self, reason: Failure) -> None:
        self._sender.halt()
        self._streams.lose_all(reason)

    # Events

    def _request_received(self, event: events.RequestReceived) -> None:
        self._streams.last = event.stream_id
        if not self._takes_streams:
            # Sent before our last GOAWAY arrived, which says that it was not looked at.
            self._reset_h2_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        if len(self._streams) >= self._limits.streams:
            self.site.refused("too_many_streams")
            self._reset_h2_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            self._count_reset()
            return
        stream = H2Stream(self, event.stream_id)
        self._streams.add(stream)
        if event.stream_ended is None:
            self._moved[stream] = None
        self._guarded(stream, partial(stream.start, event.headers, ended=event.stream_ended is not None))

    def _data_received(self, event: events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            # Reset by an event before this one, in the same read.
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        else:
            self._moved[stream] = None
            stream.data_received(event.data, event.flow_controlled_length)

    def _stream_ended(self, event: events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._guarded(stream, stream.end_received)

    def _stream_reset(self, event: events.StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._drop(stream)
            clean = event.error_code == ErrorCodes.NO_ERROR
            reason = ConnectionDone() if clean else ConnectionLost(f"stream reset: {event.error_code!r}")
            self._streams.lose(stream, Failure(reason))
            self._close_if_left()
        self._count_reset()

    def _count_reset(self) -> None:
        if not self._conduct.bears_reset(self._reactor.seconds()):
            self._abuse()

    def _window_updated(self, event: events.WindowUpdated) -> None:
        if not event.stream_id:
            self._windows_changed = True
            return
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._sender.add(stream)

    def _settings_changed(self, event: events.RemoteSettingsChanged) -> None:
        # Every window may have grown; one look at all of them does for any number of frames.
        self._windows_changed = True
        if self._handshake_call is not None and self._handshake_call.active():
            self._handshake_call.cancel()

    def _ping_acknowledged(self, event: events.PingAckReceived) -> None:
        if event.ping_data == _DRAINED:
            # Whatever was on its way when we said that no more streams are taken is here now.
            self._takes_streams = False
            self._h2.close_connection(ErrorCodes.NO_ERROR)

    def _client_leaves(self, event: events.ConnectionTerminated) -> None:
        self._leaving = True
        self._close_if_left()

    def _guarded(self, stream: H2Stream, action: Callable[[], None]) -> None:
        """What fails for one request fails for its stream."""
        try:
            action()
        except Exception:  # noqa: BLE001 - resources run in here
            self._log.failure("a request failed")
            self.reset(stream, ErrorCodes.INTERNAL_ERROR)

    # Sending

    def ready(self, stream: H2Stream) -> None:
        self._sender.add(stream)
        self._schedule_turn()

    def send_headers(self, stream: H2Stream, fields: Iterable[Field]) -> None:
        # One read can bring a request and its reset: h2 then knows of the reset before its event is handled here.
        try:
            self._h2.send_headers(stream.stream_id, fields)
        except ProtocolError:
            self.reset(stream, ErrorCodes.INTERNAL_ERROR)
        self._schedule_turn()

    def acknowledge(self, stream: H2Stream, length: int) -> None:
        self._h2.acknowledge_received_data(length, stream.stream_id)
        self._schedule_turn()

    def _schedule_turn(self) -> None:
        if self._turn_call is None and not self._receiving and not self._closed:
            self._turn_call = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._turn_call = None
        self._streams.lose_aborted()
        self._close_if_left()
        self._send()

    def _send(self) -> None:
        if self._windows_changed:
            self._windows_changed = False
            self._sender.add_all(self._streams)
        if self._sender.run() or self._streams.some_aborted:
            self._schedule_turn()

    def wrote(self, stream: H2Stream, size: int, *, cut: bool) -> None:
        if not self._conduct.bears_sent(size, self._reactor.seconds(), cut=cut):
            self._abuse()
        elif not stream.closed:
            self._guarded(stream, stream.check_producer)

    def failed(self, stream: H2Stream) -> None:
        self.reset(stream, ErrorCodes.INTERNAL_ERROR)

    def flooded(self) -> None:
        self._abort("h2_abuse")

    # The transport is our consumer

    @property
    def blocked(self) -> bool:
        return self._sender.blocked

    def pauseProducing(self) -> None:
        self._sender.blocked = True
        self.grew(held_bytes(self.transport))
        self._check_producers()

    def resumeProducing(self) -> None:
        self._sender.unblock()
        self._check_producers()
        self._schedule_turn()

    def stopProducing(self) -> None:
        """Nothing: `connectionLost` follows."""

    def _check_producers(self) -> None:
        for stream in self._streams:
            self._guarded(stream, stream.check_producer)

    def waiting_bytes(self) -> int:
        """Bytes that wait on the connection, but for those of streams that count for themselves."""
        size = held_bytes(self.transport)
        if self.backlog.size:
            size += sum(stream.queue.size for stream in self._answers_waiting())
        return size

    def give_up(self) -> int:
        """End the answer of which most waits, or the connection if that holds it all. Return how many bytes it was."""
        self.site.refused("stalled")
        largest = max(self._answers_waiting(), key=lambda stream: stream.queue.size, default=None)
        if largest is None:
            size = self.waiting_bytes()
            self._abort_connection()
            return size
        size = largest.queue.size
        self.reset(largest, ErrorCodes.CANCEL)
        return size

    def _answers_waiting(self) -> list[H2Stream]:
        return [stream for stream in self._streams if stream.queue.size and not stream.paced]

    # Ends of streams

    def ended(self, stream: H2Stream) -> None:
        """We have sent END_STREAM."""
        self._guarded(stream, stream.finished)
        if stream.ended:
            self.forget(stream)
        elif stream in self._streams:
            # A client that does not end its half would keep the slot.
            stream.linger = self._reactor.callLater(LINGER, self._linger_over, stream)

    def _linger_over(self, stream: H2Stream) -> None:
        self._reset_h2_stream(stream.stream_id, ErrorCodes.NO_ERROR)
        self.forget(stream)

    def forget(self, stream: H2Stream) -> None:
        if stream.linger is not None and stream.linger.active():
            stream.linger.cancel()
        self._drop(stream)
        self._close_if_left()

    def reset(self, stream: H2Stream, code: ErrorCodes) -> None:
        if stream.closed and stream not in self._streams:
            return
        stream.closed = True
        self._reset_h2_stream(stream.stream_id, code)
        self._drop(stream)
        self._streams.abort(stream)
        self._schedule_turn()

    def _reset_h2_stream(self, stream_id: int, code: ErrorCodes) -> None:
        with suppress(ProtocolError):
            self._h2.reset_stream(stream_id, code)
        self._schedule_turn()

    def _drop(self, stream: H2Stream) -> None:
        self._sender.discard(stream)
        self._streams.drop(stream)
        if not self._streams:
            self._keepalive.last_stream_ended()

    # Deadlines

    def busy(self) -> bool:
        return len(self._streams) > 0

    def check_streams(self, now: float) -> None:
        for stream in self._streams:
            self._guarded(stream, partial(stream.check_deadline, now))
        self._schedule_turn()

    def takes(self) -> bool:
        return self._progress.look(self.transport)

    def ask(self) -> None:
        self._h2.ping(_ALIVE)
        self._schedule_turn()

    def idle(self) -> None:
        self.close(ErrorCodes.NO_ERROR)

    def dead(self) -> None:
        self._abort("ping_timeout")

    def _handshake_timed_out(self) -> None:
        self.site.refused("handshake_timeout")
        self.close(ErrorCodes.SETTINGS_TIMEOUT)

    # Ends of the connection

    def shutdown(self) -> None:
        """Take no more requests, and close with the last stream, at once if there is none."""
        if self._closed or self._leaving:
            return
        self._leaving = True
        if self._streams:
            # First only the wish: requests that are on their way are still served (RFC 9113 section 6.8).
            self._h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=_LAST_STREAM)
            self._h2.ping(_DRAINED)
            self._schedule_turn()
        else:
            self.close(ErrorCodes.NO_ERROR)

    def _close_if_left(self) -> None:
        if self._leaving and not self._streams:
            self.close(ErrorCodes.NO_ERROR)

    def close(self, code: ErrorCodes) -> None:
        """Say why with a GOAWAY and close."""
        if not self._closed:
            self._h2.close_connection(code)
            self._close()

    def _close(self) -> None:
        self._sender.flush()
        self._closed = True
        # With a producer registered neither TCP nor TLS would ever close.
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        self._stop_calls()
        self._close_call = self._reactor.callLater(CLOSE_TIMEOUT, self._transport.abortConnection)
        self._lose_streams(Failure(ConnectionDone()))

    def _abuse(self) -> None:
        self.site.refused("h2_abuse")
        self.cut_off()

    def cut_off(self) -> None:
        self.close(ErrorCodes.ENHANCE_YOUR_CALM)

    def _abort(self, reason: str) -> None:
        """Cut off a client that takes nothing, not even a GOAWAY."""
        self.site.refused(reason)
        self._abort_connection()

    def _abort_connection(self) -> None:
        self._closed = True
        self._sender.halt()
        self._transport.abortConnection()

    # What streams tell of the connection

    @property
    def unfinished(self) -> UnfinishedOfConnection:
        if self._unfinished is None:
            self._unfinished = self.site.unfinished.connection(self.connection.address)
        return self._unfinished

    def uptake(self) -> Uptake | None:
        return uptake(self.transport)

    def window(self, stream: H2Stream) -> int:
        try:
            return self._h2.local_flow_control_window(stream.stream_id)
        except ProtocolError:
            return 0  # it was reset, and nothing more goes out

    def is_secure(self) -> bool:
        return is_secure(self.transport)

    def getPeer(self) -> IAddress:
        return self._transport.getPeer()

    def getHost(self) -> IAddress:
        return self._transport.getHost()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    @property
    def _transport(self) -> StreamTransport:
        return cast("StreamTransport", self.transport)


_HANDLERS: Final[dict[type[Event], Callable[[H2Channel, Any], None]]] = {
    events.RequestReceived: H2Channel._request_received,
    events.DataReceived: H2Channel._data_received,
    events.StreamEnded: H2Channel._stream_ended,
    events.StreamReset: H2Channel._stream_reset,
    events.WindowUpdated: H2Channel._window_updated,
    events.RemoteSettingsChanged: H2Channel._settings_changed,
    events.PingAckReceived: H2Channel._ping_acknowledged,
    events.ConnectionTerminated: H2Channel._client_leaves,
}
