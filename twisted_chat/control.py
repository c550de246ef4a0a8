"""Orders to all nodes: to disconnect a user, to refuse a room, to admit it again.

They are publications of a room that no client can have, so they reach every node, in one order, and a node that was
away for a while gets what it missed. A node that starts reads the newest of them, and so knows which rooms are refused.

The history of that room is limited like that of any other. What has to outlive it is said again in time: a refusal
that comes near the end of the history is published once more, with the moment at which it was first decided, so that
whatever was decided later still counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Position, Publication, Published
from twisted_chat.hub import Hub
from twisted_chat.relay.interface import HistoryLimits, Relay

ROOM: Final = "\x00control"
"""No client can have it: names have no control characters."""

NEWEST: Final = 1_000
"""Orders that are read at start."""

PATIENCE: Final = 2.0
"""Seconds that `Control.start` waits for them."""

SKEW: Final = 5.0
"""Seconds by which a node may be wrong about the clock of the relay, or an order may be under way."""

LOOK: Final = 10.0
"""Seconds between two looks at what has to be said again."""

FAR: Final = 1e11
"""Unix seconds: no time that anybody means is later."""

LONGEST_REASON: Final = 100


class Clients(Protocol):
    """The connections of this node."""

    def close_user(self, user: str, age: float, error: ChatError) -> None:
        """End the connections of a user that are older than `age` seconds."""

    def close_room(self, room: str, error: ChatError) -> None:
        """End the connections to a room."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What holds for a room.

    refused
        whether it is; `until` then, in Unix seconds; None: until it is admitted
    tag
        of the order by which that was decided
    said
        where that was last said
    """

    refused: bool
    until: float | None
    tag: int
    said: Position

    def holds(self, now: float) -> bool:
        """Whether the room is refused now."""
        return self.refused and (self.until is None or now < self.until)


class Control:
    """Gives orders and carries them out; a `core.room.Member`.

    history
        how much the relay keeps of a room; at most a quarter of that many rooms can be refused at a time
    """

    _log = Logger()

    def __init__(
        self,
        hub: Hub,
        relay: Relay,
        clients: Clients,
        reactor: IReactorTime,
        wall_clock: Callable[[], float],
        history: HistoryLimits,
    ) -> None:
        self._hub: Final = hub
        self._relay: Final = relay
        self._clients: Final = clients
        self._reactor: Final = reactor
        self._wall_clock: Final = wall_clock
        self._count: Final = min(history.count, NEWEST)
        self._age: Final = history.age
        self.most: Final = max(self._count // 4, 1)
        """Rooms that can be refused at a time."""
        self._decisions: dict[str, Decision] = {}
        self._top: Position | None = None
        self._starting: Deferred[None] | None = None
        self._timeout: IDelayedCall | None = None
        self._looking: Final = LoopingCall(self._look)
        self._looking.clock = reactor

    # Life

    def start(self) -> Deferred[None]:
        """Begin to follow the orders. Fires when those given before are known, or after `PATIENCE` seconds."""
        starting = self._starting = Deferred()
        self._timeout = self._reactor.callLater(PATIENCE, self._started)
        self._looking.start(LOOK, now=False)
        self._hub.follow(ROOM, self, NEWEST)
        return starting

    def stop(self) -> None:
        """No more orders. No harm if it was not started."""
        self._hub.unfollow(ROOM)
        if self._looking.running:
            self._looking.stop()
        self._starting = None
        self._started()

    def _started(self) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.callback(None)

    # Giving orders

    def disconnect(self, user: str, reason: str | None = None) -> Deferred[Position]:
        """End every connection that the user has now, on all nodes. Fires when that is stored; fails with `ChatError`.

        `reason`: what the client is told, at most `LONGEST_REASON` characters
        """
        return self._order({"do": "disconnect", "user": user} | ({"reason": reason} if reason else {}))

    def refuse(self, room: str, until: float | None = None) -> Deferred[Position]:
        """Close a room on all nodes, until a Unix time. Fires when that is stored; fails with `ChatError`."""
        return self._order({"do": "refuse", "room": room, "until": until})

    def admit(self, room: str) -> Deferred[Position]:
        """The inverse. No harm if it was not refused."""
        return self._order({"do": "admit", "room": room})

    def _order(self, order: dict[str, Any]) -> Deferred[Position]:
        def stored(published: Published) -> Position:
            return published.publication.position

        return self._relay.publish(ROOM, json.dumps(order).encode()).addCallback(stored)

    # What holds

    def refused(self) -> dict[str, float | None]:
        """The rooms that are refused, and until when."""
        now = self._wall_clock()
        return {room: decided.until for room, decided in sorted(self._decisions.items()) if decided.holds(now)}

    def check(self, room: str) -> None:
        """Raise `ChatError` (`Reason.ROOM_REFUSED`) when this room is."""
        decided = self._decisions.get(room)
        if decided is not None and decided.holds(self._wall_clock()):
            raise _room_refused(decided.until)

    def check_most(self, room: str) -> None:
        """Raise `ChatError` when this room would be one more than can be refused."""
        refused = self.refused()
        if room not in refused and len(refused) >= self.most:
            raise ChatError(
                Reason.BAD_REQUEST, f"{len(refused)} rooms are refused, and that is the most; admit one first"
            )

    # What the room calls

    def receive(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            self._top = publication.position
            with self._log.failuresHandled("an order could not be carried out"):
                self._obey(publication)

    def reset(self, position: Position) -> None:
        """More orders were missed than the history has, or it is a new one. What was decided before still holds."""
        self._top = position
        self._log.warn("orders from other nodes may have been missed: the relay does not have them any more")

    def live(self, position: Position) -> None:
        self._top = position
        self._started()

    def writable(self) -> bool:
        return True

    # Carrying them out

    def _obey(self, publication: Publication) -> None:
        # What is not understood is of a later version: nodes may be replaced one by one.
        match _parse(publication.data):
            case {"do": "disconnect", "user": str(user), **rest}:
                self._disconnect(user, rest.get("reason"), publication.position.tag)
            case {"do": "refuse", "room": str(room), **rest}:
                until, tag = rest.get("until"), rest.get("tag")
                if until is None or (isinstance(until, int | float) and 0 <= until < FAR):
                    tag = tag if isinstance(tag, int) else publication.position.tag
                    self._decide(room, Decision(True, until, tag, publication.position))
            case {"do": "admit", "room": str(room)}:
                self._decide(room, Decision(False, None, publication.position.tag, publication.position))

    def _disconnect(self, user: str, reason: object, tag: int) -> None:
        text = reason if isinstance(reason, str) and reason else "an operator ended your connections"
        # An order that is read at start, or after a pause, is not about who came later.
        age = self._relay.time(ROOM) - tag / 1e6 - (SKEW if self._starting is None else 0)
        self._clients.close_user(user, age, ChatError(Reason.DISCONNECTED, text[:LONGEST_REASON]))

    def _decide(self, room: str, decision: Decision) -> None:
        known = self._decisions.pop(room, None)
        if known is not None and known.tag > decision.tag:
            self._decisions[room] = known  # it was said again by a node that did not know better
            return
        self._decisions[room] = decision  # the latest last
        if decision.holds(self._wall_clock()):
            self._clients.close_room(room, _room_refused(decision.until))
        self._forget()

    def _forget(self) -> None:
        """Let go the oldest of what need not be known: that rooms were admitted, and refusals that are over."""
        now = self._wall_clock()
        over = len(self._decisions) - 2 * NEWEST
        if over > 0:
            for room in [room for room, decided in self._decisions.items() if not decided.holds(now)][:over]:
                del self._decisions[room]

    # Saying again

    def _look(self) -> None:
        now = self._wall_clock()
        for room, decided in list(self._decisions.items()):
            if decided.holds(now) and self._fades(decided.said):
                order = {"do": "refuse", "room": room, "until": decided.until, "tag": decided.tag}
                # All nodes find that out at once; the key lets the first of them say it.
                said = self._relay.publish(ROOM, json.dumps(order).encode(), f"again {decided.said} {room}")
                said.addErrback(self._not_said)

    def _fades(self, said: Position) -> bool:
        """Whether what was said there will not be in the history for long, or is not any more."""
        top = self._top
        if top is None:
            return False
        old = self._age > 0 and self._relay.time(ROOM) - said.tag / 1e6 > self._age / 2
        return said.epoch != top.epoch or top.offset - said.offset > self._count / 2 or old

    def _not_said(self, failure: Failure) -> None:
        if not failure.check(ChatError):  # which passes: the next look tries again
            self._log.failure("a refusal could not be said again", failure)


def _room_refused(until: float | None) -> ChatError:
    if until is None:
        return ChatError(Reason.ROOM_REFUSED, "this room is closed")
    return ChatError(Reason.ROOM_REFUSED, f"this room is closed until {unix_time(until)}")


def unix_time(seconds: float) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
