"""The room in which a node hears what consumers want of it for its clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.delivery import GROUP_HISTORY
from twisted_chat.core.publication import History, Newest, Position, Publication
from twisted_chat.hub import Hub
from twisted_chat.relay.interface import Relay

MOST: Final = GROUP_HISTORY.count
"""Publications that are read when the history was lost, and that may come meanwhile."""


class NodeRoom:
    """What this node is told to do for its clients; a `core.room.Member`.

    told
        is called with each publication, in their order
    lost
        is called when something that was said to this node is lost, and maybe more: Redis was emptied, say
    """

    _log = Logger()

    def __init__(
        self, room: str, hub: Hub, relay: Relay, told: Callable[[Publication], None], lost: Callable[[], None]
    ) -> None:
        self._room: Final = room
        self._hub: Final = hub
        self._relay: Final = relay
        self._told: Final = told
        self._lost: Final = lost
        self._live: Deferred[None] | None = None
        self._last: Position | None = None
        self._question: object | None = None
        """Which answer we wait for."""
        self._later: list[Publication] = []
        """What came while the history was read, which is what comes before it."""

    def start(self) -> Deferred[None]:
        """Fires when it hears what it is told."""
        live = self._live = Deferred()
        self._hub.follow(self._room, self, 0)
        return live

    def stop(self) -> None:
        self._hub.unfollow(self._room)
        self._question = None
        self._later.clear()

    def receive(self, publications: Sequence[Publication]) -> None:
        if self._question is None:
            self._tell(publications)
            return
        self._later.extend(publications)
        if len(self._later) > MOST:
            self._go_on()

    def reset(self, position: Position) -> None:
        """What was said up to there was not heard. As far as it is in the history it is told: clients wait for it."""
        self._log.error("some of what consumers said to clients of this node is lost: Redis does not have it any more")
        question = self._question = object()
        self._relay.history(self._room, Newest(MOST)).addCallbacks(
            self._read, self._not_read, callbackArgs=(question, position), errbackArgs=(question,)
        )
        self._lost()

    def live(self, position: Position) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.callback(None)

    def writable(self) -> bool:
        return True

    def _read(self, history: History, question: object, position: Position) -> None:
        if question is not self._question:
            return
        last = self._last
        heard = last.offset if last is not None and last.epoch == position.epoch else 0
        told = [each for each in history.publications if each.position.epoch == position.epoch]
        self._tell([each for each in told if heard < each.position.offset <= position.offset])
        self._go_on()

    def _not_read(self, failure: Failure, question: object) -> None:
        self._log.warn("what else was said to them is not known: {error}", error=failure.getErrorMessage())
        if question is self._question:
            self._go_on()

    def _go_on(self) -> None:
        self._question = None
        later, self._later = self._later, []
        self._tell(later)

    def _tell(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            self._last = publication.position
            with self._log.failuresHandled("what this node was told is not understood"):
                self._told(publication)
