"""The process that starts the others: makes their sockets, begins them again when they end, stops them in order."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import IO, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_chat.config import Config, ConfigError
from twisted_chat.life import Repeat, in_thread
from twisted_chat.listening import Listening
from twisted_chat.logs import ServiceLog
from twisted_chat.processes.backoff import Backoff
from twisted_chat.processes.child import BEAT, Child, ProcessEnd
from twisted_chat.processes.command import Command
from twisted_chat.processes.overview import Overview
from twisted_chat.processes.privileges import regained
from twisted_chat.processes.process import FIRST_SOCKET, FROM_SUPERVISOR, SIGNS, TO_SUPERVISOR, Process
from twisted_chat.processes.sockets import BindingReactor, descriptors
from twisted_chat.server.admin import admin_resource
from twisted_chat.server.draining import GRACE
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.signals import end_failed, on_hangup, second_signal
from twisted_chat.systemd import Notifier, Watchdog

LATE: Final = 2.0
"""Seconds that a process may take beyond the time that its clients have to leave."""

PASSING: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Reasons why a process cannot be started now that may be gone in a moment: too many processes or files, no memory."""

RELOAD: Final = 10.0
"""Seconds that reading certificates and keys again may take."""


class Supervisor(Service):
    """The service that ``--processes`` makes of the server. What was configured was checked before.

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
        command: Command,
        *,
        reload: Callable[[], Config] | None = None,
        twistd: Mapping[str, Any] | None = None,
        binder: Any = None,
        repeat: Repeat = in_thread,
    ) -> None:
        self.config: Final = config
        self._reactor: Final = reactor
        self._environ: Final = environ
        self._command: Final = command
        self._reload_config: Final = reload or (lambda: config)
        self._service_log: Final = ServiceLog(config.log_format, config.log_level, twistd, environ)
        self._log_file: IO[Any] | None = None
        binder = BindingReactor(reactor, config.processes) if binder is None else binder
        self._listening: Final = Listening(config, reactor, environ, binder=binder)
        self._admin: Final = self._listening.admin()
        numbers = range(1, config.processes + 1)
        self.children: Final[dict[int, Child | None]] = dict.fromkeys(numbers)
        self._backoff: Final = dict.fromkeys(numbers, Backoff())
        self._restarts: Final[dict[int, IDelayedCall]] = {}
        self._was_ready = False
        self._ending = False
        self._closed: Deferred[None] | None = None
        self._empty: Deferred[None] | None = None
        self._overview: Final = Overview(reactor, self.children)
        self._admin_site: Final = ChatSite(
            admin_resource(self._overview, self._overview, lambda: self._overview.nodes), reactor=reactor
        )
        self._notifier: Final = Notifier(environ)
        self._watchdog: Final = Watchdog(reactor, self._notifier, environ, self._alive, repeat)
        self._beat: Final = LoopingCall(self._look)
        self._beat.clock = reactor

    def setServiceParent(self, parent: Any) -> None:
        """Also chooses how the log is written, unless `twistd --logger` or `--syslog` did."""
        stream = self._service_log.attach(parent)
        # Asked now: twistd puts something else there.
        if stream is not sys.stdout:
            self._log_file = stream
        super().setServiceParent(parent)

    def warnings(self) -> list[str]:
        """Return what is doubtful about the configuration, although it can be used; a line each."""
        return self._listening.warnings()

    # Starting

    def privilegedStartService(self) -> None:
        """Bind, while that is still allowed. Raises `StartError`."""
        nobody = Factory()
        nobody.noisy = False
        self._listening.bind(nobody)
        if self._admin is not None:
            self._admin.bind(self._admin_site)

    def startService(self) -> None:
        super().startService()
        self._beat.start(BEAT, now=False)
        # Not earlier: the reactor has to hear of ends.
        self._reactor.callWhenRunning(self._start_all)
        on_hangup(self._reactor, self.reload, at_end_of_terminal=True)

    def _start_all(self) -> None:
        for number in self.children:
            self._start(number)

    def _start(self, number: int) -> None:
        self._restarts.pop(number, None)
        if self._ending:
            return
        child = Child(number, self._reactor, self, self._write)
        command = self._command
        arguments = command.arguments()
        environment = command.environment(self._environ, Process(number, self.config.port, self.config.relay))
        try:
            with regained():
                self._reactor.spawnProcess(
                    child, arguments[0], arguments, environment, command.change(), childFDs=self._descriptors(number)
                )
        except OSError as error:
            if self._was_ready or error.errno in PASSING:
                self._start_again(number, f"cannot be started: {error}", 0.0)
            else:
                self._end(f"process {number} cannot be started: {error}")
        else:
            self.children[number] = child

    def _start_again(self, number: int, why: str, lived: float) -> None:
        backoff = self._backoff[number] = self._backoff[number].ended(lived)
        self._log.error(
            "process {number} {why}; it is started again in {delay} s", number=number, why=why, delay=backoff.delay
        )
        self._restarts[number] = self._reactor.callLater(backoff.delay, self._start, number)

    def _descriptors(self, number: int) -> dict[int, int | str]:
        # A log file is rotated, which only one process can do; what goes elsewhere needs no detour.
        output: dict[int, int | str] = {1: 1, 2: 2} if self._log_file is None else {1: "r", 2: "r"}
        sockets = dict(enumerate(descriptors(self._listening.ports, number), FIRST_SOCKET))
        return {0: 0, **output, TO_SUPERVISOR: "r", FROM_SUPERVISOR: "w", SIGNS: "r", **sockets}

    def _write(self, line: bytes) -> None:
        if self._log_file is not None:
            self._log_file.write(line.decode("utf-8", "backslashreplace"))
            self._log_file.flush()

    # What happens to them

    def ready(self, child: Child) -> None:
        """A process serves clients."""
        self._log.info("process {number} is ready (pid {pid})", number=child.number, pid=child.pid)
        if not self._was_ready and all(each is not None and each.is_ready for each in self.children.values()):
            self._was_ready = True
            self._listening.say_where()
            if self._admin is not None:
                self._admin.say_where()
            self._notifier.ready(self._status)
            self._watchdog.startService()

    def stopping(self, child: Child) -> None:
        """A process takes no more connections."""
        self._look_whether_closed()

    def failed(self, child: Child, why: str) -> None:
        """A process cannot start."""
        if not self._was_ready:
            self._end(why)
        else:
            self._log.error("process {number}: {why}", number=child.number, why=why)

    def ended(self, child: Child, end: ProcessEnd) -> None:
        """A process is gone."""
        number = child.number
        self.children[number] = None
        self._overview.ended(number)
        self._look_whether_closed()
        if self._empty is not None and not any(self.children.values()):
            self._empty.callback(None)
        if self._ending:
            return
        how = _how(end)
        if not self._was_ready and not child.was_ready and end.signal is None:
            # It has said why. What is wrong with its configuration will not be right the next time.
            self._log.info("process {number} {how} before it was ready: the server ends", number=number, how=how)
            self._end(None)
        else:
            self._start_again(number, how, self._reactor.seconds() - child.born)

    def _end(self, why: str | None) -> None:
        if self._ending:
            return
        self._ending = True
        if why is not None:
            self._log.critical("{why}", why=why)
            self._notifier.failed(why)
        end_failed(self._reactor)

    def _look(self) -> None:
        for child in self._alive_children():
            child.beat()

    def _alive(self) -> bool:
        return not any(child.is_stuck for child in self._alive_children())

    def _alive_children(self) -> list[Child]:
        return [child for child in self.children.values() if child is not None]

    @property
    def _status(self) -> str:
        return f"serving {', '.join(self.config.port)} with {len(self.children)} processes"

    # Reloading

    def reload(self) -> None:
        """All processes read certificates, key files, origins, hosts and the log level again."""
        if self._was_ready:
            self._notifier.reloading()
        with suppress(ConfigError):  # which each of them says
            self._service_log.set_level(self._reload_config().log_level)
        told = [child.order("reload", RELOAD) for child in self._alive_children() if child.started]
        done = DeferredList(told, consumeErrors=True)  # each says in the log how it went
        done.addCallback(lambda _: self._notifier.ready(self._status) if self._was_ready else None)

    # Stopping

    def stopService(self) -> Deferred[None]:
        """All processes at the same time, each in its order; and the sockets when none of them listens any more."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._ending = True
        with second_signal(lambda: self._reactor.callFromThread(self._hurry)):
            await self._stop_in_order()

    async def _stop_in_order(self) -> None:
        longest = self.config.drain + 2 * GRACE + LATE
        self._notifier.stopping(longest)
        self._overview.draining()
        for call in self._restarts.values():
            call.cancel()
        self._restarts.clear()
        for child in self._alive_children():
            child.stop()
        deadline = self._reactor.callLater(longest, self._kill)
        self._closed, self._empty = Deferred(), Deferred()
        self._look_whether_closed()
        closed, empty = self._closed, self._empty
        late = self._reactor.callLater(LATE, self._close)
        await closed
        if late.active():
            late.cancel()
        await self._listening.stop()
        if any(self.children.values()):
            await empty
        if deadline.active():
            deadline.cancel()
        if self._beat.running:
            self._beat.stop()
        if self._admin is not None:
            await self._admin.stop()
        await self._admin_site.shutdown()
        if self._watchdog.running:
            self._watchdog.stopService()

    def _look_whether_closed(self) -> None:
        if all(child.is_stopping for child in self._alive_children()):
            self._close()

    def _close(self) -> None:
        if self._closed is not None and not self._closed.called:
            self._closed.callback(None)

    def _hurry(self) -> None:
        """Told to stop once more."""
        for child in self._alive_children():
            child.tell("hurry")
        with suppress(ReactorNotRunning):
            self._reactor.stop()  # where it was not the first signal that stops us

    def _kill(self) -> None:
        for child in self._alive_children():
            self._log.error("process {number} has not ended in time, and is killed", number=child.number)
            child.kill()


def _how(end: ProcessEnd) -> str:
    if end.signal is None:
        return f"ended with status {end.exitCode}"
    try:
        return f"was ended by {signal.Signals(end.signal).name}"
    except ValueError:
        return f"was ended by signal {end.signal}"
