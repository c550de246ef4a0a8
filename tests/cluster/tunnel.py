"""A network that can fall silent."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Final, Self


class Tunnel:
    """Leads from a port to another one on this machine.

    While it is shut nothing comes through and nobody is told, as when packets are lost; what was sent meanwhile comes
    late, as when they are sent again.
    """

    def __init__(self, port: int) -> None:
        self.to: Final = port
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._ends: list[socket.socket] = []
        self._mouth = socket.create_server(("127.0.0.1", 0))
        self.port: Final[int] = self._mouth.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        """For good."""
        self._closed = True
        self._open.set()
        for end in (self._mouth, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                here, _ = self._mouth.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(here,), daemon=True).start()

    def _join(self, here: socket.socket) -> None:
        self._open.wait()
        try:
            there = socket.create_connection(("127.0.0.1", self.to))
        except OSError:
            here.close()
            return
        self._ends += [here, there]
        threading.Thread(target=self._pump, args=(there, here), daemon=True).start()
        self._pump(here, there)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
