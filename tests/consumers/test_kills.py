"""Servers, workers and Redis, stopped and killed while clients talk: every event is run, in order, and none is lost."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.consumers.conftest import Serve, Worker
from tests.relay.redis_server import Make, RedisServer
from tests.twistd import Server

PATIENCE = 90.0
"""Seconds; a node is given up after 20 of silence, a worker after 10."""

COUNT = 150
CLIENTS = 4


def come(server: Server, path: str) -> ClientConnection:
    """A client of a consumer."""
    return connect(server.url.replace("http", "ws", 1) + path, proxy=None, compression=None, open_timeout=PATIENCE)


class Talkers:
    """Clients that each send numbers, and check that they come back: each once, in order."""

    def __init__(self, server: Server) -> None:
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._sockets = [come(server, "/sleepy") for _ in range(CLIENTS)]
        self._half = threading.Barrier(CLIENTS + 1)
        self._talks: list[Future[list[str]]] = [self._pool.submit(self._talk, socket) for socket in self._sockets]

    def _talk(self, socket: ClientConnection) -> list[str]:
        for number in range(COUNT):
            socket.send(str(number))
        received = []
        for number in range(COUNT):
            received.append(str(socket.recv(PATIENCE)))
            if number == COUNT // 4:
                self._half.wait(PATIENCE)
        return received

    def midway(self) -> None:
        """Waits until they are in the midst of it."""
        self._half.wait(PATIENCE)

    def finish(self) -> None:
        """Nothing was lost, doubled or swapped; and then they leave."""
        expected = [str(number) for number in range(COUNT)]
        for talk in self._talks:
            assert talk.result(PATIENCE) == expected
        for socket in self._sockets:
            socket.close()

    def close(self) -> None:
        self._half.abort()
        for socket in self._sockets:
            socket.close()
        self._pool.shutdown()


class Runs:
    """What the consumers wrote down: which event of which connection was run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def by_connection(self) -> dict[str, list[int]]:
        """The numbers of the events, in the order in which they were run."""
        found = defaultdict(list)
        whole, _, _ = self.file.read_text("ascii").rpartition("\n")  # what comes after it is still being written
        for line in whole.splitlines():
            name, order, _ = line.split()
            found[name].append(int(order))
        return found

    def check(self) -> int:
        """Every event was run at least once, none before those that came before it; returns how many ran twice."""
        twice = 0
        for orders in self.by_connection().values():
            first = list(dict.fromkeys(orders))
            assert first == list(range(1, COUNT + 2)), "the messages, and the disconnect"
            twice += len(orders) - len(first)
        return twice

    def until_all_have_left(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while sum(orders[-1] == COUNT + 1 for orders in self.by_connection().values()) < CLIENTS:
            assert time.monotonic() < deadline, "not all disconnects came"
            time.sleep(0.05)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    file = tmp_path / "runs"
    file.touch()
    return Runs(file)


@pytest.fixture
def redis(make_redis: Make) -> RedisServer:
    """What is acknowledged outlives it."""
    server = make_redis("--appendonly", "yes")
    server.start()
    return server


@pytest.fixture
def talkers() -> Iterator[Callable[[Server], Talkers]]:
    made: list[Talkers] = []

    def talk(server: Server) -> Talkers:
        made.append(Talkers(server))
        return made[-1]

    yield talk
    for each in made:
        each.close()


@pytest.fixture
def work(start_worker: Callable[..., Worker], redis: RedisServer, runs: Runs) -> Callable[..., Worker]:
    """Starts one more worker, with more options."""
    options = ("--relay", redis.url, "--threads", "2")
    return lambda *more: start_worker(*options, *more, environ={"BEHAVIOUR_LOG": str(runs.file)})


Talk = Callable[["Server"], Talkers]


def test_a_worker_is_killed(
    start_server: Serve, work: Callable[[], Worker], redis: RedisServer, talkers: Talk, runs: Runs
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    first, _ = work(), work()
    talking = talkers(server)
    talking.midway()
    first.kill()
    talking.finish()
    runs.until_all_have_left()
    runs.check()


def test_what_is_delayed_outlives_workers(start_server: Serve, work: Callable[[], Worker], redis: RedisServer) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    first, _ = work(), work()
    with come(server, "/tool") as socket:
        socket.recv(PATIENCE)
        for number in range(COUNT):
            socket.send(f"delay {10 * number} {number}")
        heard = {socket.recv(PATIENCE) for _ in range(COUNT // 4)}
        first.kill()
        redis.kill()
        redis.start()
        while len(heard) < COUNT:
            heard.add(socket.recv(PATIENCE))
    assert heard == {f"{number} True" for number in range(COUNT)}


def test_all_workers_are_replaced(
    start_server: Serve, work: Callable[[], Worker], redis: RedisServer, talkers: Talk, runs: Runs
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    old = [work(), work()]
    talking = talkers(server)
    talking.midway()
    for worker in old:
        worker.terminate()
    work()
    talking.finish()
    runs.until_all_have_left()
    assert runs.check() == 0, "what was begun was finished"


def test_a_worker_does_not_wait_for_a_consumer_for_ever(
    start_server: Serve, work: Callable[..., Worker], redis: RedisServer, runs: Runs
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    worker = work("--drain", "0.2")
    with come(server, "/stuck") as socket:
        socket.send("hello")
        deadline = time.monotonic() + PATIENCE
        while not runs.by_connection():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker.terminate()
        work()
        assert socket.recv(PATIENCE) == "hello"
    assert list(runs.by_connection().values()) == [[1, 1]]


def test_a_connection_that_was_given_up_is_ended(
    start_server: Serve, work: Callable[..., Worker], redis: RedisServer
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    work()
    with come(server, "/sleepy") as socket:
        socket.send("hello")
        assert socket.recv(PATIENCE) == "hello"
        # What others do with the connections of a server that they do not hear of.
        [table] = redis.command("KEYS", "twisted_chat:consumers:connections:*")
        redis.command("DEL", table)
        socket.send("anybody there?")
        with pytest.raises(ConnectionClosed) as end:
            socket.recv(PATIENCE)
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1001


def test_redis_is_killed(
    start_server: Serve, work: Callable[[], Worker], redis: RedisServer, talkers: Talk, runs: Runs
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    work()
    work()
    talking = talkers(server)
    talking.midway()
    redis.kill()
    redis.start()
    talking.finish()
    runs.until_all_have_left()
    runs.check()


def test_a_server_is_killed(
    start_server: Serve, work: Callable[[], Worker], redis: RedisServer, talkers: Talk, runs: Runs
) -> None:
    doomed = start_server("--relay", redis.url, "--consumers", "remote")
    start_server("--relay", redis.url, "--consumers", "remote")
    work()
    sockets = [come(doomed, "/sleepy") for _ in range(CLIENTS)]
    for socket in sockets:
        socket.send("hello")
        assert socket.recv(PATIENCE) == "hello"
    doomed.kill()
    deadline = time.monotonic() + PATIENCE
    while sum(orders == [1, 2] for orders in runs.by_connection().values()) < CLIENTS:
        assert time.monotonic() < deadline, "the consumers are not told that their clients are gone"
        time.sleep(0.1)
    for socket in sockets:
        socket.close()
    # The last of them is put away after it has run.
    while left := redis.command("KEYS", "twisted_chat:consumers:[cms]*"):
        assert time.monotonic() < deadline, f"of the connections there is still {left}"
        time.sleep(0.05)


def test_a_server_stops_while_there_are_no_workers(
    start_server: Serve, work: Callable[[], Worker], redis: RedisServer, talkers: Talk, runs: Runs
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    worker = work()
    talking = talkers(server)
    talking.midway()
    worker.terminate()
    server.terminate()
    work()
    deadline = time.monotonic() + PATIENCE
    while sum(orders[-1] > 1 and len(set(orders)) == orders[-1] for orders in runs.by_connection().values()) < CLIENTS:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log = runs.file.read_text("ascii")
    while log.count("websocket.disconnect") < CLIENTS:
        assert time.monotonic() < deadline, "the consumers are not told that their clients are gone"
        time.sleep(0.05)
        log = runs.file.read_text("ascii")


def test_who_sends_faster_than_workers_can_waits(
    start_server: Serve, work: Callable[[], Worker], redis: RedisServer, runs: Runs
) -> None:
    server = start_server("--relay", redis.url, "--consumers", "remote")
    worker = work()
    flood = 20_000
    with come(server, "/sleepy") as socket:
        worker.terminate()
        sent: list[int] = []

        def send() -> None:
            with suppress(ConnectionClosed):
                for number in range(flood):
                    socket.send(f"{number:0>1000}")
                    sent.append(number)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        _until_it_rests(lambda: len(sent))
        assert len(sent) < flood, "the client was not stopped"
        [mailbox] = redis.command("KEYS", "twisted_chat:consumers:mailbox:*")
        assert int(redis.command("LLEN", mailbox)) <= 64 + 32
        work()
        for number in range(200):
            assert int(socket.recv(PATIENCE)) == number
        socket.socket.shutdown(SHUT_RDWR)
        sending.join(PATIENCE)


def _until_it_rests(count: Callable[[], Any]) -> None:
    """Waits until it has not changed for a while."""
    last, since = count(), time.monotonic()
    deadline = since + PATIENCE
    while time.monotonic() - since < 2.0:
        assert time.monotonic() < deadline
        if count() != last:
            last, since = count(), time.monotonic()
        time.sleep(0.05)
