"""Where everything meets: builds the server from its configuration, starts it and stops it in order."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from twisted_chat import __version__
from twisted_chat.auth import ApiKeys, KeyFileError, OriginError, Origins, TokenKeys
from twisted_chat.config import Config, ConfigError
from twisted_chat.control import Control
from twisted_chat.hub import Hub
from twisted_chat.logs import is_journal, json_observer, text_observer
from twisted_chat.metrics import Metrics, ReactorTick
from twisted_chat.nodes import Nodes
from twisted_chat.options import Options
from twisted_chat.relay.interface import Relay, RelayError
from twisted_chat.relay.url import open_relays
from twisted_chat.server import static_files
from twisted_chat.server.admin import Readiness, admin_resource
from twisted_chat.server.admission import Admission
from twisted_chat.server.api import Api
from twisted_chat.server.connection import NODE, Connections
from twisted_chat.server.draining import GRACE, drain
from twisted_chat.server.endpoints import ChatEndpoint, EndpointError, parse_endpoint
from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.site import site_resource
from twisted_chat.server.tls.certificates import CertificateDirectory, CertificateError, default_directory
from twisted_chat.server.tls.self_signed import development_names, make_self_signed
from twisted_chat.server.websocket import RoomSocketFactory
from twisted_chat.systemd import Notifier, Watchdog

__all__ = ["ChatService", "Options", "StartError", "makeService"]


class StartError(Exception):
    """The server cannot start; one readable line."""


MISTAKES: Final = (ConfigError, EndpointError, CertificateError, KeyFileError, OriginError, RelayError)
"""What a wrong configuration raises, each with one readable line."""


def makeService(options: Options) -> ChatService:
    """What `twistd chat` runs. Exits with one line if something is wrong with the configuration."""
    from twisted.internet import reactor

    # What goes wrong between here and the reactor's first turn (a port that is taken) ends as one line too.
    sys.excepthook = _one_line
    # What is there when clients come stays to the end: the garbage collector need not look at it each time.
    reactor.callWhenRunning(gc.freeze)
    try:
        return ChatService(options.config, reactor, os.environ, reload=options.reload, twistd=options.parent)
    except MISTAKES as error:
        raise SystemExit(f"twistd chat: {error}") from None


def _one_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, StartError):
        sys.stderr.write(f"twistd chat: {error}\n")
    else:
        sys.__excepthook__(kind, error, traceback)


PATIENCE: Final = 15.0
"""Seconds that who connects is kept waiting for a relay that is starting; from then on it is told to try again."""


class ChatService(Service):
    """The server. Building it checks everything that can be checked before a port is bound.

    reload
        gives the configuration as it is now, for SIGHUP
    twistd
        the options of `twistd` itself: where its log goes
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
    ) -> None:
        self.config: Final = config
        self._reactor: Final = reactor
        self._environ: Final = environ
        self._reload_config: Final = reload or (lambda: config)
        self._twistd: Final = twistd or {}
        self._certificates: dict[str | None, CertificateDirectory] = {}
        self._ports: list[IListeningPort] = []
        self._admin_ports: list[IListeningPort] = []
        self._waiting: IDelayedCall | None = None
        self._started_at = 0.0

        limits = config.limits
        self.metrics: Final = Metrics()
        self.relay: Final[Relay] = open_relays(
            config.relay,
            reactor=reactor,
            history=config.history,
            max_bytes=config.database_bytes,
            environ=environ,
        )
        self.hub: Final = Hub(self.relay, reactor, self.metrics)
        self.connections: Final = Connections(self.hub, limits, self.metrics, reactor, time.time)
        self.control: Final = Control(self.hub, self.relay, self.connections, reactor, time.time, config.history)
        self.nodes: Final = Nodes(self.relay, reactor, f"{socket.gethostname()}-{NODE[:8]}", self._about)
        self.sockets: Final = RoomSocketFactory(self.connections)
        self.admission: Final = Admission(
            **_identity(config),
            limits=limits,
            trusted_proxies=config.trusted_proxies,
            clock=reactor.seconds,
            wall_clock=time.time,
            check_room=self.control.check,
        )
        static = static_files.load()
        rooms = RoomResource(self.admission, self.connections, self.sockets, static["chat.html"])
        self.site: Final = ChatSite(
            site_resource(rooms, static, Api(self.admission, self.control, self.nodes, self.metrics)),
            reactor=reactor,
            limits=HttpLimits(
                handshake_timeout=limits.handshake_timeout,
                idle_timeout=limits.idle_timeout,
                header_bytes=limits.header_bytes,
                body_bytes=limits.body_bytes,
                streams=limits.streams_per_connection,
                ping_interval=limits.ping_interval,
            ),
            on_refused=self.metrics.refused,
            on_tls_failed=self.metrics.tls_failed,
        )
        self._endpoints: Final = [self._endpoint("--port", text) for text in config.port]
        self._admin_endpoint: Final = config.admin_port and self._endpoint("--admin-port", config.admin_port)
        # Whoever speaks to systemd takes its variables away, so that no child does.
        self._notifier: Final = Notifier(environ)
        self._readiness: Final = Readiness(reactor, self.relay.ready, self.metrics.ready)
        admin = admin_resource(self.metrics, self._readiness, lambda: self.nodes.seen)
        self._admin_site: Final = ChatSite(admin, reactor=reactor)
        self._beat: Final = LoopingCall(self.connections.heartbeat.tick)
        self._beat.clock = reactor
        self._services: Final = [
            *self._certificates.values(),
            ReactorTick(reactor, self.metrics.ticked),
            Watchdog(reactor, self._notifier, environ),
        ]
        self.metrics.watch(
            rooms=lambda: len(self.hub.rooms),
            members=self.hub.member_count,
            outbox=self.connections.backlog,
            certificates=self._expiries,
        )

    # Building

    def _endpoint(self, option: str, description: str) -> ChatEndpoint:
        try:
            return parse_endpoint(self._reactor, description, self._certificate_directory)
        except EndpointError as error:
            raise EndpointError(f"{option}: {error}") from None

    def _certificate_directory(self, named: str | None) -> CertificateDirectory:
        if named not in self._certificates:
            path = Path(named) if named is not None else self._default_certificates()
            self._certificates[named] = CertificateDirectory(path, self._reactor)
        return self._certificates[named]

    def _default_certificates(self) -> Path:
        config = self.config
        if config.certificates is not None:
            return config.certificates
        if config.self_signed:
            # As the relay does: systemd may name several.
            state = self._environ.get("STATE_DIRECTORY", "").split(os.pathsep)[0]
            directory = Path(state, "self-signed")
            try:
                make_self_signed(directory, development_names(socket.gethostname()), datetime.now(UTC))
            except OSError as error:
                raise CertificateError(f"--self-signed: cannot write to {directory}: {error.strerror}") from None
            return directory
        found = default_directory(self._environ, Path.cwd())
        if found is None:
            raise CertificateError(
                "a tls: endpoint needs certificates, and neither ./certificates nor /etc/letsencrypt/live is there: "
                "name their directory with --certificates, or add --self-signed for development"
            )
        return found

    def _about(self) -> dict[str, Any]:
        """What other nodes are told of this one."""
        return {
            "version": __version__,
            "started": round(self._started_at, 3),
            "rooms": len(self.hub.rooms),
            "members": self.hub.member_count(),
        }

    def _expiries(self) -> dict[str, float]:
        return {name: at for each in self._certificates.values() for name, at in each.expiries().items()}

    def setServiceParent(self, parent: Any) -> None:
        """Also chooses how the log is written, unless `twistd --logger` or `--syslog` did."""
        if not self._twistd.get("logger") and not self._twistd.get("syslog"):
            parent.setComponent(ILogObserver, self._observer())
        super().setServiceParent(parent)

    def _observer(self) -> ILogObserver:
        file = self._twistd.get("logfile")
        stream: Any = sys.stdout
        if file not in (None, "-") or not self._twistd.get("nodaemon", True):
            from twisted.python.logfile import LogFile

            try:
                stream = LogFile.fromFullPath(file or "twistd.log")
            except OSError as error:
                raise SystemExit(f"twistd: --logfile: cannot write to {error.filename}: {error.strerror}") from None
        if self.config.log_format == "json":
            return json_observer(stream)
        return text_observer(stream, journal=stream is sys.stdout and is_journal(stream, self._environ))

    # Starting

    def privilegedStartService(self) -> None:
        """Bind, while that is still allowed. Raises `StartError`."""
        for endpoint in self._endpoints:
            self._listen(endpoint, self.site, self._ports, "--port")
        # A restart behind a socket of systemd's refuses nobody: who connects waits until the relay can answer.
        for port in self._ports:
            _pause(port)
        if self._admin_endpoint:
            self._listen(self._admin_endpoint, self._admin_site, self._admin_ports, "--admin-port")

    def _listen(self, endpoint: ChatEndpoint, site: ChatSite, ports: list[IListeningPort], option: str) -> None:
        failures: list[Failure] = []
        endpoint.endpoint.listen(site).addCallbacks(ports.append, failures.append)
        if failures:
            error = failures[0].value
            cause = error.socketError if isinstance(error, CannotListenError) else error
            why = getattr(cause, "strerror", None) or cause  # the names of files in an OSError are not what was given
            raise StartError(f"{option} {endpoint.description}: cannot listen there: {why}")

    def startService(self) -> None:
        super().startService()
        for service in self._services:
            service.startService()
        self._beat.start(self.connections.heartbeat.seconds, now=False)
        self._waiting = self._reactor.callLater(PATIENCE, self._accept)
        self.relay.start(self.hub).addCallbacks(self._follow, self._failed)
        if hasattr(signal, "SIGHUP"):
            self._reactor.callWhenRunning(
                signal.signal, signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload)
            )

    def _accept(self) -> None:
        """Take the connections that wait."""
        self._stop_waiting()
        for port in self._ports:
            _resume(port)

    def _stop_waiting(self) -> None:
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()

    def _follow(self, _: None) -> None:
        """Know which rooms are refused before anybody comes."""
        if not self.running:
            return  # it was told to stop before it had started
        self._started_at = time.time()
        self.control.start().addCallback(self._started)

    def _started(self, _: None) -> None:
        self.nodes.start()
        self._accept()
        self._say_where()
        self._readiness.started()
        self._readiness.check()
        self._notifier.ready("serving " + ", ".join(self.config.port))

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return  # it was told to stop before it had started
        self._log.critical("the relay cannot start: {error}", error=failure.getErrorMessage())
        # twistd ends with 0 whatever made the reactor stop; this comes after it has tidied up.
        atexit.register(_exit_failed)
        self._reactor.callWhenRunning(self._reactor.stop)

    def _say_where(self) -> None:
        for endpoint, port in zip(self._endpoints, self._ports, strict=True):
            url = endpoint.url(port)
            if url is None:
                self._log.info("listening on {description}", description=endpoint.description)
            else:
                self._log.info("open {url} in a browser; a room is {url}chat/ROOM", url=url)
        if self.config.token_key_file is None:
            self._log.warn(
                "the rooms are open: whoever reaches the port reads and writes all of them, under any name; "
                "--token-key-file closes them"
            )
        if not self.relay.durable:
            self._log.warn("history is kept in memory only and ends with this process; --relay sqlite: keeps it")

    # Reloading

    def reload(self) -> None:
        """Read certificates, key files and origins again; keep those in use when something is wrong with the new."""
        self._notifier.reloading()
        for directory in self._certificates.values():
            directory.reload()
        try:
            self.admission.replace(**_identity(self._reload_config()))
        except MISTAKES as error:
            self._log.error("not reloaded, what was in use stays: {error}", error=str(error))
        else:
            self._log.info("certificates, keys and origins reloaded; other settings change with a restart")
        self._notifier.ready("serving " + ", ".join(self.config.port))

    # Stopping

    def stopService(self) -> Deferred[None]:
        """Not ready, no new clients, the old ones sent away, and the relay last."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with _second_signal(lambda: self._reactor.callFromThread(self._hurry)):
            await self._stop_in_order()

    def _hurry(self) -> None:
        """Told to stop once more: whoever did that does not want to wait for clients."""
        self._log.warn(
            "told to stop again: the {count} clients that are left are cut off", count=len(self.site.connections)
        )
        self.site.abort()
        with suppress(ReactorNotRunning):
            self._reactor.stop()  # where it was not the first signal that stops us

    async def _stop_in_order(self) -> None:
        self._notifier.stopping(self.config.drain + 2 * GRACE)
        self._readiness.draining()
        self._stop_waiting()
        await _stop_listening(self._ports)
        finished = self.site.shutdown()
        await drain(self.connections, self._reactor, self.config.drain)
        cut = self._reactor.callLater(GRACE, self.site.abort)
        await finished
        if cut.active():
            cut.cancel()
        self.nodes.stop()
        self.control.stop()
        await self.relay.stop()
        if self._beat.running:
            self._beat.stop()
        await _stop_listening(self._admin_ports)
        await self._admin_site.shutdown()
        for service in self._services:
            service.stopService()


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


@contextmanager
def _second_signal(act: Callable[[], None]) -> Iterator[None]:
    """Within, a signal to stop calls `act`. The reactor understands the first one, and fails on others."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last is Ctrl-Break on Windows
            number = getattr(signal, name, None)
            if number is not None:
                before[number] = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _pause(port: IListeningPort) -> None:
    """Leave connections with the system, which keeps some (``backlog``)."""
    # Twisted's ports can do that; what a plugin listens with need not.
    if IPushProducer.providedBy(port):
        port.pauseProducing()


def _resume(port: IListeningPort) -> None:
    if IPushProducer.providedBy(port):
        port.resumeProducing()


async def _stop_listening(ports: list[IListeningPort]) -> None:
    await gatherResults([maybeDeferred(port.stopListening) for port in ports])
    ports.clear()


def _identity(config: Config) -> dict[str, Any]:
    """The parts of `Admission` that can be exchanged while the server runs."""
    return {
        "origins": Origins(config.allow_origin),
        "tokens": TokenKeys.from_file(config.token_key_file, config.token_audience) if config.token_key_file else None,
        "api_keys": ApiKeys.from_file(config.api_key_file) if config.api_key_file else None,
    }
