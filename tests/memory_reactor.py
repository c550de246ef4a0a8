"""A reactor in memory."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer


@implementer(IReactorFromThreads)
class Reactor(MemoryReactorClock):
    """Runs and stops as a real one does, and writes down in `events` what happens, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def callFromThread(self, callable: Callable[..., object], *args: object, **kw: object) -> None:  # noqa: A002
        callable(*args, **kw)

    def callInThread(self, callable: Callable[..., object], *args: object, **kw: object) -> None:  # noqa: A002
        raise AssertionError("nothing here needs a thread")

    def run(self) -> None:
        """Begin to; Twisted's own stops as well."""
        self.running = self.hasRun = True
        for call, arguments, named in self.whenRunningHooks:
            call(*arguments, **named)

    def stop(self) -> None:
        if self.hasStopped:
            raise ReactorNotRunning
        self.events.append("stop")
        super().stop()
