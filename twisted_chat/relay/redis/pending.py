"""Answers that are still owed."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred, succeed

T = TypeVar("T")


class Pending:
    """What was accepted and is not answered yet."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Deferred[None]] = []

    def add(self, answer: Deferred[T]) -> None:
        self._count += 1
        answer.addBoth(self._done)

    def idle(self) -> Deferred[None]:
        """Fires when everything has been answered."""
        if not self._count:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._waiting.append(idle)
        return idle

    def _done(self, result: T) -> T:
        self._count -= 1
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for idle in waiting:
                idle.callback(None)
        return result
