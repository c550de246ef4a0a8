"""The rooms that this node listens to, on a link that may be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.protocol import SubscriberProtocol
from twisted_chat.waiting import Signal

SLICE: Final = 250
"""Rooms that have to prove their position at a time, so that other commands need not wait for 20,000 of them."""


class Subscriptions:
    """Which rooms are wanted, and which of them the server has confirmed.

    inbox
        a channel that is always subscribed to
    interrupted, resumed
        are told when messages of these rooms may be missed from now on, and when they come again
    paced
        fires when what was asked because of a `resumed` has been answered
    """

    def __init__(
        self,
        names: Names,
        inbox: bytes,
        *,
        interrupted: Callable[[list[str]], None],
        resumed: Callable[[list[str]], None],
        paced: Callable[[], Deferred[None]],
    ) -> None:
        self.rooms: Final[dict[bytes, str]] = {}
        """By channel."""
        self.live = False
        """Whether all rooms are subscribed to, but those that were wanted since."""
        self._names: Final = names
        self._inbox = inbox
        self._interrupted = interrupted
        self._resumed = resumed
        self._paced = paced
        self._protocol: SubscriberProtocol | None = None
        self._unconfirmed: dict[str, Signal] = {}
        self._resuming: Deferred[None] | None = None

    def add(self, room: str) -> None:
        """Listen to it, now or as soon as that is possible. Once is enough."""
        name = self._names.channel(room)
        if name in self.rooms:
            return
        self.rooms[name] = room
        if self._protocol is not None:
            confirmation = self._unconfirmed[room] = Signal()
            self._protocol.subscribe((name,)).addBoth(self._confirmed, room, confirmation)

    def remove(self, room: str) -> None:
        """Do not listen to it any more."""
        name = self._names.channel(room)
        if self.rooms.pop(name, None) is None:
            return
        if self._protocol is not None:
            self._protocol.unsubscribe((name,)).addErrback(_ignore)
        if room in self._unconfirmed:
            self._unconfirmed.pop(room).fire()

    def confirmed(self, room: str) -> Deferred[None] | None:
        """What to wait for, so that every message after that is heard; None if nothing.

        While the link is down there is nothing to wait for: whoever asks then is told by `resumed` to ask again.
        """
        confirmation = self._unconfirmed.get(room) if self.live else None
        return confirmation.wait() if confirmation is not None else None

    def up(self, protocol: SubscriberProtocol) -> None:
        """There is a new connection."""
        self._protocol = protocol
        protocol.subscribe((self._inbox, *self.rooms)).addCallbacks(self._subscribed, _ignore, (protocol,))

    def down(self) -> None:
        """It is gone."""
        self._protocol = None
        if self._resuming is not None:
            self._resuming.cancel()
        was_live, self.live = self.live, False
        if was_live:
            self._interrupted(list(self.rooms.values()))
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for confirmation in unconfirmed.values():
            confirmation.fire()

    def _subscribed(self, _: object, protocol: SubscriberProtocol) -> None:
        if self._protocol is protocol:
            self.live = True
            self._resuming = Deferred.fromCoroutine(self._resume(list(self.rooms.values())))
            self._resuming.addErrback(_ignore)  # cancelled

    async def _resume(self, rooms: list[str]) -> None:
        for begin in range(0, len(rooms), SLICE):
            self._resumed(rooms[begin : begin + SLICE])
            await self._paced()

    def _confirmed(self, _: object, room: str, confirmation: Signal) -> None:
        """Or not, and then the link is down, which is told to those who wait."""
        if self._unconfirmed.get(room) is confirmation:
            del self._unconfirmed[room]
        confirmation.fire()


def _ignore(_: Failure) -> None:
    """The link is down, which was told."""
