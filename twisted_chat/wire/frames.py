"""WebSocket frames as a server sends them: final and unmasked (RFC 6455 section 5.2)."""

from __future__ import annotations

import struct
import zlib
from typing import Final

WINDOW_BITS: Final = 12
"""Of a compressor: 4 KiB, which most messages fit into."""

LEAST: Final = 100
"""Bytes below which a message is not compressed: little is gained."""

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_COMPRESSED: Final = 0xC1
_FRESH: Final = zlib.compressobj(6, zlib.DEFLATED, -WINDOW_BITS, 5)


def text_frame(payload: bytes) -> bytes:
    """One whole text message. `payload` is UTF-8."""
    return _frame(_TEXT, payload)


def compressed_frame(payload: bytes) -> bytes:
    """The same for who negotiated permessage-deflate (RFC 7692), by a compressor that remembers no earlier message."""
    if len(payload) < LEAST:
        return text_frame(payload)
    compressor = _FRESH.copy()
    # Section 7.2.1: without the empty block at the end.
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    return _frame(_COMPRESSED, data) if len(data) < len(payload) else text_frame(payload)


def binary_frame(payload: bytes) -> bytes:
    """One whole binary message."""
    return _frame(_BINARY, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload
