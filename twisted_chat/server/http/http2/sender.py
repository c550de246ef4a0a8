"""What one HTTP/2 connection sends: fair between its streams, and bounded when its client does not read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from twisted_chat.server.http.http2.frames import MAX_FRAME_SIZE
from twisted_chat.server.http.http2.stream import H2Stream

TURN_BYTES: Final = 128 * 1024
"""Bytes that one connection sends in a turn of the reactor: others want theirs too."""

FLUSH_BYTES: Final = 64 * 1024
"""Bytes after which the transport is asked whether it takes more."""

OWED_BYTES: Final = 128 * 1024
"""Acknowledgements and heads that are kept for a client that does not read."""


class Connection(Protocol):
    """Who is told what became of a stream."""

    def wrote(self, stream: H2Stream, size: int, *, cut: bool) -> None:
        """So many bytes of it went out, there is room for more; `cut`: its window let no more of what waits go."""

    def ended(self, stream: H2Stream) -> None:
        """Its END_STREAM went out."""

    def failed(self, stream: H2Stream) -> None:
        """h2 does not let it send."""

    def flooded(self) -> None:
        """More than `OWED_BYTES` wait for a client that does not read."""


class Sender:
    """Takes frames from streams in turn, as far as flow control and the transport let it.

    blocked
        the transport takes no more for now; only what h2 owes the client still goes out
    halted
        nothing goes out any more
    """

    def __init__(self, h2: H2Connection, write: Callable[[bytes], None], connection: Connection) -> None:
        self.blocked = False
        self.halted = False
        self._h2: Final = h2
        self._write: Final = write
        self._connection: Final = connection
        self._sendable: Final[OrderedDict[int, H2Stream]] = OrderedDict()
        self._owed = 0

    def add(self, stream: H2Stream) -> None:
        """It has something to send, or its window grew."""
        if stream.pending:
            self._sendable[stream.stream_id] = stream

    def discard(self, stream: H2Stream) -> None:
        self._sendable.pop(stream.stream_id, None)

    def add_all(self, streams: Iterable[H2Stream]) -> None:
        for stream in streams:
            self.add(stream)

    def unblock(self) -> None:
        self.blocked = False
        self._owed = 0

    def halt(self) -> None:
        self.halted = True
        self._sendable.clear()

    def run(self) -> bool:
        """Send what one turn may. Whether another turn is wanted."""
        left = TURN_BYTES
        unflushed = 0
        while self._sendable and left > 0 and not self.blocked and not self.halted:
            _, stream = self._sendable.popitem(last=False)
            sent = self._send_frame(stream)
            left -= sent
            unflushed += sent
            if unflushed >= FLUSH_BYTES:
                unflushed = 0
                self.flush()
        self.flush()
        return bool(self._sendable) and not self.blocked and not self.halted

    def flush(self) -> None:
        """Give the transport what h2 has made."""
        if self.halted:
            return
        data = self._h2.data_to_send()
        if not data:
            return
        if self.blocked:
            self._owed += len(data)
            if self._owed > OWED_BYTES:
                self._connection.flooded()
                return
        self._write(data)

    def _send_frame(self, stream: H2Stream) -> int:
        """Send one frame; how many bytes of data it has."""
        if not stream.pending:
            return 0
        try:
            size = self._send_data(stream) if stream.queue.size else self._send_end(stream)
        except ProtocolError:
            # It was reset in the same read that made it ready.
            self._connection.failed(stream)
            return 0
        if size:
            self._connection.wrote(stream, size, cut=size < MAX_FRAME_SIZE and stream.queue.size > 0)
        if stream.closed:
            self._connection.ended(stream)
        return size

    def _send_data(self, stream: H2Stream) -> int:
        window = self._h2.local_flow_control_window(stream.stream_id)
        most = min(window, self._h2.max_outbound_frame_size)
        if most <= 0:
            # WINDOW_UPDATE or SETTINGS adds it again.
            return 0
        data = stream.take(most)
        last = stream.disconnecting and not stream.queue.size
        self._h2.send_data(stream.stream_id, data, end_stream=last)
        stream.closed = last
        self.add(stream)
        return len(data)

    def _send_end(self, stream: H2Stream) -> int:
        self._h2.end_stream(stream.stream_id)
        stream.closed = True
        return 0
