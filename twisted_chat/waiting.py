"""Waiting for several at once, and until something is so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


def gathered(begun: Sequence[Deferred[None]]) -> Deferred[None]:
    """`gather` as a Deferred; of one alone, which is what there mostly is, it is that one."""
    return begun[0] if len(begun) == 1 else Deferred.fromCoroutine(_gather_all(begun))


async def _gather_all(begun: Iterable[Deferred[None]]) -> None:
    await gather(begun)


async def gather(begun: Iterable[Deferred[T]]) -> list[T]:
    """Their results, or the first error as it was: all have been answered or will be ignored."""
    try:
        return await gatherResults(list(begun), consumeErrors=True)
    except FirstError as first:
        error = first.subFailure.value
        assert error is not None
        raise error from None


def within(reactor: IReactorTime, seconds: float, waiting: Deferred[Any]) -> Deferred[bool]:
    """Whether something ends in so many seconds, good or bad. It goes on in any case: nothing of it is cancelled."""
    answer: Deferred[bool] = Deferred()
    deadline = reactor.callLater(seconds, answer.callback, False)

    def ended(_: object) -> None:
        if deadline.active():
            deadline.cancel()
            answer.callback(True)

    waiting.addBoth(ended)
    return answer


class Signal:
    """Something that happens again and again, and that others wait for."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Fires when it happens next; may be cancelled."""
        waiting: Deferred[None] = Deferred(self._waiting_no_more)
        self._waiting.append(waiting)
        return waiting

    def fire(self) -> None:
        """It happens."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _waiting_no_more(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
