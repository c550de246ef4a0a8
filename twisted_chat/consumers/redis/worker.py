"""The queue as a worker sees it: it takes tokens, and runs the events of their mailboxes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.names import node_of
from twisted_chat.consumers.queue import FAIREST, Amounts, QueueLimits
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.intake import Intake
from twisted_chat.consumers.redis.lives import Life
from twisted_chat.consumers.redis.names import WORKERS
from twisted_chat.consumers.redis.posting import Posting
from twisted_chat.consumers.redis.scripts import COMMIT, FORGET, KEEP, RELEASE
from twisted_chat.consumers.run import Layer
from twisted_chat.consumers.runner import Outcome, Runner, ends, persist, verdict
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.relay.redis.endpoints import IRedisReactor
from twisted_chat.relay.redis.errors import refusal
from twisted_chat.relay.redis.scripts import Call
from twisted_chat.relay.redis.url import RedisServer
from twisted_chat.waiting import Signal

KEEPING: Final = 2.0
"""Seconds between two times at which a worker says what it is busy with, and looks for what dead ones have left."""

DEAD: Final = 10.0
"""Seconds of silence about a token after which another worker takes it."""

RETRY: Final = 0.2
"""Seconds until what could not be done is tried again."""

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
        self.layer: Layer
        """Carries out what the consumers cause; to be set before `start`."""
        self._reactor: Final = reactor
        self._runner: Final = runner
        self._most_blocking: Final = 2 * threads
        self._link: Final = QueueLink(reactor, server, up=self._up)
        self._names: Final = self._link.names
        self._life: Final = Life(reactor, self._link, f"worker-{self.name}")
        self.posting: Final = Posting(reactor, self._link, limits)
        self._me: Final = self.name.encode()
        self._held: dict[bytes, bytes] = {}
        """Mailboxes by the tokens that we hold."""
        self._on_reactor = 0
        """How many of them are in a coroutine now, and need no thread."""
        self._changed: Final = Signal()
        self._stopping = False
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
        return min(self._most_blocking - len(self._held) + self._on_reactor, COROUTINES - len(self._held))

    def _begin(self, entries: Sequence[Any]) -> None:
        tokens = {token: fields[1] for token, fields in entries if fields}
        if self._stopping:
            self._release(tokens).addErrback(lambda _: None)  # then another worker takes them over
            return
        for token, mailbox in tokens.items():
            if token not in self._held:
                self._held[token] = mailbox
                work = Deferred.fromCoroutine(self._work(token, mailbox))
                work.addErrback(self._failed).addBoth(self._done, token)

    def _release(self, tokens: Mapping[bytes, bytes]) -> Deferred[None]:
        if not tokens:
            return succeed(None)
        pairs = (part for pair in tokens.items() for part in pair)
        return self._link.call(Call(RELEASE, (self._names.ready,), (self._me, *pairs)))

    def _done(self, _: object, token: bytes) -> None:
        self._held.pop(token, None)
        self._changed.fire()

    def _failed(self, failure: Failure) -> None:
        # Another worker takes what we were busy with.
        if not failure.check(NotReadyError):
            self._log.failure("a mailbox could not be emptied", failure)

    # Working

    async def _work(self, token: bytes, mailbox: bytes) -> None:
        data, session = await self._look(mailbox)
        if data is None:
            await self._commit(token, mailbox, None, Outcome(), go_on=False)  # it was done already
        done = 0
        while data is not None and token in self._held:
            event = Event.decode(data)
            outcome = await self._run(event, session)
            await self._carry_out(event, outcome, mailbox)
            done += 1
            go_on = done < FAIREST and not self._stopping
            data, session = await self._commit(token, mailbox, event, outcome, go_on=go_on)

    async def _look(self, mailbox: bytes) -> tuple[bytes | None, bytes | None]:
        """The first event, and the session."""
        while True:
            first = self._link.execute("LINDEX", self._names.mailbox_key(mailbox), 0)
            session = self._link.execute("GET", self._names.session_key(mailbox))
            found: list[tuple[bool, Any]] = await DeferredList([first, session], consumeErrors=True)
            if all(answered for answered, _ in found):
                return found[0][1], found[1][1]
            await self._pause()

    async def _run(self, event: Event, session: bytes | None) -> Outcome:
        if self._runner.blocks(event):
            return await self._runner.run(event, session, self.layer)
        self._on_reactor += 1
        self._changed.fire()
        try:
            return await self._runner.run(event, session, self.layer)
        finally:
            self._on_reactor -= 1

    async def _carry_out(self, event: Event, outcome: Outcome, mailbox: bytes) -> None:
        if outcome.effects:
            await persist(self.layer, outcome.effects, event.id, self._pause)
        told = verdict(event, outcome)
        while told is not None:
            try:
                await self.layer.tell(mailbox.decode(), told, f"{event.id}=")
            except NotReadyError:
                await self._pause()
            else:
                return

    async def _commit(
        self, token: bytes, mailbox: bytes, event: Event | None, outcome: Outcome, *, go_on: bool
    ) -> tuple[bytes | None, bytes | None]:
        """The next event, and the session."""
        connections = self._names.connections_key(node_of(mailbox.decode()).encode())
        beginning = event.encode_id() if event is not None else b""
        # What has a mailbox of its own is alone in it.
        over = event is not None and (ends(event, outcome) or event.id.encode() == mailbox)
        call = Call(
            COMMIT,
            (
                self._names.ready,
                self._names.mailbox_key(mailbox),
                self._names.session_key(mailbox),
                self._names.waiting,
                connections,
                self._names.bytes,
            ),
            (token, self._me, mailbox, beginning, outcome.session or b"", int(over), int(go_on)),
        )
        again = False
        while True:
            try:
                reply = await self._link.call(call)
            except NotReadyError:
                again = True
                await self._pause()  # whether it was done or not
            else:
                break
        if event is not None:
            # Said again, it may not be ours any more because it was done the first time.
            lost = reply[0] == -1 and not again
            self._runner.metrics.over(event.channel, "handed_over" if lost else outcome.result)
        return (reply[1], reply[2]) if reply[0] == 1 else (None, None)

    def _pause(self) -> Deferred[None]:
        return deferLater(self._reactor, RETRY)

    # Keeping what is ours, taking what was left

    def _keep(self) -> None:
        Deferred.fromCoroutine(self._kept()).addErrback(self._not_kept)

    async def _kept(self) -> None:
        tokens = list(self._held)
        if tokens:
            for lost in await self._link.call(Call(KEEP, (self._names.ready,), (self._me, *tokens))):
                self._held.pop(lost, None)
        room = self._room()
        if self._stopping or room <= 0:
            return
        idle = int(DEAD * 1000)
        reply = await self._link.execute("XAUTOCLAIM", self._names.ready, WORKERS, self._me, idle, "0", "COUNT", room)
        self._begin([entry for entry in reply[1] if entry])
        await self._link.call(Call(FORGET, (self._names.ready,), ("", FORGOTTEN_MS)))

    def _not_kept(self, failure: Failure) -> None:
        if not failure.check(NotReadyError):
            self._log.failure("a worker could not keep its tokens", failure)
