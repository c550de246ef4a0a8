"""An HTTP/2 client in memory: h2's client half, wired to a site by byte strings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.server.http.echo_socket import EchoSocket
from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import ChatSite, Switch
from twisted_chat.server.http.upgrade import is_websocket_request, upgrade


class Transport(StringTransport):
    """A transport that lets go of a producer twice, as real ones do."""

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()


class Client:
    """One connection to a site, and what came back on it."""

    def __init__(self, site: ChatSite, clock: Clock, window: int | None = None) -> None:
        self.clock = clock
        self.reads = window is None
        """Whether its windows are opened again as it reads."""
        self.events: list[Event] = []
        self.transport = Transport()
        self.switch: Switch = site.buildProtocol(None)
        self.switch.makeConnection(self.transport)
        self.h2 = H2Connection(H2Configuration(client_side=True))
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()

    def exchange(self) -> None:
        """Pass bytes both ways until nobody says anything more."""
        while True:
            sent = self.h2.data_to_send()
            if sent and not self.transport.disconnecting:
                self.switch.dataReceived(sent)
            self.clock.advance(0)
            received = self.transport.value()
            self.transport.clear()
            if received:
                self._receive(received)
            if not sent and not received:
                return

    def _receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if self.reads and isinstance(event, events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def request(self, method: str, path: str, *fields: tuple[str, str], body: bytes | None = None) -> int:
        """Send a request and return its stream; without a body END_STREAM is in its head."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "chat.test"), *fields]
        self.h2.send_headers(stream, head, end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        self.exchange()
        return stream

    def connect(self, path: str, *fields: tuple[str, str], protocol: str = "websocket") -> int:
        """Send an extended CONNECT; its stream stays open."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":path", path)]
        self.h2.send_headers(stream, [*head, (":authority", "chat.test"), *fields])
        self.exchange()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=end)
        self.exchange()

    def of(self, kind: type[Any], stream: int | None = None) -> list[Any]:
        """The events of one kind, of one stream if it is named."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if stream is None or event.stream_id == stream]

    def head(self, stream: int) -> dict[bytes, bytes]:
        """The head of the response, ``:status`` in it."""
        (response,) = self.of(events.ResponseReceived, stream)
        return dict(response.headers)

    def body(self, stream: int) -> bytes:
        return b"".join(event.data for event in self.of(events.DataReceived, stream))

    def ended(self, stream: int) -> bool:
        return bool(self.of(events.StreamEnded, stream))

    def reset_code(self, stream: int) -> int | None:
        resets = self.of(events.StreamReset, stream)
        return int(resets[0].error_code) if resets else None

    def goaway_code(self) -> int | None:
        ends = self.of(events.ConnectionTerminated)
        return int(ends[-1].error_code) if ends else None

    def error(self, stream: int) -> str:
        """The code in a refusal, whose form is checked."""
        body, head = self.body(stream), self.head(stream)
        assert body.endswith(b"}\n")
        assert body.count(b"\n") == 1
        assert head[b"content-type"] == b"application/json"
        assert head[b"content-length"] == b"%d" % len(body)
        assert head[b"server"] == b"twisted_chat"
        said = json.loads(body)["error"]
        assert said["message"]
        return str(said["code"])

    def lose(self) -> None:
        """The end of the TCP connection, whoever wanted it."""
        aborted = self.transport.disconnected
        self.switch.connectionLost(Failure(ConnectionAborted() if aborted else ConnectionDone()))


class Echo(Resource):
    """Answers with what it was asked."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        assert request.content is not None
        request.setHeader("content-type", "application/json")
        request.setHeader("connection", "close")
        request.setHeader("X-Mixed-Case", " kept ")
        asked = {
            "method": request.method.decode(),
            "uri": request.uri.decode(),
            "protocol": request.clientproto.decode(),
            "host": request.getHeader("host"),
            "cookie": request.getHeader("cookie"),
            "secure": request.isSecure(),
            "body": request.content.read().decode(),
        }
        return json.dumps(asked).encode()


class Later(Resource):
    """Keeps its requests, for the test to answer."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.ends: list[Any] = []

    def render(self, request: Request) -> int:
        self.requests.append(request)
        finished: Deferred[None] = request.notifyFinish()
        finished.addBoth(self.ends.append)
        return NOT_DONE_YET


class Site:
    """A site with its clock, and the reasons of what it refused."""

    def __init__(self, resource: IResource, limits: HttpLimits) -> None:
        self.clock = Clock()
        self.refused: list[str] = []
        self.site = ChatSite(resource, reactor=self.clock, limits=limits, on_refused=self.refused.append)
        self.clients: list[Client] = []

    def client(self, window: int | None = None) -> Client:
        """A client whose SETTINGS are exchanged; `window` is what it opens for each stream, and no more by itself."""
        client = Client(self.site, self.clock, window)
        self.clients.append(client)
        client.exchange()
        return client


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def serve() -> Any:
    """Serve a resource in memory: ``serve(resource, **limits)`` is a `Site`.

    When the test is over its connections are lost, and whatever call is left then is a leak.
    """
    sites: list[Site] = []

    def serve(resource: IResource, **limits: Any) -> Site:
        sites.append(Site(resource, HttpLimits(**limits)))
        return sites[-1]

    yield serve
    for site in sites:
        for client in site.clients:
            if client.switch in site.site.connections:
                client.lose()
        assert site.clock.getDelayedCalls() == []


class Room(Resource):
    """Upgrades to an echo, at once or when the test says so."""

    isLeaf = True

    def __init__(self, *, at_once: bool = True) -> None:
        super().__init__()
        self.sockets: list[EchoSocket] = []
        self.requests: list[Request] = []
        self.ends: list[Any] = []
        self._at_once = at_once

    def render(self, request: Request) -> bytes | int:
        if not is_websocket_request(request):
            return b"a page"
        self.requests.append(request)
        request.notifyFinish().addBoth(self.ends.append)
        if self._at_once:
            self.upgrade()
        return NOT_DONE_YET

    def upgrade(self, *headers: bytes) -> None:
        socket = cast("EchoSocket", self.factory.buildProtocol(None))
        self.sockets.append(socket)
        upgrade(self.requests[-1], socket, headers)

    def start(self, clock: Clock) -> None:
        # Autobahn's timers are txaio's, whatever reactor the factory has.
        self.factory = WebSocketServerFactory(reactor=clock)
        self.factory.protocol = EchoSocket
        self.factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=5, closeHandshakeTimeout=5)


class Socket:
    """The client's end of a WebSocket on one stream."""

    def __init__(self, client: Client, path: str = "/chat/x", *fields: tuple[str, str]) -> None:
        self.client = client
        self.stream = client.connect(path, ("sec-websocket-version", "13"), *fields)
        self.protocol = ClientProtocol(parse_uri("wss://chat.test/"), state=State.OPEN)
        self._read = 0

    def exchange(self) -> list[Any]:
        """Send what waits; the frames that came."""
        for data in self.protocol.data_to_send():
            self.client.send(self.stream, data, end=not data)
        self.client.exchange()
        body = self.client.body(self.stream)
        self.protocol.receive_data(body[self._read :])
        self._read = len(body)
        return self.protocol.events_received()

    def say(self, text: str) -> list[Any]:
        self.protocol.send_text(text.encode())
        return self.exchange()


@pytest.fixture
def room(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``room(**limits)``: an echo room and the site that serves it."""

    def room(*, at_once: bool = True, **limits: Any) -> tuple[Room, Site]:
        resource = Room(at_once=at_once)
        site = serve(resource, **limits)
        monkeypatch.setattr("txaio.config.loop", site.clock)
        resource.start(site.clock)
        return resource, site

    return room


@pytest.fixture
def open_socket() -> OpenSocket:
    """``open_socket(client, path, *fields)``: the client's end of a WebSocket."""
    return Socket


@pytest.fixture
def make_client() -> Callable[..., Client]:
    """``make_client(site, clock, window)``: a `Client` of any site."""
    return Client


Serve = Callable[..., Site]
OpenSocket = Callable[..., Socket]
