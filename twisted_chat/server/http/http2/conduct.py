"""How often an HTTP/2 client may do what costs it nothing and us a lot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted_chat.core.limits import Rate, TokenBucket
from twisted_chat.server.http.http2.frames import FrameMeter

RESETS: Final = Rate(per_second=20.0, burst=300)
"""Streams that a client resets or makes us reset; each has cost a request (CVE-2023-44487, CVE-2025-8671)."""

IDLE_FRAMES: Final = Rate(per_second=50.0, burst=1_000)
"""Frames that carry nothing but make work, both ways (CVE-2019-9511, CVE-2019-9512 and their siblings)."""

CRUMB: Final = 256
"""Bytes of a DATA frame of ours below which a window that made it so short is a nuisance, unless longer ones come too:
HAProxy opens its window by 16,320 bytes, and what we send is 16,320 and 64 in turn."""

UPDATES_AT_ONCE: Final = 10_000
"""WINDOW_UPDATE frames that may come together for what was sent before."""

_BYTES_PER_UPDATE: Final = 1_024


class Conduct:
    """Watches one client.

    longest_head, has_ended
        as for `frames.FrameMeter`
    """

    def __init__(self, now: float, longest_head: int, has_ended: Callable[[int], bool]) -> None:
        self._meter: Final = FrameMeter(longest_head, has_ended)
        self._resets: Final = TokenBucket(RESETS, now)
        self._idle_frames: Final = TokenBucket(IDLE_FRAMES, now)
        self._updates_due = 0
        self._crumbs_due = 0

    def bears(self, data: bytes, now: float) -> bool:
        """Whether `data`, which is about to be processed, is within the rates.

        Raises `frames.FrameTooLarge` and `frames.HeadTooLarge`.
        """
        found = self._meter.feed(data)
        excess = max(0, found.window_updates - self._updates_due)
        self._updates_due -= found.window_updates - excess
        return all(self._idle_frames.take(now) for _ in range(found.idle + excess))

    def bears_sent(self, size: int, now: float, *, cut: bool) -> bool:
        """Whether one more DATA frame of `size` bytes may be sent; `cut`: the client's window left no room for more.

        Each may be answered by a WINDOW_UPDATE for the stream and one for the connection, a large one by some more.
        """
        self._updates_due = min(UPDATES_AT_ONCE, self._updates_due + 2 + size // _BYTES_PER_UPDATE)
        if size >= CRUMB:
            self._crumbs_due = min(IDLE_FRAMES.burst, self._crumbs_due + 1)
        elif cut and self._crumbs_due:
            self._crumbs_due -= 1
        elif cut:
            return self._idle_frames.take(now)
        return True

    def bears_reset(self, now: float) -> bool:
        """Whether one more stream may be reset."""
        return self._resets.take(now)
