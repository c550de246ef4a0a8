"""Events that take their workers down: run three times, then set aside; replayed and dropped by an operator."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.consumers.conftest import Serve, Worker
from tests.relay.redis_server import Make, RedisServer
from tests.twistd import Server, until
from twisted_chat.client import ApiClient, ClientError
from twisted_chat.consumers.redis.aside import ATTEMPTS
from twisted_chat.consumers.redis.names import QueueNames

PATIENCE = 60.0
NAMES = QueueNames()
KEY = "an-api-key-of-the-operator"


class Stage:
    """A server, its Redis, and workers that die of what they are sent."""

    def __init__(
        self, server: Server, redis: RedisServer, start: Callable[..., Worker], cured: Path, log: Path
    ) -> None:
        self.server = server
        self.redis = redis
        self.cured = cured
        self.log = log
        self.operator = ApiClient(server.url, api_key=KEY)
        self._start = start

    def work(self) -> Worker:
        environ = {"POISON_CURED": str(self.cured), "POISON_LOG": str(self.log)}
        options = ("--relay", self.redis.url, "--threads", "1")
        return self._start(*options, routing="poison_app:channel_routing", environ=environ)

    def come(self, path: str = "/") -> ClientConnection:
        url = self.server.url.replace("http", "ws", 1) + path
        return connect(url, proxy=None, compression=None, open_timeout=PATIENCE)

    def age(self) -> None:
        """Ten seconds go by, for those who hold tokens and are silent."""
        for token, worker, *_ in self.redis.command("XPENDING", NAMES.ready, "workers", "-", "+", "100"):
            self.redis.command("XCLAIM", NAMES.ready, "workers", worker, "0", token, "IDLE", "20000", "JUSTID")

    def attempts(self) -> dict[bytes, bytes]:
        pairs = self.redis.command("HGETALL", NAMES.attempts)
        return dict(zip(pairs[::2], pairs[1::2], strict=True))

    def said(self) -> list[str]:
        """What the consumers wrote down."""
        return self.log.read_text("ascii").splitlines() if self.log.exists() else []

    def aside(self, count: int = 1) -> list[dict[str, Any]]:
        """What is set aside; waits until it is so many."""
        until(lambda: len(self.operator.set_aside()) == count, f"{count} events are set aside")
        return self.operator.set_aside()


@pytest.fixture
def stage(start_server: Serve, start_worker: Callable[..., Worker], make_redis: Make, tmp_path: Path) -> Stage:
    redis = make_redis()
    redis.start()
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    server = start_server("--relay", redis.url, "--consumers", "remote", "--api-key-file", str(keys))
    return Stage(server, redis, start_worker, tmp_path / "cured", tmp_path / "log")


def test_an_event_that_workers_die_of(stage: Stage) -> None:
    """Its order, that of the others of its client, and other clients."""
    worker = stage.work()
    with stage.come() as client, stage.come() as other:
        client.send("one")
        assert client.recv(PATIENCE) == "one"
        client.send("die")
        client.send("two")
        for number in range(ATTEMPTS):
            assert worker.process.wait(PATIENCE)
            other.send(str(number))
            stage.age()
            worker = stage.work()
        assert client.recv(PATIENCE) == "one two"
        assert [other.recv(PATIENCE) for _ in range(ATTEMPTS)] == ["0", "0 1", "0 1 2"]
        assert stage.said() == ATTEMPTS * ["died"]
        worker.logged("is set aside")

        [event] = stage.aside()
        assert (event["channel"], event["attempts"], "die" in event["content"]) == ("websocket.receive", ATTEMPTS, True)
        assert stage.attempts() == {}
        stage.cured.touch()
        stage.operator.replay(event["id"])
        assert client.recv(PATIENCE) == "one two die"
        assert stage.aside(0) == []
        with pytest.raises(ClientError):
            stage.operator.replay(event["id"])
    until(lambda: "left after one two die" in stage.said(), "the disconnect has run")


def test_a_connect_that_workers_die_of(stage: Stage) -> None:
    """Its client is told as if the consumer had failed; and its disconnect runs."""
    answered: list[int] = []

    def ask() -> None:
        try:
            stage.come("/?die")
        except InvalidStatus as error:
            answered.append(error.response.status_code)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    until(lambda: bool(stage.redis.command("GET", NAMES.waiting)), "it waits")
    [(_, (_, mailbox))] = stage.redis.command("XRANGE", NAMES.ready, "-", "+")
    stage.redis.command("HSET", NAMES.attempts, mailbox, b"3 0 %b.0" % mailbox)
    stage.work()
    asking.join(PATIENCE)
    assert answered == [500]
    [event] = stage.aside()
    assert event["channel"] == "websocket.connect"
    until(lambda: stage.said() == ["left after "], "the disconnect has run")
    stage.cured.touch()
    stage.operator.replay(event["id"])
    until(lambda: stage.said() == ["left after ", "survived connect"], "it has run")
    until(lambda: not stage.redis.command("KEYS", "twisted_chat:consumers:[bcms]*"), "nothing of it is left")


def test_a_disconnect_that_workers_die_of_takes_its_connection_with_it(stage: Stage) -> None:
    worker = stage.work()
    with stage.come() as client:
        client.send("one")
        assert client.recv(PATIENCE) == "one"
        worker.terminate()
    until(lambda: stage.redis.command("GET", NAMES.waiting) == b"1", "it waits")
    [(_, (_, mailbox))] = stage.redis.command("XRANGE", NAMES.ready, "-", "+")
    stage.redis.command("HSET", NAMES.attempts, mailbox, b"3 0 %b.2" % mailbox)
    stage.work()
    [event] = stage.aside()
    assert event["channel"] == "websocket.disconnect"
    until(lambda: not stage.redis.command("KEYS", "twisted_chat:consumers:[bcms]*"), "nothing of it is left")
    stage.operator.replay(event["id"])
    until(lambda: stage.said() == ["left after one"], "it has run, with its session")


def test_an_event_that_cannot_be_read_is_set_aside_and_dropped(stage: Stage) -> None:
    stage.redis.commands(
        ("RPUSH", NAMES.mailbox_key(b"odd"), b"no event"),
        ("INCR", NAMES.waiting),
        ("XADD", NAMES.ready, "*", "m", b"odd"),
    )
    worker = stage.work()
    for number in range(ATTEMPTS):
        until(lambda: worker.log.count("could not be emptied") == number + 1, "it was tried")  # noqa: B023 - called here
        stage.age()
    [event] = stage.aside()
    assert (event["connection"], event["event"], event["content"]) == ("odd", None, None)
    stage.operator.drop(event["id"])
    assert stage.aside(0) == []
    until(lambda: stage.redis.command("GET", NAMES.waiting) == b"0", "nothing waits")


def test_who_is_stopped_in_order_does_not_die_of_it(stage: Stage) -> None:
    """A deploy, in the middle of an event that was tried before, counts for nothing."""
    first = stage.work()
    with stage.come() as client:
        client.send("one")
        assert client.recv(PATIENCE) == "one"
        first.terminate()
        client.send("slow")
        until(lambda: stage.redis.command("GET", NAMES.waiting) == b"1", "it waits")
        [(_, (_, mailbox))] = stage.redis.command("XRANGE", NAMES.ready, "-", "+")
        stage.redis.command("HSET", NAMES.attempts, mailbox, b"2 0 %b.2" % mailbox)
        second = stage.work()
        until(lambda: any(b" 1 " in value for value in stage.attempts().values()), "it has begun")
        second.terminate()
        assert client.recv(PATIENCE) == "one slow"
        assert stage.attempts() == {}
    assert re.search("set aside", second.log) is None
