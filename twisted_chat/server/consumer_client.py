"""One client of the consumers, from its handshake, which they answer, to its end; a `consumers.sockets.Client`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.web.http import Request

from twisted_chat.consumers.events import kept_bytes
from twisted_chat.consumers.group_member import GroupMember, close_of, has_frame
from twisted_chat.consumers.names import group_room
from twisted_chat.consumers.sockets import Sockets
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Position
from twisted_chat.core.session import Session
from twisted_chat.hub import Hub
from twisted_chat.server.connection import Connection, Connections
from twisted_chat.server.consumer_socket import ABNORMAL, ConsumerSocket
from twisted_chat.server.http.upgrade import upgrade
from twisted_chat.server.json_response import refuse

HELD: Final = 1_000
"""Messages that wait until their order is known; more than that go on at once, and so do more bytes than may wait for
one client."""

LEFT: Final = "closed_by_consumer"
"""Why a connection ended that a consumer closed."""


class ConsumerClient(Connection):
    """Until a consumer has answered it is a request, which is held; then a socket.

    visitor
        makes the session of its membership in a room
    groups
        the rooms that are groups
    """

    _log = Logger()

    def __init__(
        self,
        connections: Connections,
        socket: ConsumerSocket,
        session: Session,
        address: str | None,
        *,
        request: Request,
        sockets: Sockets,
        groups: Hub,
        visitor: Callable[[str], Session],
        otherwise: Callable[[], None],
    ) -> None:
        super().__init__(connections, socket, session, address)
        socket.adopt(self, self)
        self.name: Final = connections.name()
        self.path: Final = session.room
        self._socket = socket
        self._request: Request | None = request
        self._sockets: Final = sockets
        self._groups: Final = groups
        self._visitor: Final = visitor
        self._otherwise: Callable[[], None] | None = otherwise
        self._timeout: IDelayedCall | None = None
        self._members: dict[str, GroupMember] = {}
        self._joining: dict[str, Position] = {}
        self._catching: set[str] = set()
        self._said: list[tuple[int, Mapping[str, Any]]] = []
        self._said_bytes = 0
        self._open = False
        self._paused = False
        self._gone = False

    # The handshake

    def begin(self, handshake: Mapping[str, Any]) -> None:
        """Ask the consumers. Raises `ChatError` when the server has connections enough, or they have enough to do."""
        assert self._request is not None
        self._sockets.check_room()
        self._all.add(self)
        self.began = self._reactor.seconds()
        self._all.metrics.connected(self.edge.transport_name)
        self._request.notifyFinish().addErrback(self._left)
        self._timeout = self._reactor.callLater(self._all.limits.handshake_timeout, self._unanswered)
        self._sockets.connect(self, handshake)

    def _left(self, _: object) -> None:
        """The client did not wait for the answer."""
        if self._request is not None:
            self._request = None
            self._over(ABNORMAL, "client_left")

    def _unanswered(self) -> None:
        self._refuse(ChatError(Reason.TRY_AGAIN, "no consumer has answered in time; try again"))

    def _refuse(self, error: ChatError) -> None:
        request, self._request = self._request, None
        if request is None:
            return
        self._all.metrics.refused(error.reason.code)
        request.write(refuse(request, error))
        request.finish()
        self._over(ABNORMAL, error.reason.code)

    def _accept(self, subprotocol: object) -> None:
        request, self._request = self._request, None
        if request is None:
            return
        self._stop_waiting()
        self._otherwise = None
        self._socket.subprotocol = subprotocol if isinstance(subprotocol, str) else None
        try:
            upgrade(request, self._socket)
        except OSError:  # it left in this very moment
            self._over(ABNORMAL, "client_left")

    def unrouted(self) -> None:
        if self._request is None:
            return
        self._request, otherwise = None, self._otherwise
        assert otherwise is not None
        self._sockets.forget(self)
        self._end("unrouted")
        otherwise()

    def consumer_failed(self) -> None:
        self._refuse(ChatError(Reason.INTERNAL, "the consumer of this failed; the server's log says why"))

    # The socket

    def opened(self) -> None:
        self._open = True
        if self._paused:
            self._socket.pause()
        joining, self._joining = self._joining, {}
        for group, since in joining.items():
            self.join(group, since)

    def frame(self, payload: bytes, *, binary: bool) -> None:
        """The client sent one."""
        if self._reason is None:
            self._sockets.receive(self, {"bytes": payload} if binary else {"text": payload.decode("utf-8")})

    def closed(self, code: int) -> None:
        """The client is gone, with this close code."""
        self._over(code, self._reason or "client_left")

    # What consumers want

    def say(self, content: Mapping[str, Any], at: int = 0) -> None:
        if self._catching and len(self._said) < HELD and self._said_bytes < self._all.limits.outbox_bytes:
            self._said.append((at, content))
            self._said_bytes += kept_bytes(content)
        else:
            self._say(content)

    def _say(self, content: Mapping[str, Any]) -> None:
        close = close_of(content)
        if not self._open:
            accepts = has_frame(content) or content.get("accept")
            if close is not None and not accepts:
                self._refuse(ChatError(Reason.NOT_ALLOWED, "the consumer of this does not accept you"))
                return
            if accepts:
                self._accept(content.get("subprotocol"))
        if self._open and self._reason is None:
            for member in self._members.values():
                self._groups.flush(member.session.room)  # what came before may not be overtaken
            if has_frame(content):
                self.outbox.write(self._socket.frames.message(content))
            if close is not None:
                self._hang_up(close)

    def join(self, group: str, since: Position) -> None:
        if not self._open:
            self._joining.setdefault(group, since)
        elif group not in self._members and self._reason is None:
            self._catching.add(group)
            member = self._members[group] = GroupMember(
                self.name,
                self._visitor(group_room(group)),
                self.outbox,
                self._socket.frames,
                say=self.say,
                hang_up=self._hang_up_later,
                live=lambda: self._is_in(group),
            )
            self._groups.join(member, since)

    def leave(self, group: str) -> None:
        self._joining.pop(group, None)
        member = self._members.pop(group, None)
        if member is not None:
            self._groups.leave(member)
            self._caught_up(group)

    def _is_in(self, group: str) -> None:
        self._catching.add(group)
        self._sockets.settle(self, group)

    def settled(self, group: str) -> None:
        self._caught_up(group)
        member = self._members.get(group)
        if member is not None:
            member.settled()

    def _caught_up(self, group: str) -> None:
        """Nothing of before comes any more: what was said meanwhile is told in the order in which it was said."""
        if group in self._catching:
            self._catching.discard(group)
            if not self._catching:
                said, self._said, self._said_bytes = self._said, [], 0
                for _, content in sorted(said, key=itemgetter(0)):
                    self._say(content)

    def pause(self) -> None:
        if self._reason is None:
            self._paused = True
            if self._open:
                self._socket.pause()

    def resume(self) -> None:
        if self._paused and not self._gone:
            self._paused = False
            if self._open:
                self._socket.resume()

    def lost(self) -> None:
        self.close(ChatError(Reason.GOING_AWAY, "this connection was given up; come back"))

    def _hang_up(self, code: int) -> None:
        if self._reason is None:
            self._reason = LEFT
            self._leave()
            self.outbox.flush()
            self.outbox.close()
            self._socket.hang_up(code)
            self.resume()  # what follows is its answer to our close; what else it sends is not taken any more

    def _hang_up_later(self, code: int) -> None:
        # A room may not be left while it delivers.
        self._reactor.callLater(0, self._hang_up, code)

    # The end

    def close(self, error: ChatError) -> None:
        if self._request is not None:
            self._refuse(error)
        elif self._open:
            super().close(error)
            self.resume()  # as in `_hang_up`

    def ended(self, reason: str) -> None:
        """`closed` is told too, and with which code."""
        self._reason = self._reason or reason

    def drained(self) -> None:
        for member in list(self._members.values()):
            self._groups.resume(member)

    def _leave(self) -> None:
        for group in list(self._members):
            self.leave(group)
        self._joining.clear()

    def beat(self) -> None:
        if self._open and self._reason is None:
            self.edge.beat(lambda: False)

    def judge(self, beats: int) -> None:
        if self._open:
            super().judge(beats)

    def _stop_waiting(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None and timeout.active():
            timeout.cancel()

    def _over(self, code: int, reason: str) -> None:
        if not self._gone:
            self._end(reason)
            self._sockets.disconnect(self, code)

    def _end(self, reason: str) -> None:
        self._gone = True
        self._reason = self._reason or reason
        self._stop_waiting()
        self._leave()
        self.outbox.close()
        self._all.metrics.disconnected(self.edge.transport_name, self._reason)
        self._log.info(
            "{transport} of consumers at {path!r} from {address} ended after {seconds:.1f} s: {reason}",
            transport=self.edge.transport_name,
            path=self.path,
            address=self.address or "a local socket",
            seconds=self._reactor.seconds() - self.began,
            reason=self._reason,
        )
        self._all.remove(self)
        self._said.clear()
        # They refer to it, and it to them: without that, all of it is freed now.
        self._otherwise = None
        del self.edge, self._socket
