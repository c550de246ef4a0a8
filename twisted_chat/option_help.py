"""The help of the command lines: options by what they are about, each with its value, its meaning and its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final

from twisted_chat.config import default
from twisted_chat.settings import GROUPS, Setting

WIDTH: Final = 80
INDENT: Final = 6

_COMMON: Final = (
    ("--config FILE", "A TOML file with any of these options, without the dashes."),
    ("--help", "Print this help and exit."),
    ("--version", "Print the version and exit."),
)


def options_help(settings: Iterable[Setting]) -> str:
    """Compose the help of `settings`, with a heading for each group that has any."""
    wanted = {setting.name: setting for setting in settings}
    lines: list[str] = []
    for heading, names in GROUPS.items():
        group = [wanted[name] for name in names if name in wanted]
        if group:
            lines += [f"{heading}:", *(line for setting in group for line in _option(_name(setting), _text(setting)))]
            lines.append("")
    lines += ["Other options:", *(line for name, text in _COMMON for line in _option(name, text))]
    return "\n".join(lines) + "\n"


def _name(setting: Setting) -> str:
    short = "-p, " if setting.name == "port" else ""
    return f"{short}--{setting.name} {setting.placeholder}".rstrip()


def _text(setting: Setting) -> str:
    initial = default(setting)
    return setting.help if setting.is_switch or not initial else f"{setting.help} [default: {initial}]"


def _option(name: str, text: str) -> list[str]:
    indent = " " * INDENT
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [f"  {name}", *wrapped]
