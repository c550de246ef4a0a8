"""The file with a process id that `twistd` writes.

`twistd` refuses to start while a process with the id in that file lives. After a crash that may be any process; in a
container it is always the new one itself.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

DEFAULT: Final = "twistd.pid"
"""The name that `twistd` gives it without ``--pidfile``."""


def settle(twistd: MutableMapping[str, Any]) -> None:
    """Leave the file away where nobody needs it, and remove one that a dead process left behind.

    twistd
        the options of `twistd` itself, before it looks for the file
    """
    name = twistd.get("pidfile")
    if not name:
        return
    if twistd.get("nodaemon") and name == DEFAULT:
        # Whoever started it has its id, and stops it by a key.
        twistd["pidfile"] = ""
        return
    if is_stale(Path(name)):
        with suppress(OSError):  # twistd says what is wrong
            Path(name).unlink()


def is_stale(path: Path, processes: Path = Path("/proc")) -> bool:
    """Return whether the process whose id is in a file is known to be no `twistd`."""
    try:
        pid = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    if pid == os.getpid():
        return True
    try:
        return b"twistd" not in (processes / str(pid) / "cmdline").read_bytes()
    except OSError:  # it is gone, or the system has no such directory: twistd finds out
        return False
