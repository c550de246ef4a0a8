"""Which WebSockets are the consumers', and how they come to them: before anything else on the site looks at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET, Request

from twisted_chat.consumers.group_member import CompressedConsumerFrames
from twisted_chat.consumers.sockets import Sockets
from twisted_chat.core.errors import ChatError
from twisted_chat.core.paths import is_canonical
from twisted_chat.hub import Hub
from twisted_chat.server.admission import Admission
from twisted_chat.server.connection import Connections
from twisted_chat.server.consumer_client import ConsumerClient
from twisted_chat.server.consumer_socket import ConsumerSocket
from twisted_chat.server.http.limits import Refusal
from twisted_chat.server.http.request import answer, prepare
from twisted_chat.server.http.upgrade import handshake_refusal, is_websocket_request, lost_upgrade
from twisted_chat.server.json_response import refuse
from twisted_chat.server.websocket import RoomSocketFactory
from twisted_chat.server.websocket_protocol import with_options

Takes = Callable[[dict[str, Any]], bool]


class ConsumerSite(Resource):
    """The whole site, with the consumers before it.

    takes
        whether the consumers are for a WebSocket with this handshake; where only workers know, it says yes, and they
        may still leave it to the rest of the site
    """

    def __init__(
        self,
        site: Resource,
        takes: Takes,
        *,
        admission: Admission,
        connections: Connections,
        factory: RoomSocketFactory,
        sockets: Sockets,
        groups: Hub,
    ) -> None:
        super().__init__()
        self._site: Final = site
        self._takes: Final = takes
        self._admission: Final = admission
        self._connections: Final = connections
        self._socket: Final = with_options(ConsumerSocket, factory, connections.limits.fragments)
        self._socket.compressed = CompressedConsumerFrames(connections.metrics.compressed)
        self._sockets: Final = sockets
        self._groups: Final = groups

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        refusal = lost_upgrade(request)
        # In other spellings a path would come to a consumer past the rule that a proxy has for it.
        if (refusal is not None or is_websocket_request(request)) and is_canonical(request.path):
            handshake = handshake_of(request, self._admission)
            if self._takes(handshake):
                if refusal is not None:
                    self._connections.metrics.refused(refusal.code)
                    return _LostUpgrade(refusal)
                # As it was before anything of the path was taken off, for whoever else it may be for.
                assert request.prepath is not None
                assert request.postpath is not None
                request.prepath.pop()
                request.postpath.insert(0, path)
                return _Handshake(self, handshake)
        child: IResource = self._site.getChildWithDefault(path, request)
        return child

    def open(self, request: Request, handshake: dict[str, Any]) -> int | bytes:
        """Let the consumers answer a request."""
        refusal = handshake_refusal(request)
        if refusal is not None:
            self._connections.metrics.refused(refusal.code)
            answer(request, refusal)
            return NOT_DONE_YET
        try:
            self._admission.check_origin(request)
            self._client(request, handshake).begin(handshake)
        except ChatError as error:
            self._connections.metrics.refused(error.reason.code)
            return refuse(request, error)
        return NOT_DONE_YET

    def _client(self, request: Request, handshake: dict[str, Any]) -> ConsumerClient:
        address = self._admission.address(request)
        return ConsumerClient(
            self._connections,
            self._socket(),
            self._admission.visitor(handshake["path"], address),
            address,
            request=request,
            sockets=self._sockets,
            groups=self._groups,
            visitor=lambda room: self._admission.visitor(room, address),
            otherwise=lambda: request.render(getChildForRequest(self._site, request)),
        )


class _LostUpgrade(Resource):
    """The answer to one handshake without an upgrade."""

    isLeaf = True

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal: Final = refusal

    def render(self, request: Request) -> bytes:
        return prepare(request, self._refusal)


class _Handshake(Resource):
    """One request of the consumers'."""

    isLeaf = True

    def __init__(self, site: ConsumerSite, handshake: dict[str, Any]) -> None:
        super().__init__()
        self._consumers: Final = site
        self._content: Final = handshake

    def render(self, request: Request) -> int | bytes:
        return self._consumers.open(request, self._content)


def handshake_of(request: Request, admission: Admission) -> dict[str, Any]:
    """What consumers of ``websocket.connect`` are told: the keys of the ASGI draft that Channels 1 has."""
    path, _, query = request.uri.partition(b"?")
    return {
        "path": unquote(path.decode("ascii", "replace")),
        "query_string": query,
        "root_path": "",
        "scheme": "wss" if request.isSecure() else "ws",
        "headers": [
            [name.lower(), value] for name, values in request.requestHeaders.getAllRawHeaders() for value in values
        ],
        "client": _client(request, admission),
        "server": _address(request.getHost()),
    }


def _client(request: Request, admission: Admission) -> list[Any] | None:
    peer, host = _address(request.getClientAddress()), admission.host(request)
    if peer is None or host != peer[0]:
        return None if host is None else [host, 0]  # a proxy says it, which knows no port
    return peer


def _address(address: object) -> list[Any] | None:
    return [address.host, address.port] if isinstance(address, IPv4Address | IPv6Address) else None
