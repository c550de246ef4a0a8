"""Found by Python before the server is: writes down each long pause for garbage collection, as it happens.

Into the file that ``CHAT_BENCH_PAUSES`` names: when it ended by the monotonic clock, and how much processor time it
took, both in seconds.
"""

import gc
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

LONG = 0.0005


class Pauses:
    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = 0.0

    def __call__(self, phase: str, _: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        elif (took := time.thread_time() - self._began) > LONG:
            self._file.write(f"{time.monotonic()} {took}\n")


if "CHAT_BENCH_PAUSES" in os.environ:
    # Line by line: twistd ends by a signal, which flushes nothing.
    gc.callbacks.append(Pauses(Path(os.environ["CHAT_BENCH_PAUSES"]).open("w", buffering=1)))  # noqa: SIM115 - it stays open
