"""What systemd hears of a server."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.twistd import PATIENCE


class ServiceManager:
    """The other end of ``$NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        # Read at once: the system keeps ten, and what comes then is lost.
        self._heard: queue.Queue[list[str]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self._heard.put(data.decode().split("\n"))

    def next(self) -> list[str]:
        """The lines of the next message."""
        return self._heard.get(timeout=PATIENCE)

    def hears(self, line: str) -> list[str]:
        """The lines of the next message that has this one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                lines = self._heard.get(timeout=1)
                if line in lines:
                    return lines
        pytest.fail(f"the service manager did not hear {line}")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)  # ends the thread
        self._socket.close()
