"""Who lives: nodes and workers say so, and those that fell silent are disconnected by the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.scripts import BURY
from twisted_chat.relay.redis.presence import BEAT, DEAD
from twisted_chat.relay.redis.scripts import HEARTBEAT, Call

AT_ONCE: Final = 100
"""Connections that are disconnected in one step."""


class Life:
    """The sign of life of one node or worker.

    given_up
        others may have taken it for dead meanwhile: what they had begun with is over now, as it lives again
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorTime, link: QueueLink, name: str, given_up: Callable[[], None] = lambda: None
    ) -> None:
        self._reactor: Final = reactor
        self._link: Final = link
        self._name: Final = name.encode()
        self._given_up: Final = given_up
        self._known = False
        self._burying = False
        self._beat: Final = LoopingCall(self.beat)
        self._beat.clock = reactor

    def start(self) -> None:
        self._beat.start(BEAT)

    async def stop(self, *, farewell: bool = True) -> None:
        """It ends; with a `farewell`, it leaves nothing behind that others have to put in order."""
        if self._beat.running:
            self._beat.stop()
        if farewell:
            await self._link.execute("ZREM", self._link.names.nodes, self._name)

    def beat(self) -> None:
        """Say it now."""
        call = Call(HEARTBEAT, (self._link.names.nodes,), (self._name, int(DEAD * 1000), int(not self._known)))
        self._link.call(call).addCallbacks(self._answered, self._failed)

    def _answered(self, reply: tuple[int, list[bytes], list[bytes]]) -> None:
        living, dead, _ = reply
        if not living:
            self._known = False
            self.beat()
            self._given_up()
            return
        self._known = True
        up_since = self._link.up_since
        # When Redis was away all seem dead, until they had the time to say that they live.
        patient = up_since is not None and self._reactor.seconds() - up_since >= DEAD
        if dead and patient and not self._burying:
            self._burying = True
            Deferred.fromCoroutine(self._bury(dead)).addErrback(self._failed).addBoth(self._buried)

    async def _bury(self, dead: Iterable[bytes]) -> None:
        names = self._link.names
        for node in dead:
            keys = (names.nodes, names.connections_key(node), names.ready, names.waiting, names.bytes)
            call = Call(BURY, keys, (node, names.mailbox, AT_ONCE))
            count = 0
            while (some := await self._link.call(call)) > 0:
                count += some
            if count:
                self._log.warn(
                    "node {node} died: its {count} clients are disconnected", node=node.decode(), count=count
                )

    def _buried(self, _: object) -> None:
        self._burying = False

    def _failed(self, failure: Failure) -> None:
        if not failure.check(NotReadyError):  # the next beat tries again
            self._log.failure("a sign of life failed", failure)
