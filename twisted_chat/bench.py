"""How a server does under load, seen from outside: `python -m twisted_chat bench`.

Members are WebSockets of this process, all in one room. They take turns in saying something, and each delivery is timed
from there to here, so that one clock measures it. Figures of a run are good beside those of another run on the same
machine; this process needs a core as well, and says how much of it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.internet.task import LoopingCall, deferLater, react

from twisted_chat.client import ClientError
from twisted_chat.clock import use_monotonic_clock

CONNECTING: Final = 20
"""Members that connect at the same time."""

QUIET: Final = 3.0
"""Seconds without a delivery after which no more are waited for."""

BUSY: Final = 0.8
"""Of a core, from which on this process may be what is slow."""


@dataclass(frozen=True, slots=True)
class Load:
    """`rate` messages a second of `characters` each, for `seconds`, in a room of `members`."""

    url: str
    members: int = 100
    rate: float = 10.0
    seconds: float = 10.0
    characters: int = 100
    token: str | None = None
    api_key: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        for name in ("members", "rate", "seconds", "characters"):
            if not getattr(self, name) > 0:
                raise ClientError(f"--{name} must be more than 0, not {getattr(self, name):g}")
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ClientError(f"{self.url!r} is no room's URL; give for example http://127.0.0.1:8080/chat/lobby")

    @property
    def headers(self) -> dict[str, str]:
        token = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return token | ({"X-API-Key": self.api_key} if self.api_key else {})


class Tally:
    """What was said and what came of it. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._sent: list[float] = []
        self._stored: set[int] = set()
        self._latencies: Counter[int] = Counter()
        """In tenths of a millisecond: as many entries as there are different ones, whatever the load."""
        self.deliveries = 0
        self.refusals: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.last = 0.0

    def say(self, now: float, characters: int) -> str:
        """The text of the next message, which is sent now."""
        self._sent.append(now)
        return f"{self._run} {len(self._sent) - 1} ".ljust(characters, ".")

    def heard(self, text: str, now: float) -> None:
        """A member was given a message."""
        run, _, rest = text.partition(" ")
        if run != self._run:
            return  # somebody else's
        number = int(rest.partition(" ")[0])
        self._stored.add(number)
        self._latencies[round((now - self._sent[number]) * 10_000)] += 1
        self.deliveries += 1
        self.last = now

    def outstanding(self, members: int) -> bool:
        """Whether a message may still be on its way."""
        return len(self._stored) + self.refusals.total() < len(self._sent) or self.missing(members) > 0

    def missing(self, members: int) -> int:
        """Deliveries that the messages that came back to anybody should have had besides."""
        return len(self._stored) * members - self.deliveries

    def latency(self, share: float) -> float:
        """Milliseconds within which this share of all deliveries came."""
        left = share * self.deliveries
        for tenths, count in sorted(self._latencies.items()):
            left -= count
            if left <= 0:
                return tenths / 10
        return 0.0

    def report(self, members: int, seconds: float, processor: float) -> list[str]:
        """Lines for people. `processor`: seconds of it that this process took."""
        rows = [
            ("members", f"{members}"),
            ("sent", f"{len(self._sent)} messages, {len(self._sent) / seconds:.1f} a second"),
            ("stored", f"{len(self._stored)}"),
            ("delivered", f"{self.deliveries}, {self.deliveries / seconds:.0f} a second"),
        ]
        if self.deliveries:
            shares = ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"), (1.0, "all"))
            rows.append(("latency", ", ".join(f"{name} within {self.latency(of):.1f} ms" for of, name in shares)))
        if missing := self.missing(members):
            rows.append(("missing", f"{missing} deliveries"))
        for what, counted in (("refused", self.refusals), ("lost", self.lost)):
            rows += [(what, f"{count} times {why}") for why, count in counted.most_common()]
        lines = [f"{name:<10} {text}" for name, text in rows]
        if processor / seconds > BUSY:
            lines.append(f"this tool took {processor / seconds:.0%} of a core: it may have been slower than the server")
        return lines


class BenchMember(WebSocketClientProtocol):
    """One member of the room."""

    factory: Any

    def onOpen(self) -> None:
        self.factory.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        fields = json.loads(payload)
        if "error" in fields:
            self.factory.tally.refusals[fields["error"]["code"]] += 1
        elif "message" in fields:
            self.factory.tally.heard(fields["message"], self.factory.reactor.seconds())

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.closed(self, f"{code}: {reason}" if wasClean else reason or "lost")


class BenchRoom(WebSocketClientFactory):
    """The members of the room, and the load that they make."""

    protocol = BenchMember

    def __init__(self, reactor: Any, load: Load, tally: Tally) -> None:
        scheme, _, rest = load.url.partition("://")
        super().__init__(f"{'wss' if scheme == 'https' else 'ws'}://{rest}", headers=load.headers, reactor=reactor)
        self.setProtocolOptions(openHandshakeTimeout=30.0, closeHandshakeTimeout=5.0)
        self.tally: Final = tally
        self.members: list[BenchMember] = []
        self._load: Final = load
        self._endpoint: Final = _endpoint(reactor, load)
        self._coming: dict[BenchMember, Deferred[None]] = {}
        self._leaving = False
        self._gone: Deferred[None] = Deferred()
        self._turn = 0

    async def come(self) -> None:
        """Everybody joins. Raises `ClientError`."""
        few = DeferredSemaphore(CONNECTING)
        joining = [few.run(lambda: Deferred.fromCoroutine(self._join())) for _ in range(self._load.members)]
        try:
            await gatherResults(joining, consumeErrors=True)
        except FirstError as error:
            raise ClientError(f"{self._load.url}: {error.subFailure.getErrorMessage()}") from None

    async def _join(self) -> None:
        member: Any = await self._endpoint.connect(self)
        coming: Deferred[None] = Deferred()
        self._coming[member] = coming
        await coming

    def opened(self, member: BenchMember) -> None:
        self.members.append(member)
        self._coming.pop(member).callback(None)

    def closed(self, member: BenchMember, reason: str) -> None:
        if member in self._coming:
            self._coming.pop(member).errback(ClientError(reason))
        elif member in self.members:
            self.members.remove(member)
            if not self._leaving:
                self.tally.lost[reason] += 1
            elif not self.members:
                self._gone.callback(None)

    def say(self, count: int) -> None:
        """The next members say something."""
        for _ in range(count if self.members else 0):
            self._turn += 1
            text = self.tally.say(self.reactor.seconds(), self._load.characters)
            command = json.dumps({"handle": f"bench{self._turn % len(self.members)}", "message": text})
            self.members[self._turn % len(self.members)].sendMessage(command.encode())

    async def leave(self) -> None:
        """Everybody leaves."""
        self._leaving = True
        if self.members:
            for member in list(self.members):
                member.sendClose()
            await self._gone


async def bench(reactor: Any, load: Load) -> tuple[list[str], bool]:
    """Make the load; the report, and whether all was delivered. Raises `ClientError`."""
    tally = Tally()
    room = BenchRoom(reactor, load, tally)
    await room.come()
    began, processor = reactor.seconds(), time.process_time()
    saying = LoopingCall.withCount(room.say)
    saying.clock = reactor
    done = saying.start(1.0 / load.rate, now=False)
    await deferLater(reactor, load.seconds, lambda: None)
    saying.stop()
    await done
    stopped = tally.last = reactor.seconds()
    processor = time.process_time() - processor
    while tally.outstanding(load.members) and reactor.seconds() - tally.last < QUIET:
        await deferLater(reactor, 0.05, lambda: None)
    await room.leave()
    whole = not (tally.outstanding(load.members) or tally.refusals or tally.lost)
    return tally.report(load.members, stopped - began, processor), whole


def run(load: Load) -> tuple[list[str], bool]:
    """The same with a reactor of its own, once in a process."""
    outcome: list[tuple[list[str], bool] | ClientError] = []

    async def main(reactor: Any) -> None:
        use_monotonic_clock(reactor)
        try:
            outcome.append(await bench(reactor, load))
        except ClientError as error:
            outcome.append(error)

    try:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
    except SystemExit:
        if not outcome:
            raise
    (made,) = outcome
    if isinstance(made, ClientError):
        raise made
    return made


def _endpoint(reactor: Any, load: Load) -> IStreamClientEndpoint:
    parts = urlsplit(load.url)
    assert parts.hostname
    if parts.scheme == "http":
        return HostnameEndpoint(reactor, parts.hostname, parts.port or 80)
    options: Any = optionsForClientTLS(parts.hostname) if load.verify else CertificateOptions(verify=False)
    return wrapClientTLS(options, HostnameEndpoint(reactor, parts.hostname, parts.port or 443))
