"""The command lines of `twistd chat` and `twistd chat-worker`, made from the table of settings."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn

from twisted.python import usage

from twisted_chat import __version__, pid_file
from twisted_chat.config import Config, ConfigError, load
from twisted_chat.option_help import WIDTH, options_help
from twisted_chat.settings import BY_NAME, SETTINGS, Setting, did_you_mean


class _Options(usage.Options):
    """Options of one of the programs; after parsing, `config` is the whole configuration."""

    longdesc: ClassVar[str]
    program: ClassVar[str]
    settings: ClassVar[Collection[Setting]]
    config: Config

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, list[str]] = {}
        self.config_file: Path | None = None

    def opt_config(self, path: str) -> None:
        """A TOML file with any of these options, without the dashes."""
        self.config_file = Path(path)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        sys.stdout.write(f"twisted_chat {__version__}\n")
        raise SystemExit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse, or exit with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            self._exit(self._readable(str(error)))

    def getSynopsis(self) -> str:
        return f"Usage: {self.program} [options]\n"

    def getUsage(self, width: int | None = None) -> str:
        """Compose the help, by groups; Twisted's is one list, without the names of values."""
        return f"{textwrap.fill(self.longdesc, WIDTH)}\n\n{options_help(self.settings)}"

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            self._exit(f"{arguments[0]!r}: only options are taken here, see {self.program} --help")

    def postOptions(self) -> None:
        try:
            self.config = self.reload()
        except ConfigError as error:
            self._exit(str(error))
        if self.parent is not None:
            pid_file.settle(self.parent)

    def reload(self) -> Config:
        """The configuration as option, environment and file give it now. Raises `ConfigError`."""
        return load(self.given, os.environ, self.config_file)

    def _exit(self, message: str) -> NoReturn:
        raise SystemExit(f"{self.program}: {message}")

    def _readable(self, message: str) -> str:
        """getopt's complaint, with the option that was probably meant."""
        if message.startswith("option --") and message.endswith(" not recognized"):
            name = message.removeprefix("option --").removesuffix(" not recognized")
            return f"there is no option --{name}{did_you_mean(name) or '.'} See {self.program} --help"
        return f"{message}. See {self.program} --help"


class Options(_Options):
    """Options of `twistd chat`."""

    program = "twistd chat"
    settings = SETTINGS
    longdesc = (
        "Serves rooms. A room is a URL, /chat/ROOM: a WebSocket, an event stream, its history, its page, and a place "
        "to POST to. Each option can also stand in the environment (TWISTED_CHAT_RELAY for --relay) or in a TOML file "
        "(relay = ...)."
    )


class CheckOptions(Options):
    """Options of `python -m twisted_chat check`: those of `twistd chat`."""

    program = "python -m twisted_chat check"
    longdesc = (
        "Checks a configuration as twistd chat would at its start, and neither listens nor writes. It takes the "
        "options of twistd chat, and reads the same environment and file."
    )


WORKER_SETTINGS: Final = frozenset(
    {
        *("relay", "routing", "threads", "admin-port", "drain", "log-format", "log-level"),
        "limit-consumer-bytes",
    }
)


class WorkerOptions(_Options):
    """Options of `twistd chat-worker`: those of the settings that mean something to it."""

    program = "twistd chat-worker"
    settings = tuple(setting for setting in SETTINGS if setting.name in WORKER_SETTINGS)
    longdesc = (
        "Runs the consumers of servers that were started with --consumers remote. It takes what they have to do from "
        "the Redis that --relay names: give it the same ones. Workers may come and go at any time. The options can "
        "also stand in the environment or in a TOML file, which may be that of the servers: its admin-port is theirs, "
        "and a worker leaves it to them."
    )

    def reload(self) -> Config:
        config = super().reload()
        admin = BY_NAME["admin-port"]
        own = admin.name in self.given or admin.variable in os.environ
        return config if own else replace(config, admin_port=None)


def _option(setting: Setting) -> Callable[..., None]:
    """The method that `usage.Options` calls for one setting."""

    def switch(self: _Options) -> None:
        self.given[setting.name] = ["yes"]

    def value(self: _Options, text: str) -> None:
        if setting.many:
            self.given.setdefault(setting.name, []).append(text)
        else:
            self.given[setting.name] = [text]

    method: Any = switch if setting.is_switch else value
    return method  # type: ignore[no-any-return]  # one of the two above


for _setting in SETTINGS:
    setattr(Options, f"opt_{_setting.attribute}", _option(_setting))
    if _setting in WorkerOptions.settings:
        setattr(WorkerOptions, f"opt_{_setting.attribute}", _option(_setting))
Options.opt_p = Options.opt_port  # type: ignore[attr-defined]  # usage.Options takes a one-letter method as a short form
