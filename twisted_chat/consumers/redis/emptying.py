"""What a worker does with the mailboxes whose tokens it holds: it runs their events, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.names import node_of
from twisted_chat.consumers.queue import FAIREST
from twisted_chat.consumers.redis.aside import ALONE, ATTEMPTS, MOST, MOST_BYTES, attempts_of, decoded
from twisted_chat.consumers.redis.connection import QueueLink
from twisted_chat.consumers.redis.scripts import ASIDE, BEGIN, COMMIT
from twisted_chat.consumers.run import Layer
from twisted_chat.consumers.runner import Outcome, Runner, ends, persist, verdict
from twisted_chat.relay.redis.scripts import Call
from twisted_chat.waiting import Signal

RETRY: Final = 0.2
"""Seconds until what could not be done is tried again."""


@dataclass(frozen=True, slots=True)
class _First:
    """The first event of a mailbox, with its session, and how many workers died of it."""

    data: bytes
    session: bytes | None
    attempts: int = 0


class Emptying:
    """Empties mailboxes. An event that workers died of is run alone, and then set aside: see `aside`.

    worker
        its name
    holds
        whether a token is the worker's, as far as it knows
    goes_on
        whether it goes on with the next event of a mailbox
    changed
        is fired when an event does not need a thread
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        link: QueueLink,
        runner: Runner,
        worker: bytes,
        *,
        holds: Callable[[bytes], bool],
        goes_on: Callable[[], bool],
        changed: Signal,
    ) -> None:
        self.layer: Layer
        """Carries out what the consumers cause; to be set before anything is emptied."""
        self.on_reactor = 0
        """How many mailboxes are in a coroutine now, and need no thread."""
        self._reactor: Final = reactor
        self._link: Final = link
        self._names: Final = link.names
        self._runner: Final = runner
        self._worker: Final = worker
        self._holds: Final = holds
        self._goes_on: Final = goes_on
        self._changed: Final = changed
        self._alone: Final = DeferredLock()
        """Is held for an event that workers died of."""

    async def empty(self, token: bytes, mailbox: bytes) -> None:
        """Run the events of a mailbox until the token is not the worker's any more, or it is the turn of others."""
        first = await self._look(mailbox)
        if first is None:
            await self._commit(token, mailbox, b"", go_on=False)  # it was done already
        done = 0
        while first is not None and self._holds(token):
            done += 1
            go_on = done < FAIREST and self._goes_on()
            if first.attempts >= ATTEMPTS:
                first = await self._set_aside(token, mailbox, first, go_on=go_on)
            elif first.attempts >= ALONE:
                first = await self._run_alone(token, mailbox, first, go_on=go_on)
            else:
                first = await self._run(token, mailbox, first, go_on=go_on)

    async def _look(self, mailbox: bytes) -> _First | None:
        while True:
            asked = [
                self._link.execute("LINDEX", self._names.mailbox_key(mailbox), 0),
                self._link.execute("GET", self._names.session_key(mailbox)),
                self._link.execute("HGET", self._names.attempts, mailbox),
            ]
            found: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
            if all(answered for answered, _ in found):
                data, session, attempts = (answer for _, answer in found)
                return _First(data, session, attempts_of(data, attempts)) if data is not None else None
            await self._pause()

    # Each of these returns what is the first event afterwards.

    async def _run(self, token: bytes, mailbox: bytes, first: _First, *, go_on: bool) -> _First | None:
        event = Event.decode(first.data)
        outcome = await self._call(event, first.session)
        return await self._over(token, mailbox, event, outcome, go_on=go_on)

    async def _run_alone(self, token: bytes, mailbox: bytes, first: _First, *, go_on: bool) -> _First | None:
        """Not beside another one that workers died of; so if this one dies, it is known of which."""
        await self._alone.acquire()
        try:
            keys = (self._names.ready, self._names.attempts, self._names.mailbox_key(mailbox))
            call = Call(BEGIN, keys, (token, self._worker, mailbox))
            if not self._holds(token) or not await self._answer(call):
                return None
            return await self._run(token, mailbox, first, go_on=go_on)
        finally:
            self._alone.release()

    async def _set_aside(self, token: bytes, mailbox: bytes, first: _First, *, go_on: bool) -> _First | None:
        """Put it where an operator finds it; then it is over as if its consumer had failed."""
        names = self._names
        call = Call(
            ASIDE,
            (
                *(names.ready, names.attempts, names.mailbox_key(mailbox), names.session_key(mailbox)),
                *(names.aside, names.aside_amounts),
            ),
            (token, self._worker, mailbox, MOST, MOST_BYTES),
        )
        gone = await self._answer(call)
        if gone < 0:
            return None
        event = decoded(first.data)
        self._log.error(
            "event {event} of {channel} took {count} workers down, and is set aside: see python -m twisted_chat events",
            event=event.id if event is not None else "without a name",
            channel=event.channel if event is not None else "no channel",
            count=first.attempts,
        )
        if gone:
            self._log.error("{count} older events that had been set aside are dropped, to make room", count=gone)
        if event is None:
            return await self._commit(token, mailbox, first.data, go_on=go_on)
        return await self._over(token, mailbox, event, Outcome(failed=True, set_aside=True), go_on=go_on)

    async def _call(self, event: Event, session: bytes | None) -> Outcome:
        if self._runner.blocks(event):
            return await self._runner.run(event, session, self.layer)
        self.on_reactor += 1
        self._changed.fire()
        try:
            return await self._runner.run(event, session, self.layer)
        finally:
            self.on_reactor -= 1

    # What came of it

    async def _over(
        self, token: bytes, mailbox: bytes, event: Event, outcome: Outcome, *, go_on: bool
    ) -> _First | None:
        if outcome.effects:
            await persist(self.layer, outcome.effects, event.id, self._pause)
        told = verdict(event, outcome)
        while told is not None:
            try:
                await self.layer.tell(mailbox.decode(), told, f"{event.id}=")
            except NotReadyError:
                await self._pause()
            else:
                break
        return await self._commit(token, mailbox, event.encode_id(), go_on=go_on, event=event, outcome=outcome)

    async def _commit(
        self,
        token: bytes,
        mailbox: bytes,
        beginning: bytes,
        *,
        go_on: bool,
        event: Event | None = None,
        outcome: Outcome = Outcome(),  # noqa: B008 - frozen
    ) -> _First | None:
        """Take it away, whose `beginning` is that of no other one."""
        names = self._names
        # What has a mailbox of its own is alone in it.
        over = event is not None and (ends(event, outcome) or event.id.encode() == mailbox)
        call = Call(
            COMMIT,
            (
                *(names.ready, names.mailbox_key(mailbox), names.session_key(mailbox), names.waiting),
                names.connections_key(node_of(mailbox.decode()).encode()),
                *(names.bytes, names.attempts),
            ),
            (token, self._worker, mailbox, beginning, outcome.session or b"", int(over), int(go_on)),
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
        return _First(reply[1], reply[2]) if reply[0] == 1 else None

    async def _answer(self, call: Call) -> Any:
        """That to a script that does no harm when it is called again."""
        while True:
            try:
                return await self._link.call(call)
            except NotReadyError:
                await self._pause()

    def _pause(self) -> Deferred[None]:
        return deferLater(self._reactor, RETRY)
