"""Several processes on one machine: whichever of them is killed, what was promised to clients holds."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.checker import Crowd
from tests.relay.redis_server import RedisServer
from tests.twistd import Server, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sockets cannot be passed on to processes here")

Gather = Callable[..., Crowd]


@pytest.fixture
def server(tmp_path: Path, redis: RedisServer, start_server: Callable[..., Server]) -> Iterator[Server]:
    server = start_server(tmp_path, ("--processes", "2", "--relay", redis.tcp_url))
    yield server
    if server.process.poll() is None:
        server.terminate()


def lives(server: Server, number: int) -> list[int]:
    """The pids of a process, in their order."""
    return [int(pid) for pid in re.findall(rf"process {number} is ready \(pid (\d+)\)", server.log)]


def kill(server: Server, number: int) -> None:
    """Until there is another in its place."""
    before = lives(server, number)
    os.kill(before[-1], signal.SIGKILL)
    until(lambda: len(lives(server, number)) > len(before), "a process in its place")


def test_they_are_killed_again_and_again(server: Server, gather: Gather) -> None:
    crowd = gather([server.url])
    for number in (1, 2, 1):
        crowd.talk(36)
        kill(server, number)
    crowd.talk(36)
    crowd.check()
    assert crowd.resets == 0
