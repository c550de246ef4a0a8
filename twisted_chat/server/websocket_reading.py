"""Reading WebSocket frames: plain ones here, all others by Autobahn, and no more than a client's share at a time.

Plain are whole, masked, uncompressed text frames, pings and pongs, where nothing of an earlier frame waits. That it
makes no difference to clients is what ``tests/server/test_websocket_protocol.py`` tries, with Autobahn's own class
beside this one.

What is read is counted, and charged in slices of `SLICE_FRAMES`: `charge` says how long to wait after each. A slice
that may not follow at once is held back, with nothing more read from the transport meanwhile: until the client is
within its rates again, until the receiver of messages takes more, or, after `SLICES_PER_TURN`, for the next turn of the
reactor, so that no connection keeps the others waiting, however many frames come in one read.
"""

from __future__ import annotations

from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import IDelayedCall

SLICE_FRAMES: Final = 16
"""Frames that are read before they are charged, all together."""

SLICE_BYTES: Final = 65_536
"""Bytes that are read before they are charged, give or take a frame."""

SLICES_PER_TURN: Final = 8
"""Slices of one connection that are read in one turn of the reactor."""

AUTOBAHN_BYTES: Final = 16_384
"""Bytes that Autobahn is given at a time: it copies what is left of them for each frame."""

TEXT: Final = 0x81
"""The first byte of a frame that is a whole text message."""

PING: Final = 0x89

PONG: Final = 0x8A

CONTROLS: Final = (PONG, PING)

OPEN: Final = WebSocketProtocol.STATE_OPEN
CLOSING: Final = WebSocketProtocol.STATE_CLOSING
CLOSED: Final = WebSocketProtocol.STATE_CLOSED

LONGEST_CONTROL: Final = 125

# Why nothing is read, as bits.
WAITS: Final = 1
"""Until its delayed call: for the next turn, or for the client's rates."""
FULL: Final = 2
"""Until the receiver takes more."""
DEAF: Final = 4
"""Whatever comes until the end is thrown away."""
RATED: Final = 8
"""With `WAITS`: for the rates."""


class PacedReading(WebSocketServerProtocol):
    """The reading half of a server's protocol."""

    # TCP, TLS, a unix socket or an HTTP/2 stream: what all of them can do has no interface of its own.
    transport: Any

    longest_plain: int = 0
    """Bytes of payload up to which text frames are read here."""
    most_fragments: int = 1 << 31
    """Frames that one message may have."""
    heard = True
    """Whether the client sent anything since this was set to False."""

    # What was read and not charged yet: all frames, those of them that are no whole message, and bytes.
    _frames = 0
    _parts = 0
    _bytes = 0

    _fragments = 0
    _stops = 0
    _held = b""
    _going_on: IDelayedCall | None = None

    def charge(self, frames: int, parts: int, size: int, *, more: bool) -> float:
        """Charge what was read to the limits of the client.

        parts
            how many of the frames are no whole messages, but control frames or fragments
        size
            their bytes
        more
            whether the client has sent more already

        Return the seconds to wait before more is read.
        """
        return 0.0

    # The receiver's

    @property
    def stopped(self) -> bool:
        """Whether nothing is read now, so that a sign of life may be among what was not."""
        return self._stops != 0

    @property
    def throttled(self) -> bool:
        """Whether nothing is read now because the client is beyond a rate."""
        return self._stops & RATED != 0

    def pause(self) -> None:
        """Read nothing until `resume`, and take no more messages of what was read already."""
        self._stops |= FULL
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Undo `pause`, in another turn of the reactor."""
        self._stops &= ~FULL
        if not self._stops:
            self._wait(0.0)

    # What comes

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
        if self._stops:
            if not self._stops & DEAF:
                self._held += data  # TLS gives out the rest of what it has read
            return
        if self.state == OPEN and not (self.data or self.inside_message or self.current_frame is not None):
            data = self._read_plain(data)
        if data or self._frames >= SLICE_FRAMES:
            self._read(data)

    def _read_plain(self, data: bytes) -> bytes:
        """Take a slice of frames at most, and as long as they are plain. Return what is left."""
        at, end, taken = 0, len(data), 0
        while end - at >= 6 and taken < SLICE_FRAMES:
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
                taken += 1
                self.onMessage(payload, False)
                if self._stops or self.state != OPEN:
                    break
            elif first in CONTROLS and size <= LONGEST_CONTROL:
                at = stop
                taken += 1
                self._parts += 1
                payload = unmask(data[begin:stop], data[begin - 4 : begin])
                if first == PONG:
                    self.onPong(payload)
                else:
                    self.onPing(payload)
            else:
                break
        if not at:
            return data
        self._frames += taken
        self._bytes += at
        return data[at:]

    def _read(self, data: bytes) -> None:
        """Read slices until all is read, the turn is over, or the client or the receiver has to wait."""
        for _ in range(SLICES_PER_TURN):
            if data:
                data = self._read_slice(data)
            wait = self._charge(more=bool(data))
            if wait > 0.0 and self.state != OPEN:
                self._be_deaf()
            elif wait > 0.0:
                self._held = data
                self._wait(wait)
            elif self._stops:
                self._held = data
            elif data:
                continue
            return
        self._held = data
        self._wait(0.0)

    def _charge(self, *, more: bool) -> float:
        frames, parts, size = self._frames, self._parts, self._bytes
        if frames < SLICE_FRAMES and size < SLICE_BYTES:
            return 0.0
        self._frames = self._parts = self._bytes = 0
        return self.charge(frames, parts, size, more=more)

    def _read_slice(self, data: bytes) -> bytes:
        """Return what is left of `data` when there is enough to be charged."""
        while data and self._frames < SLICE_FRAMES and self._bytes < SLICE_BYTES and not self._stops:
            if self.state == OPEN and not (self.data or self.inside_message or self.current_frame is not None):
                rest = self._read_plain(data)
                if len(rest) < len(data):
                    data = rest
                    continue
            if self.state == CLOSED:
                return b""
            rest = self._give(data)
            self._bytes += len(data) - len(rest)
            data = rest
        return data

    def _give(self, data: bytes) -> bytes:
        """Let Autobahn read the handshake or, up to its end, one frame. Return what is left."""
        greeted, frames, failed = self.state in (OPEN, CLOSING), self._frames, self.failedByMe
        self._dataReceived(data[:AUTOBAHN_BYTES])
        data = data[AUTOBAHN_BYTES:]
        if self.failedByMe and not failed and self.current_frame is not None:
            self.data += data  # it stops in the middle of such a frame until more comes
            return b""
        if self._frames > frames or (not greeted and self.state in (OPEN, CLOSING)):
            data, self.data = self.data + data, b""
        return data

    def consumeData(self) -> None:
        if self.state not in (OPEN, CLOSING):
            super().consumeData()
            return
        # Not more than one frame; Autobahn would go on.
        while self.processData() and self.state != CLOSED and self.current_frame is not None:
            pass

    def onFrameData(self, payload: bytes) -> bool | None:
        if self.current_frame.opcode > 7 and self.current_frame.length > 0xFFFF:
            return None  # the connection has failed for it; Autobahn would keep all that comes of it
        return super().onFrameData(payload)

    def onFrameEnd(self) -> bool | None:
        frame = self.current_frame
        self._frames += 1
        if frame.opcode > 7:
            self._parts += 1
        elif not frame.fin or frame.opcode == 0:
            self._parts += 1
            self._fragments = self._fragments + 1 if frame.opcode == 0 else 1
            if self._fragments > self.most_fragments and not self.failedByMe:
                text = f"too_many_fragments: a message has up to {self.most_fragments} frames"
                self._fail_connection(self.CLOSE_STATUS_CODE_POLICY_VIOLATION, text)
        return super().onFrameEnd()

    # Waiting

    def _wait(self, seconds: float) -> None:
        """Read nothing for so long; what was read already is held meanwhile."""
        if self._stops & DEAF:
            return
        self._stop_waiting()
        self._stops |= WAITS | RATED if seconds else WAITS
        self._going_on = self.factory.reactor.callLater(seconds, self._go_on)
        self.transport.pauseProducing()

    def _go_on(self) -> None:
        self._going_on = None
        self._stops &= ~(WAITS | RATED)
        if self._stops:
            return
        self.heard = True  # as good as: what was not read may be its answer
        held, self._held = self._held, b""
        if held:
            self._read(held)
        if not self._stops:
            self._resume()

    def _resume(self) -> None:
        if self.state != CLOSED:
            self.transport.resumeProducing()

    def hurry(self) -> None:
        """Wait no longer: the answer to our close may be among what was not read."""
        if self._going_on is not None:
            self._going_on.reset(0.0)

    def _be_deaf(self) -> None:
        """Throw away what comes: the client floods us, and is told that this is its end."""
        self.forget()
        self.data = b""
        self._resume()

    def forget(self) -> None:
        """Forget what was not read, and read nothing more."""
        self._stop_waiting()
        self._stops = DEAF
        self._held = b""

    def _stop_waiting(self) -> None:
        going_on, self._going_on = self._going_on, None
        if going_on is not None:
            going_on.cancel()


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
