"""Ports for the tests' own servers."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack


def free_port(*, beside: int = 0) -> int:
    """One that nothing listens on, below those that the system gives to clients: it can be used again later.

    beside
        the port that is so much higher is free too
    """
    while True:
        port = random.randrange(11_000, 32_000 - beside)
        with ExitStack() as probes:
            try:
                for each in {port, port + beside}:
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
            return port
