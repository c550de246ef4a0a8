"""Keeps a producer in step with a queue that it fills."""

from __future__ import annotations

from typing import Any, Final

HIGH_WATER: Final = 64 * 1024
"""Bytes waiting beyond which a push producer is paused."""

LOW_WATER: Final = 16 * 1024
"""Bytes waiting with which it is resumed."""


class Pacer:
    """The consumer's half of `IConsumer` for one producer, push or pull."""

    __slots__ = ("_producer", "_producing", "_streaming")

    def __init__(self) -> None:
        self._producer: Any = None
        self._streaming = True
        self._producing = True

    @property
    def streaming(self) -> bool:
        """Whether a push producer is registered: one that knows when to stop."""
        return self._producer is not None and self._streaming

    @property
    def pulling(self) -> bool:
        """Whether a pull producer is registered: it has more to write."""
        return self._producer is not None and not self._streaming

    def register(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer, self._streaming, self._producing = producer, streaming, True

    def unregister(self) -> None:
        self._producer = None

    def check(self, waiting: int, blocked: bool) -> None:
        """Tell the producer what follows from so many bytes waiting.

        `blocked`: nothing can leave the queue for a reason outside of it. A pull producer is asked for more whenever
        the queue is empty.
        """
        producer = self._producer
        if producer is None:
            return
        if not self._streaming:
            if not waiting and not blocked:
                producer.resumeProducing()
        elif self._producing and waiting > (0 if blocked else HIGH_WATER):
            self._producing = False
            producer.pauseProducing()
        elif not self._producing and waiting <= LOW_WATER and not blocked:
            self._producing = True
            producer.resumeProducing()

    def stop(self) -> None:
        """The queue will never be read again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
