"""Several nodes on Redis: servers, crowds of clients that check what they see, and tunnels to fall silent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.cluster.checker import Crowd
from tests.cluster.tunnel import Tunnel
from tests.ports import free_port
from tests.relay.redis_server import Make, RedisServer, making, needed_server
from tests.twistd import Server, run, until

TESTS = Path(__file__).parents[1]
ROOMY = (
    *("--history-count", "100000", "--drain", "1"),
    *("--limit-messages-per-address", "1000000", "--limit-messages-per-connection", "1000000"),
    *("--limit-requests-per-address", "1000000"),
)
"""All clients have one address, and what is checked is the whole history."""


class Node:
    """A server, and its port for machines. It lives until it is killed."""

    def __init__(self, directory: Path, relays: tuple[str, ...], environ: Mapping[str, str]) -> None:
        admin = free_port()
        directory.mkdir()
        self.admin = f"http://127.0.0.1:{admin}"
        named = [text for relay in relays for text in ("--relay", relay)]
        options = (*named, "--admin-port", f"tcp:{admin}:interface=127.0.0.1", *ROOMY)
        self.server = Server(directory, options, environ, "tcp:{port}:interface=127.0.0.1")

    @property
    def url(self) -> str:
        return self.server.url

    def is_ready(self) -> bool:
        return httpx.get(f"{self.admin}/readyz/full", trust_env=False, timeout=60).status_code == 200

    def is_ready_in_part(self) -> bool:
        answer = httpx.get(f"{self.admin}/readyz", trust_env=False, timeout=60)
        return answer.status_code == 200 and answer.json()["state"] == "partial"

    def obstacles(self) -> str:
        """What is in the way."""
        return httpx.get(f"{self.admin}/readyz", trust_env=False, timeout=60).text

    def is_alive(self) -> bool:
        """The process of the beginning runs, and its event loop turns."""
        answer = httpx.get(f"{self.admin}/healthz", trust_env=False, timeout=60)
        return self.server.process.poll() is None and answer.status_code == 200


class Cluster:
    """Nodes that are to be one server."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def servers(self) -> list[Server]:
        return [node.server for node in self.nodes]

    def ready(self) -> None:
        """Wait until all of them are."""
        until(lambda: all(node.is_ready() for node in self.nodes), "nodes that are ready")

    def stop(self) -> None:
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()


def start_cluster(directory: Path, *relays: tuple[str, ...], environ: Mapping[str, str] | None = None) -> Cluster:
    """One node for each of `relays`, the URLs that it is given."""
    with ThreadPoolExecutor(len(relays)) as pool:
        starts = [
            pool.submit(Node, directory / f"{number}-{uuid4()}", urls, environ or {})
            for number, urls in enumerate(relays)
        ]
    return Cluster([start.result() for start in starts])


@pytest.fixture
def make_redis() -> Iterator[Make]:
    """``make_redis(*options)``: a server on a TCP port, not started yet."""
    with making() as make:

        def one(*options: str) -> RedisServer:
            server = make(*options)
            server.port = free_port()
            return server

        yield one


@pytest.fixture
def redis(make_redis: Make) -> RedisServer:
    """One that writes everything to the disk before it answers."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    server.start()
    return server


@pytest.fixture
def start_nodes(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """``start_nodes(urls, urls, urls)``: a node for each tuple of relays; `environ` is their environment."""
    clusters: list[Cluster] = []

    def start(*relays: tuple[str, ...], environ: Mapping[str, str] | None = None) -> Cluster:
        clusters.append(start_cluster(tmp_path, *relays, environ=environ))
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
def cluster(start_nodes: Callable[..., Cluster], redis: RedisServer) -> Cluster:
    """Three nodes on one Redis."""
    cluster = start_nodes(*[(redis.tcp_url,)] * 3)
    cluster.ready()
    return cluster


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that the tests of a module share, each in rooms of its own."""
    server = RedisServer(needed_server())
    server.port = free_port()
    try:
        server.start()
        cluster = start_cluster(tmp_path_factory.mktemp("cluster"), *[(server.tcp_url,)] * 3)
        try:
            cluster.ready()
            yield cluster
        finally:
            cluster.stop()
    finally:
        server.stop()


@pytest.fixture
def room() -> str:
    """One that nobody else uses."""
    return f"room {uuid4()}"


@pytest.fixture
def gather(room: str) -> Iterator[Callable[..., Crowd]]:
    """``gather(urls)``: a crowd that talks in the test's room, or in another."""
    crowds: list[Crowd] = []

    def gather(urls: list[str], room: str = room, **options: Any) -> Crowd:
        crowds.append(Crowd(urls, room, **options))
        return crowds[-1]

    yield gather
    for crowd in crowds:
        crowd.close()


@pytest.fixture
def dig() -> Iterator[Callable[[int], Tunnel]]:
    """``dig(port)``: a tunnel to that port."""
    tunnels: list[Tunnel] = []

    def dig(port: int) -> Tunnel:
        tunnels.append(Tunnel(port))
        return tunnels[-1]

    yield dig
    for tunnel in tunnels:
        tunnel.close()


@pytest.fixture
def start_server() -> Callable[..., Server]:
    """``start_server(directory, options)``: one that is not a `Node`."""

    def start(directory: Path, options: tuple[str, ...]) -> Server:
        return Server(directory, (*options, *ROOMY), {}, "tcp:{port}:interface=127.0.0.1")

    return start


@pytest.fixture
def run_twistd(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``twistd`` with arguments, one that is expected to end."""
    return partial(run, tmp_path)
