"""Publishing over a link that may be lost in the middle of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_chat.core.publication import Publication, Published
from twisted_chat.relay.redis.errors import LinkLostError
from twisted_chat.relay.redis.publications import Storage, parse
from twisted_chat.relay.redis.scripts import Call

PATIENCE: Final = 2.0
"""Seconds that a publication with a key waits for the link to come back."""


class Publisher:
    """Publishes in the order of the calls.

    A publication without a reply may be stored or not. One that has a key is sent once more when the link comes back
    in time, before anything else is: it is not stored twice. Without a key nobody can know.
    """

    def __init__(self, reactor: IReactorTime, storage: Storage, call: Callable[[Call], Deferred[Any]]) -> None:
        self._reactor = reactor
        self._storage = storage
        self._call = call
        self._unsure: list[_Draft] = []
        self._give_up: IDelayedCall | None = None

    def publish(self, room: str, data: bytes, key: str | None) -> Deferred[Published]:
        """Fails as `CommandProtocol.execute_command` does."""
        draft = _Draft(self._storage.publish(room, data, key), data, key)
        self._send(draft)
        return draft.done

    def up(self) -> None:
        """The link is back, and nothing was sent on it."""
        unsure, self._unsure = self._unsure, []
        self._stop_waiting()
        for draft in unsure:
            self._send(draft)

    def stop(self) -> None:
        """No longer wait for it."""
        self._stop_waiting()
        unsure, self._unsure = self._unsure, []
        for draft in unsure:
            draft.done.errback(LinkLostError())

    def _send(self, draft: _Draft) -> None:
        # The same call as before: it is known by it that this is no repetition of the client's.
        answered = self._call(draft.call).addCallbacks(
            self._stored, self._failed, callbackArgs=(draft,), errbackArgs=(draft,)
        )
        answered.addErrback(draft.done.errback)

    def _stored(self, reply: tuple[int, bytes], draft: _Draft) -> None:
        duplicate, text = reply
        stored = parse(text)
        if not duplicate:
            stored = Publication(stored.position, stored.previous, draft.data)
        draft.done.callback(Published(stored, duplicate=bool(duplicate)))

    def _failed(self, failure: Failure, draft: _Draft) -> None:
        if draft.key is None or draft.repeated or not failure.check(LinkLostError):
            draft.done.errback(failure)
            return
        draft.repeated = True
        self._unsure.append(draft)
        if self._give_up is None:
            self._give_up = self._reactor.callLater(PATIENCE, self.stop)

    def _stop_waiting(self) -> None:
        if self._give_up is not None and self._give_up.active():
            self._give_up.cancel()
        self._give_up = None


@dataclass(eq=False, slots=True)
class _Draft:
    call: Call
    data: bytes
    key: str | None
    done: Deferred[Published] = field(default_factory=Deferred)
    repeated: bool = False
