"""How a process is started: with the options of the server, and without what is for the supervisor alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twisted.application.reactors import getReactorTypes

from twisted_chat.processes.process import VARIABLE, Process
from twisted_chat.settings import BY_NAME

_NOT_PASSED_ON: Final = frozenset({"processes", "admin-port", "port", "relay"})
"""For the supervisor alone, or in `Process`: a relay may have a password, and everybody sees arguments."""

_OF_SYSLOG: Final = ("prefix", "facility")
_NOT_INHERITED: Final = ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")


@dataclass(frozen=True, slots=True)
class Command:
    """The command line of the supervisor, to be said again.

    given
        options of ``twistd chat``: setting name to texts
    config_file
        that of ``--config``
    twistd
        options of `twistd` itself
    reactor
        how `twistd --reactor` calls the one that runs
    directory
        what paths are relative to: where options were read, and not where `twistd --rundir` goes then
    """

    given: Mapping[str, Sequence[str]]
    config_file: Path | None
    twistd: Mapping[str, Any]
    reactor: str | None = None
    directory: Path = field(default_factory=Path.cwd)

    def arguments(self) -> list[str]:
        """What is executed."""
        # A directory from which modules can be imported only because it is the working directory is no surprise here
        # where it is none in the supervisor.
        safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
        return [
            *(sys.executable, *safe, "-m", "twisted_chat.processes"),
            *("--nodaemon", "--pidfile="),
            *([f"--reactor={self.reactor}"] if self.reactor is not None else []),
            *self._user(),
            *self._log(),
            "chat",
            *([f"--config={self.config_file}"] if self.config_file is not None else []),
            *(option for name, texts in self._passed_on() for option in _options(name, texts)),
        ]

    def _user(self) -> list[str]:
        """As whom it runs, once it has read keys and certificates."""
        names = [f"--{name}={self.twistd[name]}" for name in ("uid", "gid") if self.twistd.get(name) is not None]
        return [*(["--euid"] if names and self.twistd.get("euid") else []), *names]

    def _log(self) -> list[str]:
        """Where the log goes, if not to us."""
        if self.twistd.get("logger"):
            return [f"--logger={self.twistd['logger']}"]
        if self.twistd.get("syslog"):
            return ["--syslog", *(f"--{name}={self.twistd[name]}" for name in _OF_SYSLOG if self.twistd.get(name))]
        return []

    def environment(self, environ: Mapping[str, str], process: Process) -> dict[str, str]:
        """With what."""
        kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_INHERITED)}
        return kept | {VARIABLE: process.variable()}

    def change(self) -> str | None:
        """The directory to change to, if it is another one."""
        return None if self.directory == Path.cwd() else str(self.directory)

    def _passed_on(self) -> list[tuple[str, Sequence[str]]]:
        return [(name, texts) for name, texts in self.given.items() if name not in _NOT_PASSED_ON]


def reactor_name(reactor: object) -> str | None:
    """How `twistd --reactor` calls it; None if it does not."""
    module = type(reactor).__module__
    return next((each.shortName for each in getReactorTypes() if getattr(each, "moduleName", None) == module), None)


def _options(name: str, texts: Sequence[str]) -> list[str]:
    return [f"--{name}"] if BY_NAME[name].is_switch else [f"--{name}={text}" for text in texts]
