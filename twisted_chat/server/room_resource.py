"""One room URL: its socket, event stream, history, page, and the place to post to, by what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import AddressRates, Limits
from twisted_chat.core.names import room_from_path
from twisted_chat.core.paths import other_spelling
from twisted_chat.core.publication import History, Newest, Proof, Published, Question
from twisted_chat.core.session import Session
from twisted_chat.server.admission import Admission
from twisted_chat.server.connection import Connections
from twisted_chat.server.event_stream import EventStream
from twisted_chat.server.http.request import ALLOW_ORIGIN, body_of, field, is_preflight, prepare
from twisted_chat.server.http.upgrade import is_websocket_request, lost_upgrade, upgrade
from twisted_chat.server.json_response import JSON, answer, check_json, prepare_json, refuse
from twisted_chat.server.long_answers import PIECE_BYTES, LongAnswers
from twisted_chat.server.static_files import StaticFile
from twisted_chat.server.turns import Turns
from twisted_chat.server.websocket import RoomSocketFactory
from twisted_chat.wire import query, room
from twisted_chat.wire.accept import preferred
from twisted_chat.wire.page import Page

METHODS: Final = "GET, HEAD, POST, OPTIONS"
_METHODS: Final = frozenset(METHODS.encode().split(b", "))
HTML: Final = "text/html"
EVENTS: Final = "text/event-stream"

READ_AT_ONCE: Final = 8
"""Histories that are read at a time: a page of long messages is a megabyte, and the relay has others to serve."""

READ_LATER: Final = 1_000
"""Those of one address that may wait for it."""

T = TypeVar("T")


class RoomResource(Resource):
    """Everything below ``/chat``."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self, admission: Admission, connections: Connections, sockets: RoomSocketFactory, page: StaticFile
    ) -> None:
        super().__init__()
        self._admission: Final = admission
        self._connections: Final = connections
        self._sockets: Final = sockets
        self._page: Final = page
        self._arrivals: Final = AddressRates(self._limits.arrivals)
        self._turns: Final = Turns(READ_AT_ONCE, READ_LATER)
        self._long_answers: Final = LongAnswers(connections.waiting_bytes)

    @property
    def _limits(self) -> Limits:
        return self._admission.limits

    def check_head(self, request: Request) -> bytes | None:
        """Refuse a post that is going to be refused whatever its body is."""
        try:
            name = self._enter(request)
            self._check_method(request)
            if request.method == b"POST":
                self._poster(request, name).check_head(self._connections.reactor.seconds())
        except ChatError as error:
            return self._refuse(request, error)
        return None

    def render(self, request: Request) -> bytes | int:
        try:
            if is_preflight(request):
                # Whatever the room is: a page can read why the request itself is refused, but not why this is.
                self._admission.check_origin(request)
                return self._options(request)
            return self._render(request, self._enter(request))
        except ChatError as error:
            return self._refuse(request, error)

    def _enter(self, request: Request) -> str:
        """Return the room, for a page that may ask."""
        self._admission.check_origin(request)
        name = room_from_path(request.path.removeprefix(b"/chat"))
        unusual = other_spelling(request.path)
        if unusual is not None:
            # A proxy that has a rule for the usual spelling has let this one through.
            raise ChatError(Reason.BAD_ROOM, f"a room has one spelling in a URL; ask for {unusual.decode('ascii')}")
        return name

    def _check_method(self, request: Request) -> None:
        if request.method not in _METHODS and not is_websocket_request(request):
            request.setHeader("allow", METHODS)
            raise ChatError(Reason.METHOD_NOT_ALLOWED, f"a room takes {METHODS} and WebSocket")

    def _render(self, request: Request, name: str) -> bytes | int:
        if is_websocket_request(request):
            return self._open_socket(request, name)
        if (refusal := lost_upgrade(request)) is not None:
            self._connections.metrics.refused(refusal.code)
            return prepare(request, refusal)
        self._check_method(request)
        match request.method:
            case b"POST":
                return self._post(request, name)
            case b"OPTIONS":
                return self._options(request)
        return self._get(request, name)

    def _get(self, request: Request, name: str) -> bytes | int:
        request.setHeader("vary", "accept, origin")
        # Whoever says nothing in particular, like curl, gets the history.
        form = preferred(field(request, b"accept"), (JSON, EVENTS, HTML))
        if form == HTML:
            return self._page.render(request)
        if form == JSON:
            return self._history(request, name)
        if form == EVENTS and request.method == b"GET":
            return self._open_event_stream(request, name)
        if form == EVENTS:
            request.setHeader("content-type", EVENTS)
            return b""
        raise ChatError(Reason.NOT_ACCEPTABLE, f"a room is to be had as {JSON}, {EVENTS} or {HTML}")

    # Long connections

    def _open_socket(self, request: Request, name: str) -> int:
        wish = query.wish(_query(request), self._limits)
        session = self._entering(request, name, wish)
        self._connections.count.check(session.address)
        upgrade(request, self._sockets.socket(session, wish, session.address))
        return NOT_DONE_YET

    def _open_event_stream(self, request: Request, name: str) -> int:
        wish = query.wish(_query(request), self._limits, field(request, b"last-event-id"))
        session = self._entering(request, name, wish)
        EventStream(request, self._connections, session, session.address).start(wish)
        return NOT_DONE_YET

    def _entering(self, request: Request, name: str, wish: query.Wish) -> Session:
        session = self._admission.session(request, name, wish.handle)
        session.identity.check_read(name)
        if (wish.newest or wish.since) and session.address is not None and not session.identity.server:
            self._check_arrival(session.address)
        return session

    def _check_arrival(self, address: str) -> None:
        """Who connects again and again for a history would have the server read that and do nothing else."""
        if not self._arrivals.take(address, self._connections.reactor.seconds()):
            raise ChatError(
                Reason.RATE_LIMITED, "this address connects too often with since or history; try again in some seconds"
            )

    # History

    def _history(self, request: Request, name: str) -> int:
        question = query.question(_query(request), self._limits)
        self._admission.identify(request).check_read(name)
        self._admission.check_room(name)
        address = self._admission.address(request)
        read = partial(self._read, name, question, address)
        page = self._turns.take(address, read, lambda: request.channel is not None)
        self._later(request, page, partial(self._answer_page, request))
        return NOT_DONE_YET

    def _read(self, name: str, question: Question, address: str | None) -> Deferred[Page]:
        self._long_answers.check(address)  # what cannot be written need not be read
        return self._connections.hub.history(name, question).addCallback(partial(self._page_of, name, question))

    def _page_of(self, name: str, question: Question, history: History) -> Page | Deferred[Page]:
        if history.proof is Proof.LOST:
            # What can be had of it, and word that it is not all.
            newest = self._connections.hub.history(name, Newest(question.limit))
            return newest.addCallback(partial(_page, complete=False))
        return _page(history, complete=True)

    def _answer_page(self, request: Request, page: Page) -> None:
        if page.data_size() < PIECE_BYTES or request.method == b"HEAD":
            self._answer(request, page.text())
            return
        address = self._admission.address(request)
        self._long_answers.check(address)  # again: many may have been read meanwhile
        size = page.size() + 1
        prepare_json(request, 200, size)
        self._long_answers.begin(request, address, size, chain(page.pieces(PIECE_BYTES), (b"\n",)))

    # Posting

    def _post(self, request: Request, name: str) -> int:
        session = self._poster(request, name)
        command = room.decode(body_of(request), self._limits)
        if not isinstance(command, room.Publish):
            raise ChatError(Reason.BAD_MESSAGE, 'post {"handle": "ann", "message": "hi"}')
        hub, now = self._connections.hub, self._connections.reactor.seconds()
        try:
            handle = session.speak(command.handle, now)
            data = room.compose(handle, command.message, command.key)
            session.spend(len(data), now, began=hub.has_begun(name))
        except ChatError as error:
            error.key = command.key
            raise
        published = hub.publish(
            name,
            data,
            session.idempotency_key(command.key),
            "api" if session.identity.server else "http",
            session.spender,
        )
        stored = published.addCallback(partial(self._stored, request, session))
        self._later(request, stored, partial(self._answer, request))
        return NOT_DONE_YET

    def _poster(self, request: Request, name: str) -> Session:
        """Return who posts, by the head of `request`."""
        check_json(request)
        return self._admission.session(request, name)

    def _stored(self, request: Request, session: Session, published: Published) -> bytes:
        session.stored(published, self._connections.reactor.seconds())
        request.setResponseCode(200 if published.duplicate else 201)
        return room.message(published.publication)

    # Cross-origin

    def _options(self, request: Request) -> bytes:
        request.setResponseCode(204)
        request.setHeader("allow", METHODS)
        if request.responseHeaders.hasHeader(ALLOW_ORIGIN):
            request.setHeader("access-control-allow-methods", METHODS)
            request.setHeader("access-control-allow-headers", "authorization, content-type, last-event-id")
            request.setHeader("access-control-max-age", "600")
        return b""

    # Answers

    def _later(self, request: Request, waiting: Deferred[T], respond: Callable[[T], None]) -> None:
        """Answer the request, while somebody waits for it, with what `respond` makes of a result, or with the refusal.

        What `respond` raises it raises before it writes.
        """
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def finish(result: T) -> None:
            if not gone:
                respond(result)

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, ChatError):
                self._log.failure("a request to a room failed", failure)
                error = ChatError(Reason.INTERNAL, "the server failed on this request")
            if not gone:
                request.write(self._refuse(request, error))
                request.finish()

        waiting.addCallback(finish).addErrback(failed)

    def _answer(self, request: Request, content: bytes) -> None:
        request.write(answer(request, request.code, content))
        request.finish()

    def _refuse(self, request: Request, error: ChatError) -> bytes:
        self._connections.metrics.refused(error.reason.code)
        self._log.debug(
            "{method} {path} of {address} is refused: {reason}, {error}",
            method=request.method.decode("ascii", "backslashreplace"),
            path=request.path.decode("ascii", "backslashreplace"),
            address=self._admission.address(request) or "a local socket",
            reason=error.reason.code,
            error=error.message,
        )
        return refuse(request, error)


def _page(history: History, *, complete: bool) -> Page:
    publications = history.publications
    position = publications[-1].position if publications else history.top
    return Page(publications, position, complete, more=history.proof is Proof.MORE)


def _query(request: Request) -> dict[str, str]:
    """The query's last value of each name; what is not UTF-8 is refused where it is looked at."""
    args: dict[bytes, list[bytes]] = request.args or {}
    return {name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace") for name, values in args.items()}
