"""Pull producers on a transport that pauses and resumes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from twisted_chat.server.http.pull import Pull


@implementer(IPullProducer)
class Source:
    """Counts how often it was asked, and does something each time."""

    def __init__(self) -> None:
        self.asked = 0
        self.then: Callable[[], None] = lambda: None
        self.stopped = False

    def resumeProducing(self) -> None:
        self.asked += 1
        self.then()

    def stopProducing(self) -> None:
        self.stopped = True


def test_it_is_asked_until_the_transport_is_full() -> None:
    source = Source()
    pull = Pull(source)
    source.then = lambda: pull.pauseProducing() if source.asked % 3 == 0 else None
    for turns in (1, 2, 3):
        pull.resumeProducing()
        assert source.asked == 3 * turns


def test_a_transport_that_has_room_again_in_the_middle_of_a_write() -> None:
    source = Source()
    pull = Pull(source)

    def write() -> None:
        depths.append(len(depths) - source.asked)
        pull.pauseProducing()
        if source.asked < 1_500:  # more than there are frames on a stack
            pull.resumeProducing()

    depths: list[int] = []
    source.then = write
    pull.resumeProducing()
    assert source.asked == 1_500
    assert set(depths) == {-1}, "it is not asked while it writes"


def test_one_that_is_stopped_is_asked_no_more() -> None:
    source = Source()
    pull = Pull(source)
    source.then = pull.stopProducing
    pull.resumeProducing()
    assert (source.asked, source.stopped) == (1, True)
