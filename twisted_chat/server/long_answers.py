"""Answers that are made as their clients take them: long ones, of which only pieces are text at any time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from twisted.internet.interfaces import IPullProducer
from twisted.web.http import Request
from zope.interface import implementer

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.http.waiting import WaitingBytes

PIECE_BYTES: Final = 64 * 1024
"""Bytes that are written at a time: as many as a transport holds before it calls itself full."""

PART: Final = 2
"""One in so many of the bytes that may wait, for an address and for all, may be of long answers."""


class LongAnswers:
    """Those that are under way: counted by what their clients have not taken of them, and bounded.

    Unlike what waits elsewhere it is counted exactly, for it decides whether the next one is made. One of any size is
    begun while there is anything left of the bound.
    """

    def __init__(self, waiting: WaitingBytes) -> None:
        self._waiting: Final = waiting
        self._limit: Final = waiting.limit // PART
        self._share: Final = waiting.share // PART
        self._total = 0
        self._by_address: Counter[str] = Counter()

    def check(self, address: str | None) -> None:
        """Raise `ChatError` where a client of this address is to have no long answer now."""
        if address is not None and self._by_address.get(address, 0) > self._share:
            raise ChatError(
                Reason.RATE_LIMITED, "this address has long answers that it does not take; read them and ask again"
            )
        if self._total > self._limit:
            raise ChatError(Reason.TRY_AGAIN, "too many long answers are under way; ask again")

    def begin(self, request: Request, address: str | None, size: int, pieces: Iterator[bytes]) -> None:
        """Answer `request`, whose head is prepared, with `pieces`, which have `size` bytes."""
        answer = _LongAnswer(request, address, size, pieces, self._took, self._ended)
        self._waiting.add(answer)
        self._count(address, size)
        self._waiting.grew(address, size)
        answer.start()

    def _took(self, answer: _LongAnswer, size: int) -> None:
        self._count(answer.limited_address, -size)

    def _ended(self, answer: _LongAnswer) -> None:
        self._waiting.discard(answer)
        self._count(answer.limited_address, -answer.waiting_bytes())

    def _count(self, address: str | None, size: int) -> None:
        self._total += size
        if address is not None:
            self._by_address[address] += size
            if not self._by_address[address]:
                del self._by_address[address]


@implementer(IPullProducer)
class _LongAnswer:
    """One answer: a `http.waiting.Holder` of what is not written yet."""

    __slots__ = ("_ended", "_pieces", "_request", "_rest", "_took", "limited_address")

    def __init__(
        self,
        request: Request,
        address: str | None,
        size: int,
        pieces: Iterator[bytes],
        took: Callable[[_LongAnswer, int], None],
        ended: Callable[[_LongAnswer], None],
    ) -> None:
        self.limited_address: Final = address
        self._request: Request | None = request
        self._rest = size
        self._pieces = pieces
        self._took: Final = took
        self._ended: Final = ended

    def start(self) -> None:
        assert self._request is not None
        self._request.notifyFinish().addBoth(self._over)
        self._request.write(b"")  # its head; a client that takes nothing has that
        self._request.registerProducer(self, False)

    def waiting_bytes(self) -> int:
        return self._rest

    def give_up(self) -> int:
        """Cut the answer."""
        size = self._rest
        channel = None if self._request is None else cast("Any", self._request).channel
        if channel is not None:
            channel.site.refused("stalled")
            channel.abortConnection()
        return size

    def resumeProducing(self) -> None:
        """Write the next piece."""
        request = self._request
        if request is None:
            return
        piece = next(self._pieces)
        self._rest -= len(piece)
        self._took(self, len(piece))
        request.write(piece)
        if not self._rest and self._request is not None:
            request.unregisterProducer()
            request.finish()

    def stopProducing(self) -> None:
        """Nothing: the request is told of its end."""

    def _over(self, _: object) -> None:
        self._request = None
        self._pieces = iter(())
        self._ended(self)
        self._rest = 0
