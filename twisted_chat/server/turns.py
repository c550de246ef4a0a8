"""Whose turn it is, where many want something that takes long: so many at a time, and one address after the other."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred

from twisted_chat.core.errors import ChatError, Reason

T = TypeVar("T")


class Turns:
    """Makes calls at once while fewer than `at_once` are under way; else those of each address wait for their turn.

    most
        calls of one address that may wait; one more is refused
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._at_once: Final = at_once
        self._most: Final = most
        self._under_way = 0
        self._serving = False
        self._waiting: Final[OrderedDict[str | None, deque[_Waiting]]] = OrderedDict()

    def take(self, address: str | None, call: Callable[[], Deferred[T]], wanted: Callable[[], bool]) -> Deferred[T]:
        """What `call` gives; fails with `ChatError` (`Reason.RATE_LIMITED`) when too many of `address` wait.

        wanted
            whether somebody still wants it when its turn comes; else it is not called, and the Deferred never fires
        """
        if self._under_way < self._at_once:
            return self._begin(call)
        waiting = self._waiting.setdefault(address, deque())
        if len(waiting) >= self._most:
            return fail(ChatError(Reason.RATE_LIMITED, f"{self._most} questions from this address wait already"))
        turn: Deferred[None] = Deferred()
        waiting.append((turn, wanted))
        return turn.addCallback(lambda _: self._begin(call))

    def _begin(self, call: Callable[[], Deferred[T]]) -> Deferred[T]:
        self._under_way += 1
        return maybeDeferred(call).addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        self._under_way -= 1
        self._serve()
        return result

    def _serve(self) -> None:
        if self._serving:
            return  # what is answered at once ends within the loop below
        self._serving = True
        while self._waiting and self._under_way < self._at_once:
            address, waiting = next(iter(self._waiting.items()))
            turn, wanted = waiting.popleft()
            if waiting:
                self._waiting.move_to_end(address)
            else:
                del self._waiting[address]
            if wanted():
                turn.callback(None)
        self._serving = False


_Waiting = tuple[Deferred[None], Callable[[], bool]]
