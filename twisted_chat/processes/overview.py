"""All processes as one server, for operators: what is in the way of any, and their metrics together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from twisted_chat.processes.child import Child, GoneError
from twisted_chat.processes.messages import Message
from twisted_chat.processes.totals import SupervisorMetrics, Totals
from twisted_chat.server.admin import DRAINING, Obstacle, state

PATIENCE: Final = 3.0
"""Seconds that a process has for its report: longer than its relay has to answer."""


class Overview:
    """What `server.admin.admin_resource` asks.

    Reports are asked for when somebody asks here. Whoever asks while that is under way gets the same answer.
    """

    def __init__(self, reactor: IReactorTime, children: Mapping[int, Child | None]) -> None:
        self.nodes: int | None = None
        """How many nodes the processes saw at the last look; None: not known."""
        self._reactor: Final = reactor
        self._children: Final = children
        self._totals: Final = Totals()
        self._metrics: Final = SupervisorMetrics()
        self._draining = False
        # One for each request under way, so never more than there are connections.
        self._waiting: Final[set[Deferred[tuple[Obstacle, ...]]]] = set()
        self._is_looking = False

    def ended(self, number: int) -> None:
        """A process is gone; what it counted stays counted."""
        self._totals.ended(number)
        self._metrics.ended()

    def draining(self) -> None:
        """No more clients, for good."""
        self._draining = True

    def check(self) -> Deferred[tuple[Obstacle, ...]]:
        """Everything that is in the way of any process. Never fails; may be cancelled."""
        waiter: Deferred[tuple[Obstacle, ...]] = Deferred(self._waiting.discard)
        self._waiting.add(waiter)
        if not self._is_looking:
            self._is_looking = True
            looking = Deferred.fromCoroutine(self._look())
            looking.addBoth(self._looked)
        return waiter

    async def _look(self) -> tuple[Obstacle, ...]:
        asked = {
            number: child.order("report", PATIENCE) if child is not None and child.started else None
            for number, child in self._children.items()
        }
        all_found: list[tuple[Obstacle, ...]] = []
        nodes: list[int | None] = []
        for number, report in asked.items():
            all_found.append(self._missing(number) if report is None else await self._read(number, report, nodes))
        self.nodes = max((each for each in nodes if each is not None), default=None)
        self._metrics.running(sum(child is not None for child in self._children.values()))
        return (DRAINING,) if self._draining else _together(all_found)

    def _missing(self, number: int) -> tuple[Obstacle, ...]:
        return (Obstacle("process", f"process {number} is starting"),)

    async def _read(self, number: int, asked: Deferred[Message], nodes: list[int | None]) -> tuple[Obstacle, ...]:
        try:
            report = await asked
        except GoneError:
            return self._missing(number)
        except DeferredTimeout:
            return (Obstacle("process", f"process {number} did not answer within {PATIENCE:g} seconds"),)
        self._totals.report(number, report["metrics"])
        nodes.append(report["nodes"])
        return tuple(Obstacle(code, message, partial) for code, message, partial in report["obstacles"])

    def _looked(self, result: Any) -> None:
        self._is_looking = False
        waiting = list(self._waiting)
        self._waiting.clear()
        for waiter in waiting:
            waiter.callback(result)

    def render(self) -> bytes:
        """The metrics of all as they were at the last `check`, in the text format."""
        return self._totals.render(self._metrics.families())


def _together(found: Sequence[Sequence[Obstacle]]) -> tuple[Obstacle, ...]:
    """What is in the way of all of them. While one takes clients, they are taken."""
    serves = any(state(obstacles) != "not_ready" for obstacles in found)
    each = (obstacle for obstacles in found for obstacle in obstacles)
    return tuple(dict.fromkeys(replace(obstacle, partial=obstacle.partial or serves) for obstacle in each))
