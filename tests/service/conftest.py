"""The server over a reactor in memory, which writes down what happens, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from tests import memory_reactor
from twisted_chat import service as service_module
from twisted_chat.config import Config
from twisted_chat.processes.process import Process
from twisted_chat.relay.interface import HistoryLimits, RelayEvents
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.service import ChatService

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("memory:",), drain=4.0)


@implementer(IListeningPort, IPushProducer)
class Port:
    """A port that writes down what happens to it."""

    def __init__(self, reactor: Reactor, number: int) -> None:
        self._reactor = reactor
        self.number = number
        self.accepting = True

    def getHost(self) -> IPv4Address | IPv6Address:
        address = IPv6Address if ":" in self._reactor.bound else IPv4Address
        return address("TCP", self._reactor.bound, self.number)

    def startListening(self) -> None:
        """It listens already."""

    def stopListening(self) -> Deferred[None]:
        self._reactor.events.append(f"close {self.number}")
        return succeed(None)

    def pauseProducing(self) -> None:
        self.accepting = False

    def resumeProducing(self) -> None:
        self.accepting = True

    def stopProducing(self) -> None:
        """Nobody calls it."""


class Reactor(memory_reactor.Reactor):
    """A reactor in memory that writes down what happens, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[int, Port] = {}
        self.taken: set[int] = set()
        self.bound = "127.0.0.1"
        """The address of its ports."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.ports[port] = Port(self, port)
        return self.ports[port]


class Relay(MemoryRelay):
    """A relay that starts when it is told to."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, HistoryLimits())
        self._happened = reactor.events
        self.starting: Deferred[None] | None = None

    def start(self, events: RelayEvents) -> Deferred[None]:
        super().start(events)
        self.starting = Deferred()
        return self.starting

    def begin(self) -> None:
        assert self.starting is not None
        self.starting.callback(None)

    def fail(self, error: Exception) -> None:
        assert self.starting is not None
        self.starting.errback(error)

    def stop(self) -> Deferred[None]:
        self._happened.append("relay")
        return super().stop()


class Built:
    """A service in memory."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] | None = None,
        reload: Callable[[], Config] | None = None,
        twistd: Mapping[str, Any] | None = None,
        process: Process | None = None,
    ) -> None:
        self.reactor = Reactor()
        self.relay = Relay(self.reactor)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service_module, "open_relays", lambda *_, **__: self.relay)
            self.service = ChatService(
                config, self.reactor, dict(environ or {}), reload=reload, twistd=twistd, process=process
            )

    def bind(self) -> None:
        self.service.privilegedStartService()

    def start(self) -> None:
        self.bind()
        self.service.startService()
        self.relay.begin()

    def stop(self) -> list[None]:
        """The result is not empty when it has stopped."""
        stopped: list[None] = []
        self.service.stopService().addCallback(stopped.append)
        return stopped

    def get(self, path: str, *, admin: bool = False, headers: str = "") -> bytes:
        """The answer to a request."""
        client = self.connect(admin=admin)
        client.protocol.dataReceived(f"GET {path} HTTP/1.0\r\n{headers}\r\n".encode())
        self.reactor.advance(0)
        answer: bytes = client.value()
        client.lose()
        return answer

    def connect(self, *, admin: bool = False) -> Transport:
        site = self.service._admin_site if admin else self.service.site
        return Transport(self.reactor, site.buildProtocol(IPv4Address("TCP", "192.0.2.7", 54321)))


class Transport(StringTransport):
    """A client's connection. It ends in the turn of the reactor after the server said so."""

    def __init__(self, reactor: Reactor, protocol: Any) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 54321))
        self._reactor = reactor
        self.protocol = protocol
        self.lost = False
        protocol.makeConnection(self)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As it likes."""

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()

    def loseConnection(self) -> None:
        self._reactor.callLater(0, self.lose)

    def abortConnection(self) -> None:
        self.lose()

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def reactor() -> Reactor:
    """One that listens on nothing yet."""
    return Reactor()


@pytest.fixture
def build() -> Iterator[Callable[..., Built]]:
    """Builds services, and stops those that a test did not."""
    built: list[Built] = []

    def build(config: Config = CONFIG, **options: Any) -> Built:
        built.append(Built(config, **options))
        return built[-1]

    yield build
    for each in built:
        if each.service.running:
            each.stop()
            each.reactor.advance(60)
        assert not each.reactor.getDelayedCalls()


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


@pytest.fixture
def said(log: Sequence[LogEvent]) -> Callable[[], list[str]]:
    """What the log says until now."""
    return lambda: [formatEvent(event) for event in log]
