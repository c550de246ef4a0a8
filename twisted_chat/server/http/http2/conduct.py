"""How often an HTTP/2 client may do what costs it nothing and us a lot."""

from __future__ import annotations

from typing import Final

from twisted_chat.core.limits import Rate, TokenBucket
from twisted_chat.server.http.http2.frames import FrameMeter

RESETS: Final = Rate(per_second=20.0, burst=300)
"""Streams that a client resets or makes us reset; each has cost a request (CVE-2023-44487, CVE-2025-8671)."""

IDLE_FRAMES: Final = Rate(per_second=50.0, burst=1_000)
"""Frames that carry nothing but make work: PING, SETTINGS, PRIORITY, empty DATA (CVE-2019-9512 and its siblings)."""


class Conduct:
    """Watches one client."""

    def __init__(self, now: float) -> None:
        self._meter: Final = FrameMeter()
        self._resets: Final = TokenBucket(RESETS, now)
        self._idle_frames: Final = TokenBucket(IDLE_FRAMES, now)

    def bears(self, data: bytes, now: float) -> bool:
        """Whether `data`, which is about to be processed, is within the rates. Raises `frames.FrameTooLarge`."""
        return all(self._idle_frames.take(now) for _ in range(self._meter.feed(data)))

    def bears_reset(self, now: float) -> bool:
        """Whether one more stream may be reset."""
        return self._resets.take(now)
