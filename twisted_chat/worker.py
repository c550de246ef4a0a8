"""`twistd chat-worker`: runs the consumers of servers that were started with ``--consumers remote``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat import open_files
from twisted_chat.clock import use_monotonic_clock
from twisted_chat.config import Config, ConfigError
from twisted_chat.consumers.delivery import GROUP_HISTORY, Delivery, tell_nodes
from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.loading import load_routing
from twisted_chat.consumers.metrics import ConsumerMetrics, watch_queue
from twisted_chat.consumers.node import outside
from twisted_chat.consumers.queue import queue_limits
from twisted_chat.consumers.run import open_outside
from twisted_chat.consumers.runner import Pool, Runner
from twisted_chat.hub import Hub
from twisted_chat.listening import AdminPort, Listening
from twisted_chat.logs import ServiceLog
from twisted_chat.metrics import Metrics, ReactorTick
from twisted_chat.options import WorkerOptions as Options
from twisted_chat.relay.interface import Relay, RelayError, Troubles
from twisted_chat.relay.url import are_shared, open_relays
from twisted_chat.server.admin import Obstacle, Readiness, admin_resource
from twisted_chat.server.endpoints import EndpointError
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.tls.certificates import CertificateError
from twisted_chat.signals import end_failed, one_line, stop_on_hangup
from twisted_chat.systemd import Notifier, Watchdog
from twisted_chat.waiting import within

__all__ = ["Options", "WorkerService", "makeService"]


def makeService(options: Options) -> WorkerService:
    """What `twistd chat-worker` runs. Exits with one line if something is wrong with the configuration."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)  # before anything is scheduled
    open_files.raise_limit()
    # What goes wrong between here and the reactor's first turn (a port that is taken) ends as one line too.
    sys.excepthook = one_line(options.program)
    try:
        return WorkerService(options.config, reactor, os.environ, twistd=options.parent)
    except (ConfigError, RelayError, RoutingError, EndpointError, CertificateError) as error:
        raise SystemExit(f"{options.program}: {error}") from None


PATIENCE: Final = 5.0
"""Seconds for links to Redis, and for who reads the metrics, to end."""

STARTING: Final = Obstacle("starting", "the worker has not finished starting")
STOPPING: Final = Obstacle("draining", "the worker is stopping, and takes nothing more")


class WorkerService(Service):
    """One worker. It takes events from Redis until it is told to stop; then it finishes what it has begun.

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
        twistd: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises `ConfigError`, `RoutingError`, `RelayError`, `EndpointError` and `CertificateError`."""
        if config.routing is None:
            raise ConfigError("--routing: say which consumers to run, for example myapp.routing:channel_routing")
        if not are_shared(config.relay):
            raise ConfigError("--relay: a worker takes its work from Redis; give the servers' --relay redis://HOST")
        self.config: Final = config
        self._reactor: Final = reactor
        self._environ: Final = environ
        self._service_log: Final = ServiceLog(config.log_format, config.log_level, twistd, environ)
        try:
            loaded = load_routing(config.routing, environ, Path.cwd())
        except RoutingError as error:
            raise RoutingError(f"--routing: {error}") from error
        self._relay: Final[Relay] = open_relays(config.relay, reactor=reactor, history=GROUP_HISTORY, environ=environ)
        self.metrics: Final = Metrics()
        # Nobody is a member of anything here: it only publishes.
        self._hub: Final = Hub(self._relay, reactor, self.metrics)
        self._pool: Final = Pool(reactor, config.threads)
        # Not earlier: what is imported there would choose a reactor, which is for twistd to do.
        from twisted_chat.consumers.redis.connection import queue_server
        from twisted_chat.consumers.redis.worker import Worker

        runner = Runner(loaded.router, self._pool, loaded.around, metrics=ConsumerMetrics(self.metrics.registry))
        limits = queue_limits(config.limits)
        self.worker: Final = Worker(reactor, queue_server(config.relay), runner, config.threads, limits)
        self.worker.emptying.layer = Delivery(
            self._relay, tell_nodes(self._relay), self.worker.posting.post, self.worker.posting.delay
        )
        self.worker.intake.told = self._told
        watch_queue(self.metrics, self.worker.amounts, limits)
        self._channels: Final = loaded.router.channels()
        self._end_outside: Callable[[], None] = lambda: None
        self._notifier: Final = Notifier(environ)
        self._readiness: Final = Readiness(
            reactor, self._probe, self.metrics.ready, starting=STARTING, draining=STOPPING
        )
        # A worker serves nothing but this.
        listening = Listening(replace(config, port=()), reactor, environ)
        self._admin: Final[AdminPort | None] = listening.admin()
        self._admin_site: Final = ChatSite(admin_resource(self.metrics, self._readiness), reactor=reactor)
        self._services: Final = [
            *listening.certificates,
            ReactorTick(reactor, self.metrics.ticked),
            Watchdog(reactor, self._notifier, environ),
        ]

    async def _probe(self) -> Troubles:
        await self.worker.ready()
        return await self._relay.ready()

    def setServiceParent(self, parent: Any) -> None:
        """Also chooses how the log is written."""
        self._service_log.attach(parent)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Bind, while that is still allowed. Raises `StartError`."""
        if self._admin is not None:
            self._admin.bind(self._admin_site)

    def startService(self) -> None:
        super().startService()
        for service in self._services:
            service.startService()
        self._pool.start()
        stop_on_hangup(self._reactor)
        Deferred.fromCoroutine(self._start()).addErrback(self._failed)

    async def _start(self) -> None:
        self._end_outside = open_outside(outside(self._reactor, self.worker.emptying.layer))
        await self._relay.start(self._hub)
        if not self.running:
            return  # it was told to stop before it had started
        if self._admin is not None:
            self._admin.say_where()
        await self.worker.start()
        if self.running:
            self._readiness.started()
            await self._readiness.check()

    def _told(self, takes: bool) -> None:
        """The worker can take events now, or it cannot."""
        if not self.running:
            return  # it is stopping, and its links are closed
        if takes:
            status = f"worker {self.worker.name} runs consumers of {', '.join(sorted(self._channels))}"
            self._log.info("{status}", status=status)
            self._notifier.ready(status)
        else:
            # systemd is not told that it is ready before it is; once it was, that cannot be taken back.
            status = f"worker {self.worker.name} waits for Redis"
            self._log.warn("{status}", status=status)
            self._notifier.status(status)

    def stopService(self) -> Deferred[None]:
        """Take nothing more, and finish what was begun; what is not finished in time another worker takes over."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._notifier.stopping(self.config.drain + 10)
        self._readiness.draining()
        finished = Deferred.fromCoroutine(self.worker.stop())
        finished.addErrback(lambda failure: self._log.failure("the worker did not stop well", failure))
        if not await within(self._reactor, self.config.drain, finished):
            self._log.warn("what is run for {count} connections is left to other workers", count=self.worker.busy)
            self.worker.abandon()
            await within(self._reactor, PATIENCE, finished)
        self._end_outside()
        self._pool.stop()
        await within(self._reactor, PATIENCE, self._relay.stop())
        if self._admin is not None:
            await self._admin.stop()
        await within(self._reactor, PATIENCE, self._admin_site.shutdown())
        for service in self._services:
            service.stopService()

    def _failed(self, failure: Failure) -> None:
        why = f"the worker cannot start: {failure.getErrorMessage()}"
        self._log.critical("{why}", why=why)
        self._notifier.failed(why)
        end_failed(self._reactor)
