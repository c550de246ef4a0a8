"""WebSocket frames as a server sends them: final, unmasked, not compressed (RFC 6455 section 5.2)."""

from __future__ import annotations

import struct


def text_frame(payload: bytes) -> bytes:
    """One whole text message. `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload
