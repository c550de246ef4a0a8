"""Processes in memory: a reactor that writes down whom it would start, and speaks for them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests import memory_reactor
from twisted_chat.processes.process import FROM_SUPERVISOR, SIGNS, TO_SUPERVISOR


class Spawned:
    """A process that somebody thinks to have started."""

    def __init__(
        self, protocol: Any, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Mapping[int, Any]
    ) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.environment = environment
        self.descriptors = descriptors
        self.pid = 4711
        self.orders: list[dict[str, Any]] = []
        self.signals: list[signal.Signals] = []
        self.gone = False
        protocol.makeConnection(self)

    # What its supervisor does

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == FROM_SUPERVISOR
        self.orders += [json.loads(line) for line in data.splitlines()]

    def signalProcess(self, number: int) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(signal.Signals(number))

    # What it does

    def say(self, what: str, **more: Any) -> None:
        self.hear({"say": what, **more})

    def answer(self, **more: Any) -> None:
        """To the last order."""
        self.hear({"order": self.orders[-1]["order"], **more})

    def hear(self, message: object) -> None:
        self.protocol.childDataReceived(TO_SUPERVISOR, json.dumps(message).encode() + b"\n")

    def begin(self) -> None:
        self.say("started")
        self.say("ready")

    def told(self) -> list[str]:
        """All orders."""
        return [order["do"] for order in self.orders]

    def give_sign(self) -> None:
        """Show that it lives."""
        self.protocol.childDataReceived(SIGNS, b".")

    def end(self, status: int = 0, number: int | None = None) -> None:
        self.gone = True
        error = ProcessTerminated(status or None, number) if status or number else ProcessDone(0)
        self.protocol.processEnded(Failure(error))


class Reactor(memory_reactor.Reactor):
    """Starts nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Spawned] = []
        self.refuses: OSError | None = None

    def spawnProcess(
        self,
        processProtocol: Any,
        executable: object,
        args: Sequence[str],
        env: Any,
        path: object = None,
        *,
        childFDs: Any,
    ) -> Spawned:
        if self.refuses is not None:
            raise self.refuses
        assert executable == args[0]
        self.spawned.append(Spawned(processProtocol, args, env, childFDs))
        return self.spawned[-1]


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def log() -> Any:
    with capturedLogs() as events:
        yield events


@pytest.fixture
def said(log: Sequence[LogEvent]) -> Callable[[], list[str]]:
    """What the log says until now."""
    return lambda: [formatEvent(event) for event in log]
