"""What one delivery costs: our fan-out beside `sendMessage` for each member, on real sockets of one process.

    python benchmarks/delivery.py [--members 200] [--messages 2000] [--burst 16]

Both servers are this process; the members are sockets that a thread reads and throws away. Printed is processor time
of the reactor's thread, for each delivery, and the ratio of the two.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import threading
import time
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from twisted_chat.auth import Origins
from twisted_chat.core.limits import Limits
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.server import static_files
from twisted_chat.server.admission import Admission
from twisted_chat.server.connection import Connections
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.site import site_resource
from twisted_chat.server.websocket import RoomSocketFactory
from twisted_chat.wire import room

HANDSHAKE = (
    b"GET /chat/bench HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT = "x" * 80


class Readers(threading.Thread):
    """Members that read everything."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        for _ in range(count):
            member = socket.create_connection(("127.0.0.1", port))
            member.sendall(HANDSHAKE)
            member.setblocking(False)
            self.selector.register(member, selectors.EVENT_READ)

    def run(self) -> None:
        while self.selector.get_map():
            for key, _ in self.selector.select():
                member: Any = key.fileobj
                if not member.recv(1 << 16):
                    self.selector.unregister(member)


class Stock(WebSocketServerProtocol):
    """A member as the guides write it."""

    def onOpen(self) -> None:
        self.factory.members.append(self)


def stock(reactor: Any) -> tuple[Any, Any]:
    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Stock
    factory.members = []

    def say(data: bytes) -> None:
        for member in factory.members:
            member.sendMessage(data)

    return factory, say


def ours(reactor: Any) -> tuple[Any, Any]:
    metrics, limits = Metrics(), Limits(connections_per_address=100_000)
    relay = MemoryRelay(reactor, HistoryLimits(count=100))
    hub = Hub(relay, reactor, metrics)
    relay.start(hub)
    connections = Connections(hub, limits, metrics, reactor, time.time)
    admission = Admission(
        origins=Origins(),
        tokens=None,
        api_keys=None,
        limits=limits,
        trusted_proxies=0,
        clock=reactor.seconds,
        wall_clock=time.time,
    )
    static = static_files.load()
    resource = RoomResource(admission, connections, RoomSocketFactory(connections), static["chat.html"])
    site = ChatSite(site_resource(resource, static), reactor=reactor)

    def say(data: bytes) -> None:
        hub.publish("bench", data, None, "websocket")

    return site, say


async def cost(reactor: Any, made: tuple[Any, Any], options: argparse.Namespace) -> float:
    """Seconds of processor time for a million deliveries."""
    factory, say = made
    port = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
    connecting = threading.Thread(target=lambda: readers.append(Readers(port.getHost().port, options.members)))
    readers: list[Readers] = []
    connecting.start()
    while connecting.is_alive():
        await deferLater(reactor, 0.05, lambda: None)
    readers[0].start()
    await deferLater(reactor, 1.0, lambda: None)
    data = room.compose("bench", TEXT, None)
    began = time.thread_time()
    for _ in range(options.messages // options.burst):
        for _ in range(options.burst):
            say(data)
        await deferLater(reactor, 0, lambda: None)
    while reactor.getWriters():
        await deferLater(reactor, 0.01, lambda: None)
    took = time.thread_time() - began
    await port.stopListening()
    return took / (options.messages * options.members) * 1e6


async def compare(reactor: Any, options: argparse.Namespace) -> None:
    first = await cost(reactor, stock(reactor), options)
    second = await cost(reactor, ours(reactor), options)
    print(f"sendMessage for each member  {first:7.2f} µs a delivery   1.0")
    print(f"twisted_chat                 {second:7.2f} µs a delivery {first / second:5.1f} times cheaper")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--burst", type=int, default=16)
    options = parser.parse_args()

    def run(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(compare(reactor, options))

    react(run)


if __name__ == "__main__":
    main()
