"""Where everything meets: builds the server from its configuration, starts it and stops it in order."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from twisted_chat import __version__, open_files
from twisted_chat.auth import ApiKeys, HostError, Hosts, KeyFileError, OriginError, Origins, TokenKeys
from twisted_chat.config import Config, ConfigError
from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.node import ConsumerNode
from twisted_chat.consumers.queue import queue_limits
from twisted_chat.control import Control
from twisted_chat.core.limits import Limits
from twisted_chat.hub import Hub
from twisted_chat.listening import Listening
from twisted_chat.logs import ServiceLog
from twisted_chat.metrics import Metrics, ReactorTick
from twisted_chat.nodes import Nodes
from twisted_chat.processes.process import Link, Process, life_signs
from twisted_chat.relay.interface import Relay, RelayError, Troubles, WhenFull
from twisted_chat.relay.url import are_shared, open_relays
from twisted_chat.server import static_files
from twisted_chat.server.admin import Obstacle, Readiness, admin_resource
from twisted_chat.server.admission import Admission
from twisted_chat.server.api import Api
from twisted_chat.server.connection import NODE, Connections
from twisted_chat.server.consumer_resource import ConsumerSite
from twisted_chat.server.cross_origin import CrossOrigin
from twisted_chat.server.draining import GRACE, drain
from twisted_chat.server.endpoints import EndpointError
from twisted_chat.server.host_resource import HostSite
from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.http.waiting import WaitingBytes
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.site import site_resource
from twisted_chat.server.tls.certificates import CertificateError
from twisted_chat.server.websocket import RoomSocketFactory
from twisted_chat.signals import end_failed, on_hangup, second_signal
from twisted_chat.systemd import Notifier, Watchdog

MISTAKES: Final = (
    ConfigError,
    EndpointError,
    CertificateError,
    KeyFileError,
    OriginError,
    HostError,
    RelayError,
    RoutingError,
)
"""What a wrong configuration raises, each with one readable line."""


PATIENCE: Final = 15.0
"""Seconds that who connects is kept waiting for a relay that is starting; from then on it is told to try again."""


MEASURE_SECONDS: Final = 5.0
"""Seconds between two looks at what waits for clients: a little on very many connections is not noticed otherwise."""

SHORT: Final = 10_000
"""Connections to the ports besides WebSockets and event streams: those on which something is asked, or nothing."""

SHORT_PER_ADDRESS: Final = 600
"""The same from one address. A browser that loads a page makes some at once, and keeps them for a while."""


_STORAGE: Final = (
    ("twisted_chat_stored_bytes", "bytes", "Bytes that the relay holds."),
    ("twisted_chat_stored_bytes_limit", "bound", "Bytes that the relay may hold."),
    ("twisted_chat_evicted_rooms", "evicted", "Rooms forgotten since the start for want of space."),
)
"""Name, part of `Usage`, and documentation of metrics."""


class ChatService(Service):
    """The server. Building it checks everything that can be checked before a port is bound.

    reload
        gives the configuration as it is now, for SIGHUP
    twistd
        the options of `twistd` itself: where its log goes
    process
        which one of several it is in; what is for the whole server is then left to the supervisor
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        environ: MutableMapping[str, str],
        *,
        reload: Callable[[], Config] | None = None,
        twistd: Mapping[str, Any] | None = None,
        process: Process | None = None,
    ) -> None:
        self.config: Final = config
        self._reactor: Final = reactor
        self._environ: Final = environ
        self._reload_config: Final = reload or (lambda: config)
        self._process: Final = process
        number = process.number if process is not None else None
        self._service_log: Final = ServiceLog(config.log_format, config.log_level, twistd, environ, number)
        self._waiting: IDelayedCall | None = None
        self._started_at = 0.0

        limits = config.limits
        self.metrics: Final = Metrics()
        self.relay: Final[Relay] = open_relays(
            config.relay,
            reactor=reactor,
            history=config.history,
            max_bytes=config.database_bytes,
            when_full=WhenFull(config.when_full),
            environ=environ,
        )
        self.hub: Final = Hub(self.relay, reactor, self.metrics)
        self._waiting_bytes: Final = WaitingBytes(reactor, limits.waiting_bytes)
        self.connections: Final = Connections(self.hub, limits, self.metrics, reactor, time.time, self._waiting_bytes)
        self.control: Final = Control(self.hub, self.relay, self.connections, reactor, time.time, config.history)
        self.nodes: Final = Nodes(self.relay, reactor, _node_name(process), self._about)
        self.sockets: Final = RoomSocketFactory(self.connections, compression=config.compression)
        self.admission: Final = Admission(
            **_identity(config),
            limits=limits,
            trusted_proxies=config.trusted_proxies,
            clock=reactor.seconds,
            wall_clock=time.time,
            check_room=self.control.check,
        )
        self.consumers: Final = self._consumers()
        # Which hosts there are by default is only known when the ports are bound.
        self._hosts: Final = HostSite(self._resources(), Hosts(config.allow_host), self.metrics.refused)
        self.site: Final = ChatSite(
            self._hosts,
            reactor=reactor,
            limits=_http_limits(limits, proxies=config.trusted_proxies > 0),
            clients=self.admission,
            requests=limits.requests_per_address,
            waiting_bytes=self._waiting_bytes,
            cross_origin=CrossOrigin(self.admission),
            on_refused=self.metrics.refused,
            on_tls_failed=self.metrics.tls_failed,
        )
        descriptors = process.descriptors if process is not None else None
        self._listening: Final = Listening(config, reactor, environ, inherited=descriptors)
        self._readiness: Final = Readiness(reactor, self._probe, self.metrics.ready)
        self._admin: Final = None if process is not None else self._listening.admin()
        admin = admin_resource(self.metrics, self._readiness, lambda: self.nodes.seen)
        self._admin_site: Final = ChatSite(admin, reactor=reactor)
        self._beat: Final = LoopingCall(self.connections.heartbeat.tick)
        self._beat.clock = reactor
        self._measuring: Final = LoopingCall(self._waiting_bytes.check)
        self._measuring.clock = reactor
        # Whoever speaks to systemd takes its variables away, so that no child does.
        notifier = Notifier(environ)
        self._link: Final = Link(reactor) if process is not None else None
        self._notifier: Final = self._link or notifier
        self.services: Final = [
            *self._listening.certificates,
            ReactorTick(reactor, self.metrics.ticked),
            Watchdog(reactor, notifier, environ),
            *([life_signs(reactor)] if process is not None else []),
        ]
        for name, what, documentation in _STORAGE:
            self.metrics.measure(name, documentation, partial(self._usage, what))
        self.metrics.watch(
            rooms=lambda: len(self.hub.rooms),
            members=self.hub.member_count,
            outbox=self._waiting_bytes.measure,
            outbox_limit=lambda: self._waiting_bytes.limit,
            requests=self.site.waiting,
            throttled=self.connections.throttled,
            certificates=self._listening.expiries,
        )
        self.metrics.measure(
            "twisted_chat_unfinished_bytes",
            "Bytes held by requests whose bodies have not come whole, or that wait for their turn.",
            lambda: self.site.unfinished.size,
        )

    def _usage(self, what: str) -> int | None:
        """Return a part of what the relay holds; None where it does not know."""
        return getattr(self.relay.usage(), what, None)

    def _consumers(self) -> ConsumerNode | None:
        config = self.config
        remote = config.consumers == "remote"
        if not remote and config.routing is None:
            return None
        if remote and not are_shared(config.relay):
            raise ConfigError("--consumers remote: workers take their work from Redis; give --relay redis://HOST too")
        try:
            return ConsumerNode(
                self._reactor,
                node=NODE,
                routing=None if remote else config.routing,
                threads=config.threads,
                relay=config.relay,
                environ=self._environ,
                metrics=self.metrics,
                directory=Path.cwd(),
                limits=queue_limits(config.limits),
            )
        except RoutingError as error:
            raise RoutingError(f"--routing: {error}") from error

    async def _probe(self) -> Troubles:
        consumers = await self.consumers.look() if self.consumers is not None else ()
        return (*await self.relay.ready(), *consumers)

    def _resources(self) -> Resource:
        """All that the public ports serve."""
        static = static_files.load()
        rooms = RoomResource(self.admission, self.connections, self.sockets, static["chat.html"])
        api = Api(self.admission, self.control, self.nodes, self.metrics, self.consumers)
        site = site_resource(rooms, static, api)
        if self.consumers is None:
            return site
        return ConsumerSite(
            site,
            self.consumers.takes,
            admission=self.admission,
            connections=self.connections,
            factory=self.sockets,
            sockets=self.consumers.sockets,
            groups=self.consumers.groups,
        )

    def warnings(self) -> list[str]:
        """Return what is doubtful about the configuration, although it can be used; a line each."""
        return self._listening.warnings()

    def _about(self) -> dict[str, Any]:
        """What other nodes are told of this one."""
        return {
            "version": __version__,
            "started": round(self._started_at, 3),
            "rooms": len(self.hub.rooms),
            "members": self.hub.member_count(),
        }

    def setServiceParent(self, parent: Any) -> None:
        """Also chooses how the log is written, unless `twistd --logger` or `--syslog` did."""
        self._service_log.attach(parent)
        super().setServiceParent(parent)

    # Starting

    def privilegedStartService(self) -> None:
        """Bind, while that is still allowed. Raises `StartError`."""
        self._listening.bind(self.site)
        self._hosts.hosts = self._listening.hosts(self.config.allow_host)
        # A restart behind a socket of systemd's refuses nobody: who connects waits until the relay can answer.
        self._listening.pause()
        if self._admin is not None:
            self._admin.bind(self._admin_site)

    def startService(self) -> None:
        super().startService()
        for service in self.services:
            service.startService()
        self._beat.start(self.connections.heartbeat.seconds, now=False)
        self._measuring.start(MEASURE_SECONDS, now=False)
        self._waiting = self._reactor.callLater(PATIENCE, self._accept)
        self.relay.start(self.hub).addCallbacks(self._follow, self._failed)
        if self._link is not None:
            self._link.serve(self)
        # Several processes share a terminal: what its end means, the supervisor says.
        on_hangup(self._reactor, self.reload, at_end_of_terminal=self._process is None)

    def _accept(self) -> None:
        """Take the connections that wait."""
        self._stop_waiting()
        self._listening.resume()

    def _stop_waiting(self) -> None:
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()

    def _follow(self, _: None) -> None:
        """Know which rooms are refused before anybody comes."""
        if not self.running:
            return  # it was told to stop before it had started
        self._started_at = time.time()
        started = self.control.start()
        if self.consumers is not None:
            consumers = self.consumers
            started.addCallback(lambda _: consumers.start())
        started.addCallback(self._started)

    def _started(self, _: None) -> None:
        self.nodes.start()
        self._accept()
        if self._process is None:
            self._say_where()
        self._readiness.started()
        self._readiness.check()
        self._notifier.ready("serving " + ", ".join(self.config.port))

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return  # it was told to stop before it had started
        why = f"the relay cannot start: {failure.getErrorMessage()}"
        if self._process is None:
            self._log.critical("{why}", why=why)
        self._notifier.failed(why)
        end_failed(self._reactor)

    def _say_where(self) -> None:
        self._listening.say_where()
        if self._admin is not None:
            self._admin.say_where()
        if not self.relay.durable:
            self._log.warn("history is kept in memory only and ends with this process; --relay sqlite: keeps it")

    # Reloading

    def reload(self) -> None:
        """Read certificates, key files, origins, hosts and the log level again; what is wrong changes nothing."""
        self._notifier.reloading()
        self._listening.reload()
        try:
            config = self._reload_config()
            hosts = self._listening.hosts(config.allow_host)
            self.admission.replace(**_identity(config))
            self._hosts.hosts = hosts
            self._service_log.set_level(config.log_level)
        except MISTAKES as error:
            self._log.error("not reloaded, what was in use stays: {error}", error=str(error))
        else:
            self._log.info(
                "certificates, keys, origins, hosts and log level reloaded; other settings change with a restart"
            )
        self._notifier.ready("serving " + ", ".join(self.config.port))

    # Reporting

    def report(self) -> Deferred[dict[str, Any]]:
        """How this process is, for the supervisor."""
        return self._readiness.check().addCallback(self._reported)

    def _reported(self, obstacles: tuple[Obstacle, ...]) -> dict[str, Any]:
        return {
            "obstacles": [(each.code, each.message, each.partial) for each in obstacles],
            "nodes": self.nodes.seen,
            "metrics": self.metrics.families(),
        }

    # Stopping

    def stopService(self) -> Deferred[None]:
        """Not ready, no new clients, the old ones sent away, and the relay last."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with second_signal(lambda: self._reactor.callFromThread(self.hurry)):
            await self._stop_in_order()

    def hurry(self) -> None:
        """Told to stop once more: whoever did that does not want to wait for clients."""
        self._log.warn(
            "told to stop again: the {count} clients that are left are cut off", count=len(self.site.connections)
        )
        self.site.abort()
        with suppress(ReactorNotRunning):
            self._reactor.stop()  # where it was not the first signal that stops us

    async def _stop_in_order(self) -> None:
        consumers = 0.0 if self.consumers is None else 2 * (self.config.drain + GRACE)
        self._notifier.stopping(self.config.drain + 2 * GRACE + consumers)
        self._readiness.draining()
        self._stop_waiting()
        await self._listening.stop()
        finished = self.site.shutdown()
        await drain(self.connections, self._reactor, self.config.drain)
        cut = self._reactor.callLater(GRACE, self.site.abort)
        await finished
        if cut.active():
            cut.cancel()
        if self.consumers is not None:
            await self.consumers.stop(self.config.drain + GRACE)
        self.nodes.stop()
        self.control.stop()
        await self.relay.stop()
        for call in (self._beat, self._measuring):
            if call.running:
                call.stop()
        self._waiting_bytes.stop()
        if self._admin is not None:
            await self._admin.stop()
        await self._admin_site.shutdown()
        for service in self.services:
            service.stopService()


def _node_name(process: Process | None) -> str:
    """One that says where the node is, and that no other has."""
    number = f"-{process.number}" if process is not None else ""
    return f"{socket.gethostname()}{number}-{NODE[:8]}"


def _identity(config: Config) -> dict[str, Any]:
    """The parts of `Admission` that can be exchanged while the server runs."""
    return {
        "origins": Origins(config.allow_origin),
        "tokens": TokenKeys.from_file(config.token_key_file, config.token_audience) if config.token_key_file else None,
        "api_keys": ApiKeys.from_file(config.api_key_file) if config.api_key_file else None,
    }


def _http_limits(limits: Limits, *, proxies: bool) -> HttpLimits:
    connections = limits.connections + SHORT
    unfinished = max(limits.unfinished_bytes, limits.unfinished_bytes_per_address)
    # Behind a proxy all have its address, below too.
    per_address = connections if proxies else limits.connections_per_address + SHORT_PER_ADDRESS
    # Beyond that, files are kept for all else: a relay that cannot be reached anew takes every client along.
    most = open_files.capacity(open_files.limit())
    if most is not None:
        connections = min(connections, most)
    return HttpLimits(
        handshake_timeout=limits.handshake_timeout,
        idle_timeout=limits.idle_timeout,
        header_bytes=limits.header_bytes,
        body_bytes=limits.body_bytes,
        unfinished_bytes=unfinished,
        unfinished_bytes_per_address=unfinished if proxies else limits.unfinished_bytes_per_address,
        unfinished_bytes_per_connection=limits.unfinished_bytes_per_connection,
        streams=limits.streams_per_connection,
        connections=connections,
        connections_per_address=per_address,
        ping_interval=limits.ping_interval,
    )
