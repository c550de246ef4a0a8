"""What it costs to serve someone: calls of functions and bytes of memory, which are the same on every machine."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Effort:
    calls: int = 0
    peak: int = 0
    """Bytes, at most at one time, beyond those from before."""


@contextmanager
def measured() -> Iterator[Effort]:
    """What happens inside is measured; the result is there afterwards."""
    effort = Effort()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            effort.calls += 1

    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    profile = sys.getprofile()
    sys.setprofile(count)
    try:
        yield effort
    finally:
        sys.setprofile(profile)
        effort.peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
