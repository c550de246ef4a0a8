"""Waiting for many at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def gather(answers: Iterable[Deferred[T]]) -> list[T]:
    """Their results, or the first error as it was: all have been answered or will be ignored."""
    try:
        return await gatherResults(list(answers), consumeErrors=True)
    except FirstError as first:
        error = first.subFailure.value
        assert error is not None
        raise error from None
