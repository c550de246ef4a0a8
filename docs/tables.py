"""The tables of options in the documentation, made from the settings that the server reads.

``python docs/tables.py`` writes them into the files; a test fails where one is not as this makes it.
"""  # noqa: INP001 - a script beside Sphinx's configuration

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

from twisted_chat.config import default
from twisted_chat.settings import SETTINGS, Setting

ROOT: Final = Path(__file__).parent.parent
FILES: Final = ("README.rst", "docs/options.rst")
BEGIN: Final = ".. table of options, made by docs/tables.py\n"
WIDTH: Final = 113
END: Final = ".. end of the table of options\n"


def options_table() -> str:
    """A ``list-table`` with a row for each setting."""
    rows = ["Option", "Default", "What it does"], *(_row(setting) for setting in SETTINGS)
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 30 20 50", ""]
    for row in rows:
        for number, cell in enumerate(row):
            first, *rest = textwrap.wrap(cell, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
            lines.append(f"   {'*' if number == 0 else ' '} - {first}".rstrip())
            lines += [f"       {line}" for line in rest]
    return "\n".join(lines) + "\n"


def replaced(text: str) -> str:
    """`text` with its table as it is to be. Raises `ValueError` when there is no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"between which lines is the table? {BEGIN!r} or {END!r} is missing")
    return f"{before}{BEGIN}\n{options_table()}\n{END}{after}"


def _row(setting: Setting) -> list[str]:
    option = f"--{setting.name} {setting.placeholder}".strip()
    initial = default(setting)
    return [f"``{option}``", f"``{initial}``" if initial else "", _escaped(setting.help)]


def _escaped(text: str) -> str:
    return re.sub(r"([*`|\\])", r"\\\1", text)


def main() -> None:
    for name in FILES:
        path = ROOT / name
        path.write_text(replaced(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
