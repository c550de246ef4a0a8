"""A server in memory whose consumers the test is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from twisted_chat.consumers.delivery import GROUP_HISTORY, tell_here
from twisted_chat.consumers.events import Event, Instruction, Say
from twisted_chat.consumers.group_member import GroupAudience
from twisted_chat.consumers.names import group_room
from twisted_chat.consumers.queue import Taken
from twisted_chat.consumers.sockets import Sockets
from twisted_chat.core.publication import Newest, Position
from twisted_chat.hub import Hub
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.server.consumer_resource import ConsumerSite

if TYPE_CHECKING:
    from tests.server.conftest import InMemoryServer, Peer

HANDSHAKE = (
    "Host: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Asked:
    """A queue that keeps what comes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.full = False
        self.waiting: list[Deferred[None]] = []

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        self.events += events
        return succeed(Taken(len(events), room=not self.full))

    def room(self, connection: str) -> Deferred[None]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def channels(self) -> list[str]:
        return [event.channel.removeprefix("websocket.") for event in self.events]


class Consumers:
    """The server with its consumers; what they would say, the test says."""

    def __init__(self, server: InMemoryServer) -> None:
        self.server = server
        self.queue = Asked()
        self.relay = MemoryRelay(server.clock, GROUP_HISTORY, wall_clock=server.clock.seconds)
        self.groups = Hub(self.relay, server.clock, server.connections.metrics, GroupAudience)
        self.relay.start(self.groups)
        self.sockets = Sockets(server.clock, self.queue, tell_here(self._tell))
        self.paths: tuple[str, ...] = ("/",)
        site: Any = server.site
        site.resource = ConsumerSite(
            site.resource,
            self._takes,
            admission=server.admission,
            connections=server.connections,
            factory=server.sockets,
            sockets=self.sockets,
            groups=self.groups,
        )

    def _takes(self, handshake: Mapping[str, Any]) -> bool:
        return str(handshake["path"]).startswith(self.paths)

    def _tell(self, connection: str, instruction: Instruction) -> None:
        self.sockets.instruct(connection, instruction)

    def tell(self, instruction: Instruction, event: Event | None = None) -> None:
        """The client of an event, or of the last one."""
        reply = (event or self.queue.events[-1]).content["reply_channel"]
        self._tell(reply.removeprefix("websocket.send!"), instruction)

    def publish(self, group: str, data: bytes) -> None:
        self.relay.publish(group_room(group), data)

    def top(self, group: str) -> Position:
        found: list[Any] = []
        self.relay.history(group_room(group), Newest(0)).addCallback(found.append)
        top: Position = found[0].top
        return top

    def ask(self, path: str = "/x", headers: str = "") -> Peer:
        """A client that asks for a WebSocket."""
        peer: Peer = self.server.peer()
        peer.send(f"GET {path} HTTP/1.1\r\n{HANDSHAKE}{headers}\r\n".encode())
        return peer

    def client(self, path: str = "/x") -> Peer:
        """One that was accepted."""
        peer = self.ask(path)
        self.tell(Say({"accept": True}))
        assert peer.received().startswith(b"HTTP/1.1 101 ")
        return peer


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """As a client sends it, with a mask of zeros."""
    return bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload
