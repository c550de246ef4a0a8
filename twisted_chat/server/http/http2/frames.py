"""Frame headers, looked at before h2 sees them: it spends fifty times as long on each."""

from __future__ import annotations

from typing import Final

MAX_FRAME_SIZE: Final = 16_384
"""RFC 9113 section 6.5.2: SETTINGS_MAX_FRAME_SIZE as it is before anyone raises it, and we do not."""

_PREFACE: Final = 24
_HEADER: Final = 9
_DATA: Final = 0
# What a request, its body and its flow control are made of; all others carry nothing.
_USEFUL: Final = frozenset({_DATA, 1, 8, 9})
_END_STREAM: Final = 1


class FrameTooLarge(Exception):  # noqa: N818  # named as RFC 9113 names it
    """A frame is announced that is larger than `MAX_FRAME_SIZE`."""


class FrameMeter:
    """Follows the frames of a client's connection from its preface on."""

    __slots__ = ("_header", "_rest")

    def __init__(self) -> None:
        # Of the frame, or the preface, that is under way.
        self._rest = _PREFACE
        self._header = b""

    def feed(self, data: bytes) -> int:
        """Look at the next bytes: how many frames start in them that only make work.

        These are PING, SETTINGS, PRIORITY, RST_STREAM, unknown ones and empty DATA: all are allowed, now and then.
        Raises `FrameTooLarge` as soon as one is announced: h2 would first collect up to 16 MiB of it.
        """
        idle = at = 0
        while True:
            if self._rest > len(data) - at:
                self._rest -= len(data) - at
                return idle
            at += self._rest
            self._rest = 0
            header = self._header + data[at : at + _HEADER - len(self._header)]
            at += len(header) - len(self._header)
            if len(header) < _HEADER:
                self._header = header
                return idle
            self._header = b""
            self._rest = int.from_bytes(header[:3])
            if self._rest > MAX_FRAME_SIZE:
                raise FrameTooLarge(f"a frame may have {MAX_FRAME_SIZE} bytes, this one has {self._rest}")
            kind = header[3]
            if kind not in _USEFUL or (kind == _DATA and not self._rest and not header[4] & _END_STREAM):
                idle += 1
