"""Garbage collection without long pauses: what has lived for a while is not walked over again.

Nearly everything here is freed by its reference count the moment it is done with; members and rooms leave no cycles
behind, only HTTP/2 connections do (``tests/server/test_cycles.py``). Python's collector, which is for cycles, walks
over all objects that live all the same, the more often the more come, and nothing else happens meanwhile.

So it is left to look at young objects only. Those that survived two collections are frozen (`gc.freeze`): they can
still be freed by their count, but are not looked at. Cycles that became garbage when they were old are found by a
thorough collection, which is made only when memory has grown beyond what connections explain, and then pays off.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_chat.core.limits import ConnectionCount

YOUNG: Final = 5_000
"""Objects that are made, beyond those that are freed, until they are looked at: a millisecond."""

TIMES: Final = 3
"""How often that happens until the survivors are looked at together and frozen: a few milliseconds."""

NEVER: Final = 1 << 30

OLD: Final = 1
"""The generation whose survivors are frozen."""

LOOK: Final = 10.0
"""Seconds between two looks at how much memory is used."""

OF_A_CONNECTION: Final = 200
"""Blocks of memory that a connection may have; an idle WebSocket has some fifty."""

LEAST: Final = 1_000_000
"""Blocks of memory that are not worth a thorough collection: about 100 MiB."""


class Garbage(Service):
    """The garbage collector of this process, while it runs.

    connections
        counts them
    paused
        called after each collection with its seconds
    blocks
        how many blocks of memory Python has in use
    """

    def __init__(
        self,
        reactor: IReactorTime,
        connections: ConnectionCount,
        paused: Callable[[float], None],
        blocks: Callable[[], int] = sys.getallocatedblocks,
    ) -> None:
        self._connections: Final = connections
        self._paused: Final = paused
        self._blocks: Final = blocks
        self._look: Final = LoopingCall(self.look)
        self._look.clock = reactor
        self._began = 0.0
        self._most = 0
        """Blocks, besides those of connections, at which a thorough collection is due."""

    def startService(self) -> None:
        """Take over: what lives to the end is there."""
        super().startService()
        self.collect()
        self._before = gc.get_threshold()
        gc.set_threshold(YOUNG, TIMES, NEVER)
        gc.callbacks.append(self._collecting)
        self._look.start(LOOK, now=False)

    def stopService(self) -> None:
        """Leave everything to Python again."""
        super().stopService()
        self._look.stop()
        gc.callbacks.remove(self._collecting)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def look(self) -> None:
        """Collect thoroughly if memory has grown and connections are not why."""
        if self._unexplained() > self._most:
            self.collect()

    def collect(self) -> None:
        """Walk over everything."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        # What is left is in use. Twice as much may be, for a growing history say, before that is doubted again.
        self._most = max(LEAST, 2 * self._unexplained())

    def _unexplained(self) -> int:
        return max(0, self._blocks() - OF_A_CONNECTION * self._connections.total)

    def _collecting(self, phase: str, about: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        if about["generation"] >= OLD:
            gc.freeze()
        self._paused(time.perf_counter() - self._began)
