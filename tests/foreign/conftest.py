"""The server as users start it, and what its foreign clients have in common.

Nothing in here or in the tests beside it imports twisted_chat: what the clients meet is a process and its port.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import pytest

from tests.ports import free_port

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds after which something that should have happened never will."""


class Run(Protocol):
    """Runs a coroutine to its end, in a thread that has an event loop of its own."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


class Server:
    """`twistd chat` on a port of 127.0.0.1, in a directory of its own, with history in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def room(self) -> str:
        """The URL of a room that no other test uses."""
        return f"{self.url}/chat/{uuid4().hex}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        twistd = shutil.which("twistd", path=str(Path(sys.executable).parent))
        assert twistd is not None
        endpoint = f"tcp:{self.port}:interface=127.0.0.1"
        command = [twistd, "--nodaemon", "--pidfile=", "chat", "--port", endpoint, "--relay", "memory:"]
        command += ["--limit-requests-per-address", "1000000"]  # all clients have one address
        begins = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._directory, env=_environment(), stdout=log, stderr=subprocess.STDOUT
            )

        def listening() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            return f"open {self.url}/" in self.log()[begins:]

        wait_until(listening)

    def stop(self) -> None:
        """As systemd does it, and wait for the end."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)

    def end(self) -> None:
        """Stop it if it runs. A client that made it fail did not use it as it is meant to be used."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        assert not re.search(r"Traceback|^\S+ (error|critical) ", self.log(), re.MULTILINE), self.log()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


def _environment() -> dict[str, str]:
    """Without settings of the server, and without what a service manager may have set."""
    others = ("TWISTED_CHAT_", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_", "JOURNAL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clients would go to 127.0.0.1 through the proxy that the environment names."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not stop it; each takes a room of its own."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server to stop and to start again."""
    server = Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture
def room(server: Server) -> str:
    """The URL of a room of the test's own."""
    return server.room()


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Runs asyncio's clients beside Twisted's reactor, in a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, PATIENCE), loop).result()

    yield run
    run(loop.shutdown_asyncgens())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
