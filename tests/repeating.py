"""A thread of `twisted_chat.life` that a test's clock moves on."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock, LoopingCall

from twisted_chat.life import Repeat


def by_clock(clock: Clock) -> Repeat:
    """Return what stands in for `life.in_thread`."""

    def repeat(seconds: float, act: Callable[[], None]) -> Callable[[], None]:
        loop = LoopingCall(act)
        loop.clock = clock
        loop.start(seconds, now=False)
        return loop.stop

    return repeat
