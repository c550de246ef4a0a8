"""Where consumers run: the test double, a server, and a server with workers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.consumers.behaviour_app import channel_routing
from tests.relay.redis_server import Make, RedisServer, making, needed_server, running
from tests.twistd import PATIENCE, TWISTD, Server, environment, until
from twisted_chat.testing import Client, Consumers

HERE = Path(__file__).parent
ROUTING = "behaviour_app:channel_routing"


class Worker:
    """One worker process; `log` is what it wrote."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        routing: str = ROUTING,
        environ: Mapping[str, str] | None = None,
        says: str = "runs consumers of",
    ) -> None:
        """Waits until its log `says` so."""
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / f"worker-{len(list(directory.glob('worker-*.log')))}.log"
        self._arguments = [
            *(str(TWISTD), "-n", "--pidfile=", "chat-worker"),
            *("--routing", routing, "--drain", "10", *options),
        ]
        path = os.pathsep.join([str(HERE), str(directory)])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._arguments,
                cwd=directory,
                env=environment(PYTHONPATH=path, **(environ or {})),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.logged(says)
        except BaseException:
            self.kill()
            raise

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def logged(self, text: str) -> None:
        """Waits until the log has this."""

        def found() -> bool:
            assert self.process.poll() is None, f"the worker ended:\n{self.log}"
            return text in self.log

        until(found, f"{text!r} in the log of a worker")

    def kill(self) -> None:
        """What a crash is like."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """Stops it as a service manager does."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


class Connection(Protocol):
    """A client's end, whatever is at the other one."""

    def send(self, data: str | bytes) -> None: ...
    def receive(self) -> Any: ...
    def leave(self, code: int = 1000) -> None: ...
    def closed(self) -> int:
        """The code with which the server closed it; waits for that."""


class Stage(Protocol):
    """Something that runs the application."""

    def connect(self, path: str, **headers: str) -> Connection:
        """Raises `RefusedError`."""


class RefusedError(Exception):
    """The handshake was; with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class SocketEnd:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, data: str | bytes) -> None:
        self.socket.send(data)

    def receive(self) -> Any:
        return self.socket.recv(PATIENCE)

    def leave(self, code: int = 1000) -> None:
        self.socket.close(code)

    def closed(self) -> int:
        try:
            unexpected = self.socket.recv(PATIENCE)
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 1006
        raise AssertionError(f"it was not closed, but sent {unexpected!r}")


class ServerStage:
    """A server; its clients are closed with `close`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open = ExitStack()

    def connect(self, path: str, **headers: str) -> SocketEnd:
        try:
            socket = self._open.enter_context(
                connect(
                    self.url + path,
                    additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
                    proxy=None,
                    open_timeout=PATIENCE,
                    close_timeout=PATIENCE,
                    compression=None,
                )
            )
        except InvalidStatus as error:
            raise RefusedError(error.response.status_code) from None
        return SocketEnd(socket)

    def close(self) -> None:
        self._open.close()


class DoubleEnd:
    def __init__(self, client: Client, consumers: Consumers) -> None:
        self.client = client
        self.consumers = consumers

    def send(self, data: str | bytes) -> None:
        # What a consumer raises is raised here; elsewhere it is logged.
        try:
            if isinstance(data, str):
                self.client.send(data)
            else:
                self.client.send(bytes=data)
        except (LookupError, TypeError, ValueError) as error:
            self.raised: Exception = error

    def receive(self) -> Any:
        if not self.client.messages:
            self.consumers.advance(1)  # it waits, as the others do
        return self.client.receive()

    def leave(self, code: int = 1000) -> None:
        self.client.disconnect(code)

    def closed(self) -> int:
        assert self.client.close_code is not None
        return self.client.close_code


class DoubleStage:
    def __init__(self, routing: object) -> None:
        self._consumers = Consumers(routing)

    def connect(self, path: str, **headers: str) -> DoubleEnd:
        place, _, query = path.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            client = self._consumers.connect(place, query_string=query.encode(), headers=named)
        except LookupError as error:
            raise RefusedError(500 if "told to" in str(error) else 404) from None
        if not client.accepted:
            raise RefusedError(client.close_code or 503)
        return DoubleEnd(client, self._consumers)


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """One for all tests of a module, which must be told apart by their names."""
    with running(needed_server()) as server:
        yield server


@pytest.fixture
def make_redis() -> Iterator[Make]:
    """``make_redis(*options)``: one that is not started yet."""
    with making() as make:
        yield make


def serve(directory: Path, *options: str) -> Server:
    """A server that finds the application of these tests."""
    directory.mkdir(parents=True, exist_ok=True)
    environ = {"PYTHONPATH": str(HERE)}
    return Server(directory, ("--drain", "1", *options), environ, "tcp:{port}:interface=127.0.0.1")


Serve = Callable[..., Any]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Serve]:
    """``start(*options)``: a server that ends with the test."""
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(serve(tmp_path / f"server-{len(servers)}", *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """``start(*options)``: a worker that ends with the test."""
    workers: list[Worker] = []

    def start(*options: str, **named: Any) -> Worker:
        workers.append(Worker(tmp_path / "workers", *options, **named))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture(scope="module")
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The URL of a server of a kind, ``local`` or ``workers``: made once for a module."""
    urls: dict[str, str] = {}
    ends: list[Callable[[], object]] = []

    def url(kind: str) -> str:
        if kind not in urls:
            directory = tmp_path_factory.mktemp(kind)
            if kind == "local":
                server = serve(directory, "--relay", "memory:", "--routing", ROUTING, "--threads", "3")
                ends.append(server.kill)
            else:
                redis: RedisServer = request.getfixturevalue("shared_redis")
                server = serve(directory, "--relay", redis.url, "--consumers", "remote")
                ends.append(server.kill)  # at once: whatever fails from here on, it ends
                for _ in range(2):
                    worker = Worker(directory, "--relay", redis.url, "--threads", "2")
                    ends.append(worker.kill)
            urls[kind] = server.url.replace("http", "ws", 1)
        return urls[kind]

    yield url
    for end in ends:
        end()


@pytest.fixture(params=["double", "local", "workers"])
def stage(request: pytest.FixtureRequest, places: Callable[[str], str]) -> Iterator[Stage]:
    """The application of `behaviour_app`, three times."""
    if request.param == "double":
        yield DoubleStage(channel_routing)
        return
    server = ServerStage(places(request.param))
    yield server
    server.close()
