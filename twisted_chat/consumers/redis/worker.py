"""The queue as a worker sees it: it takes tokens, and runs the events of their mailboxes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.queue import Amounts, QueueLimits
from twisted_chat.consumers.redis.aside import ALONE
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.emptying import Emptying
from twisted_chat.consumers.redis.intake import Intake
from twisted_chat.consumers.redis.lives import Life
from twisted_chat.consumers.redis.names import WORKERS
from twisted_chat.consumers.redis.posting import Posting
from twisted_chat.consumers.redis.scripts import CLAIM, FORGET, KEEP, RELEASE
from twisted_chat.consumers.runner import Runner
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.errors import refusal
from twisted_chat.relay.redis.scripts import Call, Script
from twisted_chat.relay.redis.url import RedisServer
from twisted_chat.waiting import Signal

KEEPING: Final = 2.0
"""Seconds between two times at which a worker says what it is busy with, and looks for what dead ones have left."""

DEAD: Final = 10.0
"""Seconds of silence about a token after which another worker takes it."""

FORGOTTEN_MS: Final = 60_000
"""Milliseconds of silence after which a worker that holds nothing is forgotten."""

COROUTINES: Final = 100
"""Mailboxes that a worker is busy with at most, threads or not: coroutines need none."""


class Worker:
    """Takes as many mailboxes as it has threads for, and some more so that none has to wait for Redis."""

    _log = Logger()

    def __init__(
        self,
        reactor: IRedisReactor,
        server: RedisServer,
        runner: Runner,
        threads: int,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.name: Final = secrets.token_hex(8)
        self._reactor: Final = reactor
        self._most_blocking: Final = 2 * threads
        self._link: Final = QueueLink(reactor, server, up=self._up)
        self._names: Final = self._link.names
        self._life: Final = Life(reactor, self._link, f"worker-{self.name}")
        self.posting: Final = Posting(reactor, self._link, limits)
        self._me: Final = self.name.encode()
        self._held: dict[bytes, bytes] = {}
        """Mailboxes by the tokens that we hold."""
        self._changed: Final = Signal()
        self._stopping = False
        self.emptying: Final = Emptying(
            reactor,
            self._link,
            runner,
            self._me,
            holds=self._held.__contains__,
            goes_on=lambda: not self._stopping,
            changed=self._changed,
        )
        self.intake: Final = Intake(
            reactor,
            server,
            self._me,
            room=self._room,
            changed=self._changed,
            prepare=self._prepare,
            begin=self._begin,
        )
        self._keeping: Final = LoopingCall(self._keep)
        self._keeping.clock = reactor

    # Life

    def start(self) -> Deferred[None]:
        """Fires when it is known whether Redis is there."""
        tried = self._link.start()
        self._life.start()
        self._keeping.start(KEEPING, now=False)
        self.posting.start()
        self.intake.start()
        return tried

    async def stop(self) -> None:
        """Take nothing more, and finish what was begun."""
        self._stopping = True
        self.posting.stop()
        await self.intake.stop()  # what it is given now is ours to give back
        while self._held:
            await self._changed.wait()
        await self._close()

    def abandon(self) -> None:
        """Do not wait for what was begun: it is for other workers to do again. `stop` ends."""
        self._release(self._held).addErrback(lambda _: None)  # then they take it over
        self._held.clear()
        self._changed.fire()

    async def _close(self) -> None:
        if self._keeping.running:
            self._keeping.stop()
        with suppress(NotReadyError):  # another worker does it
            await self._life.stop()
            await self._link.call(Call(FORGET, (self._names.ready,), (self._me, FORGOTTEN_MS)))
        await self.intake.close()
        await self._link.stop()

    @property
    def busy(self) -> int:
        """Mailboxes that it is busy with."""
        return len(self._held)

    @property
    def amounts(self) -> Amounts:
        """How much was in the queue when `ready` was asked last."""
        return self._link

    async def ready(self) -> None:
        """Raises `ChatError` where no events can be taken now."""
        try:
            await self._link.look()
        except NotReadyError as error:
            raise refusal(error.__cause__) from error
        if not self.intake.works:
            raise ChatError(Reason.TRY_AGAIN, "no events can be taken from the server's storage right now")

    def _up(self) -> None:
        self._life.beat()
        self._prepare()

    def _prepare(self) -> None:
        made = self._link.execute("XGROUP", "CREATE", self._names.ready, WORKERS, "0", "MKSTREAM")
        made.addErrback(lambda _: None)  # it is there already; if that is not why, the next question shows it

    # Taking

    def _room(self) -> int:
        return min(self._most_blocking - len(self._held) + self.emptying.on_reactor, COROUTINES - len(self._held))

    def _begin(self, entries: Sequence[Any]) -> None:
        tokens = {token: fields[1] for token, fields in entries if fields}
        if self._stopping:
            self._release(tokens).addErrback(lambda _: None)  # then another worker takes them over
            return
        for token, mailbox in tokens.items():
            if token not in self._held:
                self._held[token] = mailbox
                work = Deferred.fromCoroutine(self.emptying.empty(token, mailbox))
                work.addErrback(self._failed).addBoth(self._done, token)

    def _release(self, tokens: Mapping[bytes, bytes]) -> Deferred[None]:
        if not tokens:
            return succeed(None)
        return self._link.call(self._about(RELEASE, tokens))

    def _about(self, script: Script, tokens: Mapping[bytes, bytes]) -> Call:
        """A script that is told of tokens and their mailboxes."""
        pairs = (part for pair in tokens.items() for part in pair)
        return Call(script, (self._names.ready, self._names.attempts), (self._me, self._names.mailbox, *pairs))

    def _done(self, _: object, token: bytes) -> None:
        self._held.pop(token, None)
        self._changed.fire()

    def _failed(self, failure: Failure) -> None:
        # Another worker takes what we were busy with.
        if not failure.check(NotReadyError):
            self._log.failure("a mailbox could not be emptied", failure)

    # Keeping what is ours, taking what was left

    def _keep(self) -> None:
        Deferred.fromCoroutine(self._kept()).addErrback(self._not_kept)

    async def _kept(self) -> None:
        if self._held:
            for lost in await self._link.call(self._about(KEEP, self._held)):
                self._held.pop(lost, None)
        room = self._room()
        if self._stopping or room <= 0:
            return
        idle = int(DEAD * 1000)
        keys = (self._names.ready, self._names.attempts)
        self._begin(await self._link.call(Call(CLAIM, keys, (self._me, idle, room, self._names.mailbox, ALONE))))
        await self._link.call(Call(FORGET, (self._names.ready,), ("", FORGOTTEN_MS)))

    def _not_kept(self, failure: Failure) -> None:
        if not failure.check(NotReadyError):
            self._log.failure("a worker could not keep its tokens", failure)
