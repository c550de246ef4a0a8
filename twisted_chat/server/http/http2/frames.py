"""Frame headers, looked at before h2 sees them: it spends fifty times as long on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_FRAME_SIZE: Final = 16_384
"""RFC 9113 section 6.5.2: SETTINGS_MAX_FRAME_SIZE as it is before anyone raises it, and we do not."""

_PREFACE: Final = 24
_HEADER: Final = 9
_DATA: Final = 0
_HEADERS: Final = 1
_WINDOW_UPDATE: Final = 8
_CONTINUATION: Final = 9
_END_STREAM: Final = 0x1
_PADDED: Final = 0x8
_LONGEST_PADDING: Final = 256
# What a frame that carries nothing may have: SETTINGS with more than ten of them count as more than one frame.
_IDLE_BYTES: Final = 64
_STREAM_ID: Final = 0x7FFFFFFF


class FrameTooLarge(Exception):  # noqa: N818  # named as RFC 9113 names it
    """A frame is announced that is larger than `MAX_FRAME_SIZE`."""


class HeadTooLarge(Exception):  # noqa: N818  # as the other
    """A head is announced, in one frame or many, that is larger than is looked at."""


@dataclass(slots=True)
class Frames:
    """What started in some bytes.

    idle
        frames that carry nothing: PING, SETTINGS, PRIORITY, RST_STREAM, unknown ones, DATA that is empty or little but
        padding, and what belongs to a stream that has ended; all are allowed, now and then
    window_updates
        frames that are allowed as answers to what we sent
    """

    idle: int = 0
    window_updates: int = 0


class FrameMeter:
    """Follows the frames of a client's connection from its preface on.

    longest_head
        bytes that the frames of one head may have together
    has_ended
        whether the stream with this number has been there and is no more
    """

    __slots__ = ("_has_ended", "_head", "_header", "_longest_head", "_rest")

    def __init__(self, longest_head: int, has_ended: Callable[[int], bool]) -> None:
        self._longest_head: Final = longest_head
        self._has_ended: Final = has_ended
        # Of the frame, or the preface, that is under way.
        self._rest = _PREFACE
        self._header = b""
        # Bytes of the head that is under way.
        self._head = 0

    def feed(self, data: bytes) -> Frames:
        """Look at the next bytes.

        Raises `FrameTooLarge` and `HeadTooLarge` as soon as one is announced: h2 would first collect up to 16 MiB of
        it, or a mebibyte of a head, which then takes a second to decode.
        """
        found = Frames()
        at = 0
        while True:
            if self._rest > len(data) - at:
                self._rest -= len(data) - at
                return found
            at += self._rest
            self._rest = 0
            header = self._header + data[at : at + _HEADER - len(self._header)]
            at += len(header) - len(self._header)
            if len(header) < _HEADER:
                self._header = header
                return found
            self._header = b""
            self._rest = int.from_bytes(header[:3])
            self._look(found, self._rest, header)

    def _look(self, found: Frames, length: int, header: bytes) -> None:
        if length > MAX_FRAME_SIZE:
            raise FrameTooLarge(f"a frame may have {MAX_FRAME_SIZE} bytes, this one has {length}")
        kind, flags = header[3], header[4]
        if kind == _WINDOW_UPDATE:
            found.window_updates += 1
        elif kind in (_HEADERS, _CONTINUATION):
            self._head = length + (self._head if kind == _CONTINUATION else 0)
            if self._head > self._longest_head:
                raise HeadTooLarge(f"a head may have {self._longest_head} bytes")
            found.idle += self._is_late(header)
        elif kind == _DATA:
            found.idle += self._is_late(header) or _is_hollow(length, flags)
        else:
            found.idle += 1 + length // _IDLE_BYTES

    def _is_late(self, header: bytes) -> bool:
        return self._has_ended(int.from_bytes(header[5:]) & _STREAM_ID)


class FrameCutter:
    """Finds where to interrupt a client that sends many frames at once: behind one of them, from the preface on."""

    __slots__ = ("_header", "_rest")

    def __init__(self) -> None:
        # Of the frame, or the preface, that is under way.
        self._rest = _PREFACE
        self._header = b""

    def cut(self, data: bytes, most_heads: int, most_frames: int) -> int:
        """Return how many bytes of `data` to read now: all, or as many frames, and HEADERS among them, as may be.

        What is left is to be passed again, with what follows.
        """
        at, heads, frames, length = 0, 0, 0, len(data)
        while True:
            if self._rest > length - at:
                self._rest -= length - at
                return length
            at += self._rest
            self._rest = 0
            if heads == most_heads or frames == most_frames:
                return at
            header = self._header + data[at : at + _HEADER - len(self._header)]
            at += len(header) - len(self._header)
            if len(header) < _HEADER:
                self._header = header
                return length
            self._header = b""
            self._rest = int.from_bytes(header[:3])
            frames += 1
            heads += header[3] == _HEADERS


def _is_hollow(length: int, flags: int) -> bool:
    """Whether a DATA frame has nothing in it, or possibly nothing but padding."""
    if flags & _PADDED:
        return length <= _LONGEST_PADDING
    return not length and not flags & _END_STREAM
