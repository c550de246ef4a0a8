"""The open streams of one HTTP/2 connection, and those whose protocols are still to hear that they were aborted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twisted.internet.error import ConnectionAborted
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.server.http.http2.stream import H2Stream


class Streams:
    """By their numbers.

    last
        the highest number that a client has used
    """

    _log = Logger()

    def __init__(self) -> None:
        self.last = 0
        self._open: Final[dict[int, H2Stream]] = {}
        self._aborted: Final[list[H2Stream]] = []

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[H2Stream]:
        """Those that are open now, also when some end meanwhile."""
        return iter(list(self._open.values()))

    def __contains__(self, stream: H2Stream) -> bool:
        return stream.stream_id in self._open

    def get(self, stream_id: int) -> H2Stream | None:
        return self._open.get(stream_id)

    def has_ended(self, stream_id: int) -> bool:
        """Whether it was there and is no more."""
        return stream_id <= self.last and stream_id not in self._open

    def add(self, stream: H2Stream) -> None:
        self._open[stream.stream_id] = stream

    def drop(self, stream: H2Stream) -> None:
        """It has ended, and whoever is behind it knows."""
        self._open.pop(stream.stream_id, None)

    def abort(self, stream: H2Stream) -> None:
        """It has ended. Its protocol may be in the middle of something: `lose_aborted` tells it in another turn."""
        self.drop(stream)
        self._aborted.append(stream)

    @property
    def some_aborted(self) -> bool:
        """Whether `lose_aborted` has something to do."""
        return bool(self._aborted)

    def lose_aborted(self) -> None:
        aborted = self._aborted[:]
        self._aborted.clear()
        for stream in aborted:
            self.lose(stream, Failure(ConnectionAborted()))

    def lose_all(self, reason: Failure) -> None:
        """The connection has ended."""
        streams = [*self._aborted, *self._open.values()]
        self._aborted.clear()
        self._open.clear()
        for stream in streams:
            self.lose(stream, reason)

    def lose(self, stream: H2Stream, reason: Failure) -> None:
        """Tell it of its end. A protocol that fails on that must not keep the others from hearing of theirs."""
        with self._log.failuresHandled("a stream's protocol failed at its end"):
            stream.lost(reason)
