"""One life of one process, as the supervisor sees it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.processes.messages import BadMessageError, Lines, Message, decode, encode
from twisted_chat.processes.process import FROM_SUPERVISOR, SIGNS, TO_SUPERVISOR

BEAT: Final = 4.0
"""Seconds between two looks whether a process lives."""

PATIENCE: Final = 5
"""Looks in a row without a sign of life from a process: its event loop is stuck then."""

START: Final = 15
"""The same while it starts, which means reading a lot of files."""

MOST_ORDERS: Final = 100
"""Unanswered orders to one process."""

LONGEST_LINE: Final = 64 << 10
"""Bytes of a line of its output, where that comes to us."""


ProcessEnd = ProcessDone | ProcessTerminated
"""With status 0, or otherwise."""


class GoneError(Exception):
    """The process does not answer any more."""


class Events(Protocol):
    """What a child tells."""

    def ready(self, child: Child) -> None:
        """It serves clients."""

    def stopping(self, child: Child) -> None:
        """It takes no more connections."""

    def failed(self, child: Child, why: str) -> None:
        """It cannot start, and ends; one readable line."""

    def ended(self, child: Child, end: ProcessEnd) -> None:
        """It is gone."""


class Child(ProcessProtocol):
    """A process from its start to its end.

    output
        takes lines of its standard output and error, where it does not have those of the supervisor
    """

    _log = Logger()

    def __init__(self, number: int, reactor: IReactorTime, events: Events, output: Callable[[bytes], None]) -> None:
        self.number: Final = number
        self.born: Final = reactor.seconds()
        self.started = False
        """Whether it takes orders."""
        self.is_ready = False
        self.was_ready = False
        self.is_stopping = False
        self._reactor: Final = reactor
        self._events: Final = events
        self._output: Final = output
        self._said: Final = {TO_SUPERVISOR: Lines(), 1: Lines(LONGEST_LINE), 2: Lines(LONGEST_LINE)}
        self._orders: Final[dict[int, Deferred[Message]]] = {}
        self._last = 0
        self._silent = 0

    @property
    def pid(self) -> int | None:
        """None when it is gone."""
        return self.transport.pid if self.transport is not None else None

    # Orders

    def order(self, what: str, patience: float | None = None) -> Deferred[Message]:
        """Its answer. Fails with `GoneError`, or with `TimeoutError` after `patience` seconds."""
        if len(self._orders) >= MOST_ORDERS or self.transport is None:
            return fail(GoneError())
        self._last += 1
        number = self._last
        answer: Deferred[Message] = Deferred(lambda _: self._forget(number))
        self._orders[number] = answer
        self.transport.writeToChild(FROM_SUPERVISOR, encode({"order": number, "do": what}))
        return answer if patience is None else answer.addTimeout(patience, self._reactor)

    def _forget(self, number: int) -> None:
        self._orders.pop(number, None)

    def tell(self, what: str) -> None:
        """Without waiting for an answer."""
        self.order(what).addErrback(lambda failure: failure.trap(GoneError))

    def stop(self) -> None:
        """In order, if it can already."""
        self.is_ready = False
        if self.started:
            self.tell("stop")
        else:
            self.kill()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Not in order."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(number.value)

    # Is it alive?

    @property
    def is_stuck(self) -> bool:
        """Whether its event loop does not turn."""
        return self._silent > (PATIENCE if self.started else START)

    def beat(self) -> None:
        """Look for signs of life. A process that gave none for too long is killed, so that it can begin again."""
        # What is counted is looks, not seconds: the supervisor may have been stopped itself.
        self._silent += 1
        if not self.is_stuck:
            return
        is_first = self._silent == (PATIENCE if self.started else START) + 1
        # From the first Python can say where it was (PYTHONFAULTHANDLER); a process that is stopped takes the second.
        self._log.error("process {number} gives no sign of life, and is killed", number=self.number)
        self.kill(signal.SIGABRT if is_first else signal.SIGKILL)

    # What it says

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == SIGNS:
            self._silent = 0
            return
        for line in self._said[childFD].add(data):
            if childFD != TO_SUPERVISOR:
                self._output(line + b"\n")
                continue
            try:
                self._hear(decode(line))
            except (BadMessageError, KeyError):
                self._log.error("process {number} says what cannot be understood; it is killed", number=self.number)
                self.kill()
                return

    def _hear(self, message: Message) -> None:
        self._silent = 0
        if "order" in message:
            answer = self._orders.pop(message["order"], None)
            if answer is not None:
                answer.callback(message)
            return
        match message["say"]:
            case "started":
                self.started = True
            case "ready":
                self.is_ready = self.was_ready = True
                self._events.ready(self)
            case "stopping":
                self.is_ready = False
                self.is_stopping = True
                self._events.stopping(self)
            case "failed":
                self._events.failed(self, str(message["message"]))

    def processEnded(self, reason: Failure) -> None:
        self.is_ready = self.started = False
        self.transport: Any = None
        while self._orders:
            self._orders.popitem()[1].errback(Failure(GoneError()))
        assert isinstance(reason.value, ProcessEnd)
        self._events.ended(self, reason.value)
