"""`twistd chat`: the server, in one process or in several."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from twisted_chat import open_files
from twisted_chat.clock import use_monotonic_clock
from twisted_chat.config import Config, ConfigError
from twisted_chat.garbage import Garbage
from twisted_chat.options import Options
from twisted_chat.processes import privileges
from twisted_chat.processes.command import Command, reactor_name
from twisted_chat.processes.process import Process
from twisted_chat.processes.supervisor import Supervisor
from twisted_chat.relay.url import are_shared
from twisted_chat.service import MISTAKES, ChatService
from twisted_chat.signals import one_line

__all__ = ["Options", "build", "makeService"]


def makeService(options: Options) -> ChatService | Supervisor:
    """What `twistd chat` runs. Exits with one line if something is wrong with the configuration."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)  # before anything is scheduled
    open_files.raise_limit()
    # What goes wrong between here and the reactor's first turn (a port that is taken) ends as one line too.
    sys.excepthook = one_line(options.program)
    try:
        service = build(options, reactor, os.environ)
    except MISTAKES as error:
        raise SystemExit(f"{options.program}: {error}") from None
    if isinstance(service, ChatService):
        # Python's collector is the whole process's, which is the service's only here.
        service.services.append(Garbage(reactor, service.connections.count, service.metrics.paused))
    return service


def build(options: Options, reactor: Any, environ: MutableMapping[str, str]) -> ChatService | Supervisor:
    """The server, in one process or in several. Raises one of `MISTAKES`."""
    config: Config = options.config
    twistd: Mapping[str, Any] = options.parent or {}
    process = Process.from_environ(environ)
    if process is not None:
        config = process.configured(config)
    if process is not None or config.processes == 1:
        return ChatService(config, reactor, environ, reload=options.reload, twistd=twistd, process=process)
    _check_processes(config, twistd)
    # What is wrong is found once and before anything starts, as in one process.
    ChatService(config, reactor, dict(environ), twistd=twistd)
    command = Command(options.given, options.config_file, dict(twistd), reactor_name(reactor))
    if options.parent:
        privileges.keep(options.parent)
    return Supervisor(config, reactor, environ, command, reload=options.reload, twistd=twistd)


def _check_processes(config: Config, twistd: Mapping[str, Any]) -> None:
    if os.name != "posix":
        raise ConfigError(
            "--processes: this system cannot pass sockets on to processes; right would be one server for each core, "
            "each with a port of its own, and a proxy in front"
        )
    if not are_shared(config.relay):
        raise ConfigError(
            f"--processes {config.processes}: several processes need a relay that they share, and this one is for one "
            "process; right would be --relay redis://127.0.0.1, or --processes 1"
        )
    if twistd.get("chroot"):
        raise ConfigError(
            "--processes: with twistd --chroot no process can be started; right would be RootDirectory= of systemd, or "
            "--processes 1"
        )
