"""The clock of the reactor: durations are measured by one that nobody sets."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.python import runtime


def use_monotonic_clock(reactor: Any) -> None:
    """Make a reactor of Twisted's measure time by `time.monotonic`. Idempotent.

    Twisted counts the seconds of the wall clock, so a step of it by an hour back would stop every timer for an hour,
    even `callLater(0)`, and a step forward would end every time-out at once. Afterwards `reactor.seconds` is good for
    durations only; a time of day comes from `time.time`.

    Calls that are already scheduled stay due when they were. Reactors with a clock of their own, such as
    `twisted.internet.task.Clock`, are left alone.
    """
    if getattr(reactor, "seconds", None) is not runtime.seconds:
        return
    shift = time.monotonic() - runtime.seconds()
    reactor.seconds = time.monotonic
    for call in reactor.getDelayedCalls():
        _shift(call, shift)


def _shift(call: IDelayedCall, seconds: float) -> None:
    # All by the same: the order in which the reactor keeps them stays right.
    if hasattr(call, "time") and hasattr(call, "seconds"):
        call.time += seconds
        call.seconds = time.monotonic
