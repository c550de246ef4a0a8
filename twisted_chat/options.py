"""The command line of `twistd chat`, made from the table of settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from twisted.python import usage

from twisted_chat import __version__
from twisted_chat.config import SETTINGS, Config, ConfigError, Setting, default, did_you_mean, load


class Options(usage.Options):
    """Options of `twistd chat`; after parsing, `config` is the whole configuration."""

    synopsis = "[options]"
    longdesc = (
        "Serves rooms. A room is a URL, /chat/ROOM: a WebSocket, an event stream, its history, its page, and a place "
        "to POST to. Each option can also stand in the environment (TWISTED_CHAT_RELAY for --relay) or in a TOML file "
        "(relay = ...)."
    )
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
            _exit(_readable(str(error)))

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            _exit(f"{arguments[0]!r}: only options are taken here, see twistd chat --help")

    def postOptions(self) -> None:
        try:
            self.config = self.reload()
        except ConfigError as error:
            _exit(str(error))

    def reload(self) -> Config:
        """The configuration as option, environment and file give it now. Raises `ConfigError`."""
        return load(self.given, os.environ, self.config_file)


def _exit(message: str) -> NoReturn:
    raise SystemExit(f"twistd chat: {message}")


def _readable(message: str) -> str:
    """getopt's complaint, with the option that was probably meant."""
    if message.startswith("option --") and message.endswith(" not recognized"):
        name = message.removeprefix("option --").removesuffix(" not recognized")
        return f"there is no option --{name}{did_you_mean(name) or '.'} See twistd chat --help"
    return f"{message}. See twistd chat --help"


def _option(setting: Setting) -> Callable[..., None]:
    """The method that `usage.Options` calls for one setting."""

    def switch(self: Options) -> None:
        self.given[setting.name] = ["yes"]

    def value(self: Options, text: str) -> None:
        if setting.many:
            self.given.setdefault(setting.name, []).append(text)
        else:
            self.given[setting.name] = [text]

    method: Any = switch if setting.is_switch else value
    initial = default(setting)
    method.__doc__ = setting.help if setting.is_switch or not initial else f"{setting.help} [default: {initial}]"
    return method  # type: ignore[no-any-return]  # one of the two above


for _setting in SETTINGS:
    setattr(Options, f"opt_{_setting.attribute}", _option(_setting))
Options.opt_p = Options.opt_port  # type: ignore[attr-defined]  # usage.Options takes a one-letter method as a short form
