"""Signs of life of this process: they come while it is busy, and stop when it hangs.

Systemd, or the supervisor of several processes, ends a process that falls silent. A sign that the reactor itself gives
waits behind all else that there is to do, so a server that very many clients keep busy would be taken for one that
hangs. A thread gives them instead, as long as the thread of the reactor gets on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

Repeat = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Begin to call something every so many seconds. Returns what ends that."""

_CALLERS: Final = {"runUntilCurrent": 0, "mainLoop": 1, "_run_once": 1}
"""Functions of Twisted's reactors and of asyncio that call one event after the other, directly or by one between."""


def in_thread(seconds: float, act: Callable[[], None]) -> Callable[[], None]:
    """Call `act` every so many seconds, in a thread of its own. Return what ends that."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            act()

    threading.Thread(target=repeat, name="twisted-chat-life", daemon=True).start()
    return ended.set


class Progress:
    """Whether the thread in which this is made gets on, as another thread sees it.

    It does when its event loop has turned since the last look, which `turned` counts, or has gone on to another event
    within its turn: with very many connections a turn may be long, and still each event of it short.
    """

    def __init__(self) -> None:
        self._thread: Final = threading.get_ident()
        self._turns = 0
        self._turns_seen = -1
        self._event: FrameType | None = None

    def turned(self) -> None:
        """Note that the loop turns."""
        self._turns += 1

    def made(self) -> bool:
        """Return whether there was any since the last call."""
        turns, event = self._turns, _event(sys._current_frames().get(self._thread))
        # The frame is kept until the next look, so that no other can be taken for it.
        made = turns != self._turns_seen or event is not self._event
        self._turns_seen, self._event = turns, event
        return made


def _event(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the Python function that an event loop is calling; None between two, or in no known loop."""
    inner: tuple[FrameType | None, FrameType | None] = (None, None)
    while frame is not None:
        between = _CALLERS.get(frame.f_code.co_name)
        if between is not None:
            return inner[between]
        inner, frame = (frame, inner[0]), frame.f_back
    return None


class LifeSigns(Service):
    """Calls `give` every so many seconds, from a thread, as long as the reactor gets on; the first time at once."""

    def __init__(
        self, reactor: IReactorTime, seconds: float, give: Callable[[], None], repeat: Repeat = in_thread
    ) -> None:
        self._reactor: Final = reactor
        self._seconds: Final = seconds
        self._give: Final = give
        self._repeat: Final = repeat
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._progress = Progress()
        self._turn()
        self._give()
        self._end = self._repeat(self._seconds, self._look)

    def stopService(self) -> None:
        super().stopService()
        self._end()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _turn(self) -> None:
        self._progress.turned()
        self._call = self._reactor.callLater(self._seconds / 2, self._turn)

    def _look(self) -> None:
        if self._progress.made():
            self._give()
