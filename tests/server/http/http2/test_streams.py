from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from tests.conftest import LoggedFailures
from twisted_chat.server.http.http2.streams import Streams


class Stream:
    """As much of one as they look at."""

    def __init__(self, stream_id: int, *, broken: bool = False) -> None:
        self.stream_id = stream_id
        self.heard: list[type[BaseException] | None] = []
        self._broken = broken

    def lost(self, reason: Failure) -> None:
        if self._broken:
            raise ZeroDivisionError
        self.heard.append(reason.type)


def open_streams(*all_of_them: Any) -> Streams:
    streams = Streams()
    for stream in all_of_them:
        streams.last = stream.stream_id
        streams.add(stream)
    return streams


def test_they_are_open_until_they_are_dropped() -> None:
    first: Any = Stream(1)
    second: Any = Stream(5)
    streams = open_streams(first, second)
    assert (len(streams), list(streams), streams.get(5), streams.get(3)) == (2, [first, second], second, None)
    for stream in streams:
        streams.drop(stream)
        streams.drop(stream)
        assert stream not in streams
    assert len(streams) == 0
    assert first.heard == []


def test_ended_ones_are_known_by_their_number() -> None:
    stream: Any = Stream(3)
    streams = open_streams(stream)
    assert [streams.has_ended(number) for number in (1, 3, 5)] == [True, False, False]
    streams.drop(stream)
    assert streams.has_ended(3)


def test_aborted_ones_hear_of_it_later_and_once() -> None:
    stream: Any = Stream(1)
    streams = open_streams(stream)
    streams.abort(stream)
    assert streams.some_aborted
    assert stream not in streams
    assert stream.heard == []
    streams.lose_aborted()
    streams.lose_aborted()
    assert stream.heard == [ConnectionAborted]
    assert not streams.some_aborted


def test_all_hear_of_the_end_whatever_one_of_them_does(logged_failures: LoggedFailures) -> None:
    aborted: Any = Stream(1)
    broken, last = Stream(3, broken=True), Stream(5)
    streams = open_streams(aborted, broken, last)
    streams.abort(aborted)
    streams.lose_all(Failure(ConnectionDone()))
    assert (aborted.heard, last.heard) == ([ConnectionDone], [ConnectionDone])
    assert len(streams) == 0
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
