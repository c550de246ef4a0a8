"""Ports for the tests' own servers."""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

    # The system forgets what is locked here when the process ends, however that happens.
    _claims: Final = (Path(tempfile.gettempdir()) / f"twisted-chat-test-ports-{os.getuid()}").open("ab")

_ours: Final[set[int]] = set()


def free_port(*, beside: int = 0) -> int:
    """One that nothing listens on, below those that the system gives to clients: it can be used again later.

    It stays this process's: no other test is given it before a server has bound it, nor while one is restarted.

    beside
        the port that is so much higher is free too
    """
    while True:
        port = random.randrange(11_000, 32_000 - beside)
        if all(_claim(each) for each in {port, port + beside}):
            return port


def _claim(port: int) -> bool:
    """Whether it is free, and was given to nobody."""
    if port in _ours:
        return False
    try:
        with socket.socket() as probe:
            probe.bind(("", port))
        if sys.platform != "win32":
            fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _ours.add(port)
    return True
