"""Calls of which only a few may be under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class FewAtOnce:
    """Makes calls at once while fewer than `most` are under way, and the others in their order as those end.

    Redis executes all commands that it has read before it answers the first of them. Many long answers at once look as
    if it had died, and keep what others want waiting for as long. What waits is bounded by whoever asks: there is one
    call for each room and each member that joins, and what HTTP asks has a bound of its own.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._under_way = 0
        self._serving = False
        self._waiting: Final[deque[Deferred[None]]] = deque()

    def run(self, call: Callable[[], Deferred[T]]) -> Deferred[T]:
        """What `call` gives, when it was its turn. Cancelled before that, it is not called."""
        if self._under_way < self._most:
            return self._begin(call)
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        return turn.addCallback(lambda _: self._begin(call))

    def _begin(self, call: Callable[[], Deferred[T]]) -> Deferred[T]:
        self._under_way += 1
        return call().addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        self._under_way -= 1
        if not self._serving:  # what fails at once ends within this loop
            self._serving = True
            while self._waiting and self._under_way < self._most:
                turn = self._waiting.popleft()
                if not turn.called:
                    turn.callback(None)
            self._serving = False
        return result
