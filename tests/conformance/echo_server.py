"""A server that echoes, made of the real one's parts: for test suites that know nothing of rooms.

Requests pass through the site, admission and the upgrade, and the socket is a `RoomSocket` with its factory's options,
in a room as any other. Only what it does with a message differs, and how long one may be.

    python echo_server.py DIRECTORY

listens on three ports of 127.0.0.1 and prints them: one in the clear, one with TLS, by a certificate that it makes in
DIRECTORY, and one with compression. Its log goes to standard error.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort
from twisted.logger import globalLogBeginner, textFileLogObserver

from twisted_chat.auth import Origins
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.server import static_files
from twisted_chat.server.admission import Admission
from twisted_chat.server.connection import Connections
from twisted_chat.server.endpoints import parse_endpoint
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.tls.certificates import CertificateDirectory
from twisted_chat.server.tls.self_signed import make_self_signed
from twisted_chat.server.websocket import RoomSocket, RoomSocketFactory

PLENTY: Final = Rate(1e9, 10**9)

LIMITS: Final = Limits(
    message_characters=2_000_000,
    outbox_bytes=64 << 20,
    frames_per_connection=PLENTY,
    frames_per_address=PLENTY,
    incoming_bytes_per_connection=PLENTY,
    incoming_bytes_per_address=PLENTY,
)
"""The suite's longest messages have 16 MiB, and come in fragments of 64 bytes."""


class EchoSocket(RoomSocket):
    """Gives back what it gets: text in the frames and by the way of a room's messages."""

    def onOpen(self) -> None:
        super().onOpen()
        self._log.info("echo over {transport}", transport=type(self.transport).__name__)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.sendMessage(payload, isBinary=True)
        else:
            self.connection.outbox.write(self.format.event(payload))


class EchoSocketFactory(RoomSocketFactory):
    protocol = EchoSocket


def echo_site(reactor: Any, *, compression: bool = False) -> ChatSite:
    """A site with a room socket that echoes, at ``/``: what is left of it after ``/chat`` is the lobby."""
    metrics = Metrics()
    relay = MemoryRelay(reactor, HistoryLimits())
    hub = Hub(relay, reactor, metrics)
    relay.start(hub)
    connections = Connections(hub, LIMITS, metrics, reactor, time.time)
    admission = Admission(
        origins=Origins(),
        tokens=None,
        api_keys=None,
        limits=LIMITS,
        trusted_proxies=0,
        clock=reactor.seconds,
        wall_clock=time.time,
    )
    page = static_files.load()["chat.html"]
    resource = RoomResource(admission, connections, EchoSocketFactory(connections, compression=compression), page)
    return ChatSite(resource, reactor=reactor, on_refused=metrics.refused)


def listen(reactor: Any, description: str, certificates: Path, site: ChatSite) -> int:
    """The port on which `site` is served."""
    endpoint = parse_endpoint(reactor, description, lambda _: CertificateDirectory(certificates, reactor))
    ports: list[IListeningPort] = []
    endpoint.endpoint.listen(site).addCallback(ports.append)
    return cast("IPv4Address", ports[0].getHost()).port


def main() -> None:
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    certificates = Path(sys.argv[1])
    make_self_signed(certificates, ["127.0.0.1"], datetime.now(UTC))
    site = echo_site(reactor)
    clear = listen(reactor, "tcp:0:interface=127.0.0.1", certificates, site)
    secure = listen(reactor, "tls:0:interface=127.0.0.1", certificates, site)
    compressing = listen(reactor, "tcp:0:interface=127.0.0.1", certificates, echo_site(reactor, compression=True))
    print(clear, secure, compressing, flush=True)  # noqa: T201  # what it was started for
    reactor.run()


if __name__ == "__main__":
    main()
