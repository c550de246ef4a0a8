"""Which nodes there are: each tells the others that it lives, and how it is.

A node is present in a room that no client can have, and what it tells is the handle under which it is there. So the
relay's presence takes care of those that end, and of those that die.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.errors import ChatError
from twisted_chat.relay.interface import Relay

ROOM: Final = "\x00nodes"
"""No client can have it: names have no control characters."""

TELL: Final = 10.0
"""Seconds between two times at which a node tells how it is."""


class Nodes:
    """This node among the others.

    name
        one that no other node has
    about
        what it tells of itself besides, as JSON knows it; the same from time to time where nothing changed
    """

    _log = Logger()

    def __init__(self, relay: Relay, reactor: IReactorTime, name: str, about: Callable[[], dict[str, Any]]) -> None:
        self.name: Final = name
        self.seen: int | None = None
        """How many nodes there were when that was last asked; None: not known."""
        self._relay: Final = relay
        self._about: Final = about
        self._telling: Final = LoopingCall(self._tell)
        self._telling.clock = reactor

    def start(self) -> None:
        """Join the others. The relay is running."""
        self._telling.start(TELL)

    def stop(self) -> None:
        """Leave them. No harm if it was not started."""
        if self._telling.running:
            self._telling.stop()
            self._relay.leave(ROOM, self.name)

    def all(self) -> Deferred[list[dict[str, Any]]]:
        """What each node told last, in the order of their names. Fails with `ChatError`."""
        return self._relay.present(ROOM).addCallback(_read)

    def _tell(self) -> None:
        self._relay.enter(ROOM, self.name, json.dumps({"name": self.name} | self._about(), sort_keys=True))
        self.all().addCallbacks(self._counted, self._not_counted)

    def _counted(self, nodes: list[dict[str, Any]]) -> None:
        self.seen = len(nodes)

    def _not_counted(self, failure: Failure) -> None:
        self.seen = None
        if not failure.check(ChatError):  # which passes
            self._log.failure("the nodes could not be counted", failure)


def _read(told: tuple[str, ...]) -> list[dict[str, Any]]:
    nodes: dict[str, dict[str, Any]] = {}
    for text in told:
        try:
            node = json.loads(text)
        except ValueError:
            continue
        # What is something else is of a later version.
        if isinstance(node, dict) and isinstance(node.get("name"), str):
            nodes[node["name"]] = node
    return [nodes[name] for name in sorted(nodes)]
