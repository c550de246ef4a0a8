"""A worker's questions for work: which mailboxes there are to empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.redis.connection import BlockingLink
from twisted_chat.consumers.redis.names import WORKERS, QueueNames
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.errors import error_code
from twisted_chat.relay.redis.refusals import TAKING, Refusals
from twisted_chat.relay.redis.url import RedisServer
from twisted_chat.waiting import Signal

WAIT: Final = 1.0
"""Seconds that one question for tokens waits in Redis."""

RETRY: Final = 0.2
"""Seconds until a question that was not answered is asked again."""


class Intake:
    """Asks for tokens as long as there is room for them.

    worker
        its name
    room, changed
        for how many there is room now, and what fires when that changes
    prepare
        makes the consumer group, where there is none
    begin
        is given tokens with what is in them
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IRedisReactor,
        server: RedisServer,
        worker: bytes,
        *,
        room: Callable[[], int],
        changed: Signal,
        prepare: Callable[[], None],
        begin: Callable[[Sequence[Any]], None],
    ) -> None:
        self.works: bool | None = None
        """Whether the last question was answered; None: that is not known yet."""
        self.told: Callable[[bool], None] = lambda _: None
        """Is told what `works` is, each time that it changes."""
        self._reactor: Final = reactor
        self._worker: Final = worker
        self._stream: Final = QueueNames(server.prefix).ready
        self._room: Final = room
        self._changed: Final = changed
        self._prepare: Final = prepare
        self._refusals: Final = Refusals(server.name, reactor.seconds)
        self._begin: Final = begin
        self._link: Final = BlockingLink(reactor, server)
        self._tried = False
        self._stopping = False
        self._taking: Deferred[None] = succeed(None)

    def start(self) -> None:
        self._link.start().addCallback(self._was_tried)
        self._taking = Deferred.fromCoroutine(self._take())
        self._taking.addErrback(lambda failure: self._log.failure("no more is taken from the queue", failure))

    def stop(self) -> Deferred[None]:
        """Ask no more. Fires when the last question has been answered: what that gives is still for `begin`."""
        self._stopping = True
        self._changed.fire()
        return self._taking

    def close(self) -> Deferred[None]:
        """When it has stopped: close the link."""
        return self._link.stop()

    async def _take(self) -> None:
        while not self._stopping:
            room = self._room()
            if room <= 0:
                await self._changed.wait()
                continue
            # The first question does not wait: what we want to know is whether it is answered.
            wait = ("BLOCK", int(WAIT * 1000)) if self.works else ()
            try:
                reply = await self._link.execute(
                    *("XREADGROUP", "GROUP", WORKERS, self._worker, "COUNT", room, *wait, "STREAMS", self._stream, ">")
                )
            except Exception as error:  # noqa: BLE001 - whatever Redis has against it
                await self._not_taken(error)
                continue
            self._refusals.worked(TAKING)
            self._tell(works=True)
            for _, entries in reply or ():
                self._begin(entries)

    async def _not_taken(self, error: Exception) -> None:
        if error_code(error) in {"NOGROUP", "UNBLOCKED"}:
            self._prepare()  # Redis has lost its data, or is new
        else:
            self._refusals.refused(TAKING, Failure(error))
            # Before there was time to connect nothing is known.
            if self._tried:
                self._tell(works=False)
        await deferLater(self._reactor, RETRY)

    def _was_tried(self, _: object) -> None:
        self._tried = True

    def _tell(self, *, works: bool) -> None:
        if works != self.works:
            self.works = works
            self.told(works)
