"""The service of ``twistd chat-worker``, and what a server that has consumers is told about mistakes."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.logger import capturedLogs, formatEvent

from tests.memory_reactor import Reactor
from twisted_chat.config import Config, ConfigError
from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.redis.connection import queue_server
from twisted_chat.consumers.runner import Pool
from twisted_chat.options import WORKER_SETTINGS, WorkerOptions
from twisted_chat.relay.interface import RelayError
from twisted_chat.service import ChatService
from twisted_chat.worker import WorkerService

REDIS = ("redis://127.0.0.1:1",)


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (Config(relay=REDIS), ConfigError, "--routing: say which consumers to run"),
        (Config(routing="a:b"), ConfigError, "--relay: a worker takes its work from Redis"),
        (Config(relay=REDIS, routing="a"), RoutingError, "--routing: 'a' will not do; give MODULE:NAME"),
    ],
)
def test_mistakes_of_a_worker(config: Config, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        WorkerService(config, reactor, {})


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (Config(consumers="remote"), ConfigError, "--consumers remote: workers take their work from Redis"),
        (Config(routing="no_such:thing"), RoutingError, "--routing: no_such:thing: ModuleNotFoundError"),
    ],
)
def test_mistakes_of_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, error: type[Exception], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        ChatService(config, reactor, {})


def test_a_worker_that_cannot_start_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    monkeypatch.setattr(Pool, "start", lambda _: None)
    memory = Reactor()
    service = WorkerService(Config(relay=REDIS, routing="tests.consumers.behaviour_app:channel_routing"), memory, {})
    monkeypatch.setattr(service, "_relay", Mock(start=lambda _: fail(RelayError("no room for another link"))))
    with capturedLogs() as events:
        service.startService()
        memory.run()
    assert [formatEvent(event) for event in events] == ["the worker cannot start: no room for another link"]
    assert (memory.events, len(at_exit)) == (["stop"], 1)
    for timer in memory.getDelayedCalls():
        timer.cancel()


def parse(*arguments: str) -> Config:
    options = WorkerOptions()
    options.parseOptions(list(arguments))
    return options.config


def test_options_of_a_worker() -> None:
    config = parse(
        "--relay",
        REDIS[0],
        "--routing",
        "a:b",
        "--threads",
        "3",
        "--drain",
        "5",
        "--log-format",
        "json",
        "--log-level=warn",
    )
    assert config == Config(relay=REDIS, routing="a:b", threads=3, drain=5.0, log_format="json", log_level="warn")


def test_a_worker_may_be_given_the_file_of_a_server(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text('port = "tcp:1"\nrelay = "redis://a"\nrouting = "a:b"\nconsumers = "remote"\nthreads = 2\n')
    config = parse("--config", str(file), "--threads", "4")
    assert (config.relay, config.routing, config.threads) == (("redis://a",), "a:b", 4)


def test_the_admin_port_in_the_file_is_the_server_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chat.toml"
    file.write_text('admin-port = "tcp:9100"\n')
    assert parse("--config", str(file)).admin_port is None
    assert parse("--config", str(file), "--admin-port", "tcp:9101").admin_port == "tcp:9101"
    monkeypatch.setenv("TWISTED_CHAT_ADMIN_PORT", "tcp:9102")
    assert parse("--config", str(file)).admin_port == "tcp:9102"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "tcp:1"], "twistd chat-worker: there is no option --port"),
        (["now"], "twistd chat-worker: 'now': only options are taken here, see twistd chat-worker --help"),
        (["--threads", "0"], "twistd chat-worker: --threads: '0' will not do; give a whole number from 1 to 1000"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as error:
        parse(*arguments)
    assert str(error.value.code).startswith(said)


def test_help_of_a_worker_names_its_options() -> None:
    text = str(WorkerOptions())
    assert all(f"--{name}" in text for name in WORKER_SETTINGS)
    assert "--port" not in text


def test_all_agree_on_the_server_that_has_the_queue() -> None:
    urls = ["redis://b", "redis://:secret@a:6380/2", "redis://c"]
    found: Any = {queue_server(order) for order in (urls, urls[::-1])}
    assert [server.name for server in found] == ["redis://a:6380/2"]
