"""What machines ask about a server or a worker: is it alive, can it take clients or events, how is it doing.

================  ===================================================================================
``/healthz``      200 ``ok``: the event loop turns. Restart the server when this fails.
``/readyz``       200 or 503, and in JSON what is in the way. Send no clients here while it is 503.
``/readyz/full``  the same, but 503 as well where only a part works: another server may be better off
``/metrics``      the Prometheus text format
================  ===================================================================================

Nothing here tells who is asking: serve it on an address of its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.paths import is_canonical
from twisted_chat.metrics import CONTENT_TYPE
from twisted_chat.server.json_response import answer, refuse

PROBE_TIMEOUT: Final = 2.0
"""Seconds that the relay has to answer."""

FRESH: Final = 1.0
"""Seconds for which its answer is good."""

_INDEX: Final = (
    b"/healthz      the event loop turns\n"
    b"/readyz       it can do its work, or a part of it\n"
    b"/readyz/full  it can do all of its work\n"
    b"/metrics      Prometheus\n"
)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What does not work: a `code` for machines, ``draining``, and a `message` for people.

    partial
        the server takes clients all the same, and does the rest for them
    """

    code: str
    message: str
    partial: bool = False


STARTING: Final = Obstacle("starting", "the server has not finished starting")
DRAINING: Final = Obstacle("draining", "the server is shutting down and sends its clients away")


def state(obstacles: Sequence[Obstacle]) -> str:
    """Return ``ready``, ``partial`` or ``not_ready``."""
    if not obstacles:
        return "ready"
    return "partial" if all(obstacle.partial for obstacle in obstacles) else "not_ready"


class _Phase(Enum):
    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()


class Problem(Protocol):
    """Something that a probe found not to work, while the rest does."""

    @property
    def code(self) -> str: ...

    @property
    def message(self) -> str: ...


class Readiness:
    """Whether the server can take clients now.

    probe
        asks the relay for a sign of life, and what does not work all the same: fails where there is none, best with a
        `ChatError` that says why. One runs at a time; whoever asks meanwhile gets the same answer, and so does everyone
        for `FRESH` seconds. It is cancelled after `PROBE_TIMEOUT` seconds.
    announce
        is told each verdict: whether clients can be taken, and whether only a part works
    starting, draining
        what is in the way before `started`, and from `draining` on
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        probe: Callable[[], Awaitable[Iterable[Problem]]],
        announce: Callable[[bool, bool], None],
        *,
        starting: Obstacle = STARTING,
        draining: Obstacle = DRAINING,
    ) -> None:
        self._in_the_way: Final = {_Phase.STARTING: starting, _Phase.DRAINING: draining}
        self._reactor = reactor
        self._probe = probe
        self._announce = announce
        self._phase = _Phase.STARTING
        self._probing: Deferred[Iterable[Problem]] | None = None
        # One for each request under way, so never more than there are connections.
        self._waiting: set[Deferred[tuple[Obstacle, ...]]] = set()
        self._found: tuple[Obstacle, ...] = ()
        self._probed: float | None = None

    def started(self) -> None:
        """All endpoints listen."""
        self._phase = _Phase.SERVING
        self._probed = None

    def draining(self) -> None:
        """No more clients, for good. Ends a probe that is under way."""
        self._phase = _Phase.DRAINING
        if self._probing is not None:
            self._probing.cancel()
        self._answer()

    def check(self) -> Deferred[tuple[Obstacle, ...]]:
        """Everything that is in the way; empty when the server is ready. Never fails; may be cancelled."""
        if self._phase is _Phase.DRAINING or self._is_fresh():
            return succeed(self._obstacles())
        waiter: Deferred[tuple[Obstacle, ...]] = Deferred(self._waiting.discard)
        self._waiting.add(waiter)
        if self._probing is None:
            self._probing = Deferred.fromCoroutine(self._ask()).addTimeout(PROBE_TIMEOUT, self._reactor)
            # Only now: a probe that has answered at once must find itself in `_probing`.
            self._probing.addCallbacks(self._answered, self._failed)
        return waiter

    def _is_fresh(self) -> bool:
        # The clock may be set back: an age below zero is no age.
        return self._probed is not None and 0 <= self._reactor.seconds() - self._probed < FRESH

    async def _ask(self) -> Iterable[Problem]:
        return await self._probe()

    def _answered(self, problems: Iterable[Problem]) -> None:
        self._concluded(*(Obstacle(problem.code, problem.message, partial=True) for problem in problems))

    def _failed(self, failure: Failure) -> None:
        if failure.check(DeferredTimeout):
            self._concluded(Obstacle("relay", f"the relay did not answer within {PROBE_TIMEOUT:g} seconds"))
        elif isinstance(failure.value, ChatError):
            self._concluded(Obstacle("relay", failure.value.message))
        else:
            if self._phase is not _Phase.DRAINING or not failure.check(CancelledError):
                self._log.failure("asking the relay whether it is ready went wrong", failure)
            self._concluded(Obstacle("relay", "asking the relay went wrong; the log says how"))

    def _concluded(self, *found: Obstacle) -> None:
        self._probing = None
        self._found = found
        self._probed = self._reactor.seconds()
        self._answer()

    def _answer(self) -> None:
        obstacles = self._obstacles()
        verdict = state(obstacles)
        self._announce(verdict != "not_ready", verdict == "partial")
        while self._waiting:
            self._waiting.pop().callback(obstacles)

    def _obstacles(self) -> tuple[Obstacle, ...]:
        if self._phase is _Phase.DRAINING:
            return (self._in_the_way[_Phase.DRAINING],)
        starting = (self._in_the_way[_Phase.STARTING],) if self._phase is _Phase.STARTING else ()
        return (*starting, *self._found)


class _Page(Resource):
    """One page, for GET and HEAD: `answer` sets status and headers of a request, and returns its body."""

    _log = Logger()

    def __init__(self, answer: Callable[[Request], Awaitable[bytes]]) -> None:
        super().__init__()
        self._answer = answer

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        child: IResource = super().getChildWithDefault(path, request)
        return child if is_canonical(request.path) else _Page(_not_found)

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Page(_not_found)

    def check_head(self, request: Request) -> bytes | None:
        """Refuse what has a body and another method: nothing here takes either."""
        return None if request.method in (b"GET", b"HEAD") else _only_read(request)

    def render(self, request: Request) -> int:
        finished = request.notifyFinish()
        answering = Deferred.fromCoroutine(self._respond(request))
        finished.addErrback(lambda _gone: answering.cancel())
        answering.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _respond(self, request: Request) -> None:
        if request.method in (b"GET", b"HEAD"):
            body = await self._answer(request)
        else:
            body = _only_read(request)
        _write(request, body)

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError):
            return  # the client has gone
        self._log.failure("{path!r} cannot be answered", failure, path=request.path)
        _write(request, refuse(request, ChatError(Reason.INTERNAL, "this went wrong; the log says how")))


class Rendered(Protocol):
    """Metrics, of one process or of several."""

    def render(self) -> bytes:
        """In the text format of Prometheus."""


class Checked(Protocol):
    """Whether clients can be taken."""

    def check(self) -> Deferred[tuple[Obstacle, ...]]:
        """Everything that is in the way."""


def admin_resource(metrics: Rendered, readiness: Checked, nodes: Callable[[], int | None] | None = None) -> Resource:
    """The root of a site for operators. Its children (``metrics``, ...) may be put into another tree as well.

    nodes
        tells how many nodes this one sees, itself among them; None: that is not known now
    """

    async def index(request: Request) -> bytes:
        return _text(request, _INDEX)

    async def health(request: Request) -> bytes:
        return _text(request, b"ok\n")

    async def ready(request: Request, good: Container[str] = ("ready", "partial")) -> bytes:
        obstacles = await readiness.check()
        verdict = state(obstacles)
        said = {
            "ready": verdict != "not_ready",
            "state": verdict,
            "obstacles": [{"code": obstacle.code, "message": obstacle.message} for obstacle in obstacles],
        } | ({"nodes": nodes()} if nodes is not None else {})
        return answer(request, 200 if verdict in good else 503, json.dumps(said).encode())

    async def fully_ready(request: Request) -> bytes:
        return await ready(request, ("ready",))

    async def prometheus(request: Request) -> bytes:
        # So that the gauge is true on servers whose /readyz nobody asks.
        await readiness.check()
        return _text(request, metrics.render(), CONTENT_TYPE)

    root = _Page(index)
    root.putChild(b"", _Page(index))
    root.putChild(b"healthz", _Page(health))
    readyz = _Page(ready)
    readyz.putChild(b"full", _Page(fully_ready))
    root.putChild(b"readyz", readyz)
    root.putChild(b"metrics", _Page(prometheus))
    return root


def _only_read(request: Request) -> bytes:
    request.setHeader("allow", "GET, HEAD")
    return refuse(request, ChatError(Reason.METHOD_NOT_ALLOWED, "only GET and HEAD are answered here"))


async def _not_found(request: Request) -> bytes:
    return refuse(request, ChatError(Reason.NOT_FOUND, "there is nothing here; / lists what there is"))


def _text(request: Request, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    request.setHeader("content-type", content_type)
    request.setHeader("cache-control", "no-store")
    request.setHeader("x-content-type-options", "nosniff")
    return body


def _write(request: Request, body: bytes) -> None:
    if not request.responseHeaders.hasHeader("content-length"):
        request.setHeader("content-length", str(len(body)))
    request.write(body)  # which leaves it out of an answer to HEAD
    request.finish()
