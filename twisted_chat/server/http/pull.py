"""A pull producer on a transport that only pauses and resumes."""

from __future__ import annotations

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Pull:
    """Asks `producer` for more while it is not paused. Paused at first."""

    __slots__ = ("_asking", "_paused", "_producer")

    def __init__(self, producer: IPullProducer) -> None:
        self._producer = producer
        self._paused = True
        self._asking = False

    def resumeProducing(self) -> None:
        self._paused = False
        if self._asking:
            return  # a transport may resume in the middle of a write
        self._asking = True
        try:
            while not self._paused:
                self._producer.resumeProducing()
        finally:
            self._asking = False

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True
        self._producer.stopProducing()
