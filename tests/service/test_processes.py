"""The server in several processes: when it is that, and what one of them does differently."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import stdio
from twisted.internet.testing import StringTransport

from tests.service.conftest import Built, Reactor
from tests.twistd import PATIENCE, environment
from twisted_chat import chat
from twisted_chat.__main__ import main
from twisted_chat.chat import build as build_service
from twisted_chat.config import Config, ConfigError
from twisted_chat.life import LifeSigns
from twisted_chat.options import Options
from twisted_chat.processes.process import SIGN_SECONDS, VARIABLE, Process
from twisted_chat.processes.supervisor import Supervisor
from twisted_chat.relay.interface import RelayError
from twisted_chat.service import MISTAKES, ChatService

posix = pytest.mark.skipif(os.name != "posix", reason="sockets cannot be passed on to processes here")

PORT = "tcp:8080:interface=127.0.0.1"
CONFIG = Config(port=(PORT,), relay=("memory:",), drain=4.0)


def options(*arguments: str, **twistd: Any) -> Options:
    parsed: Any = Options()
    parsed.parent = {"nodaemon": True, **twistd}
    parsed.parseOptions(list(arguments))
    assert isinstance(parsed, Options)
    return parsed


# Whether there are several


@posix
def test_several_processes_are_supervised(reactor: Reactor) -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "OTHER": "x"}
    made = build_service(options("--processes", "3", "--relay", "redis://127.0.0.1"), reactor, environ)
    assert isinstance(made, Supervisor)
    assert list(made.children) == [1, 2, 3]
    assert environ == {"OTHER": "x"}, "what systemd says to the supervisor is for nobody else"
    assert not reactor.ports
    assert not reactor.getDelayedCalls()


def test_one_process_is_alone(reactor: Reactor) -> None:
    assert isinstance(build_service(options("--processes", "1", "--relay", "memory:"), reactor, {}), ChatService)


@posix
@pytest.mark.parametrize("relays", [["memory:"], ["sqlite:"], ["sqlite:chat.db"]])
def test_they_need_a_relay_between_them(reactor: Reactor, relays: list[str]) -> None:
    given = [text for relay in relays for text in ("--relay", relay)]
    with pytest.raises(ConfigError, match=r"^--processes 2: several processes need a relay .* --relay redis://"):
        build_service(options("--processes", "2", *given), reactor, {})


@posix
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--allow-origin", "example.com"], "'example.com' is no origin to allow"),
        (["-p", "tcp:80x"], "--port: cannot listen on 'tcp:80x'"),
        (["--admin-port", "tcp:80x"], "--admin-port: cannot listen on 'tcp:80x'"),
    ],
)
def test_a_mistake_is_found_before_any_process_is_started(reactor: Reactor, arguments: list[str], said: str) -> None:
    with pytest.raises(MISTAKES) as error:
        build_service(options("--processes", "2", "--relay", "redis://127.0.0.1", *arguments), reactor, {})
    assert str(error.value).startswith(said)


@posix
def test_where_no_process_can_be_started(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--processes", "2", "--relay", "redis://127.0.0.1")
    with pytest.raises(ConfigError, match="with twistd --chroot no process can be started"):
        build_service(options(*given, chroot="/srv"), reactor, {})
    monkeypatch.setattr(chat.os, "name", "nt")  # type: ignore[attr-defined]  # it is imported there
    with pytest.raises(ConfigError, match=r"^--processes: this system cannot pass sockets on"):
        build_service(options(*given), reactor, {})


@posix
def test_a_configuration_is_checked_with_its_processes(capsys: pytest.CaptureFixture[str]) -> None:
    # In a process of its own: it asks the Redis, for which it runs a reactor.
    command = [sys.executable, "-m", "twisted_chat", "check", "--processes", "2", "--relay", "redis://127.0.0.1:1"]
    assert subprocess.run(command, env=environment(), capture_output=True, timeout=PATIENCE).returncode == 0
    assert main(["check", "--processes", "2", "--relay", "memory:"]) == 1
    assert capsys.readouterr().err.startswith("twisted_chat check: --processes 2: several processes need a relay")


# In one of them


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> StringTransport:
    """The way to the supervisor."""
    transport = StringTransport()
    monkeypatch.setattr(stdio, "StandardIO", lambda link, *_: link.makeConnection(transport))

    def life_signs(reactor: Reactor) -> LifeSigns:
        return LifeSigns(reactor, SIGN_SECONDS, lambda: None, lambda *_: lambda: None)

    monkeypatch.setattr("twisted_chat.service.life_signs", life_signs)
    return transport


def said_to_it(pipes: StringTransport) -> list[Any]:
    messages = [json.loads(line) for line in pipes.value().splitlines()]
    pipes.clear()
    return messages


def test_it_reports_to_the_supervisor(
    build: Callable[..., Built], pipes: StringTransport, said: Callable[[], list[str]]
) -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000"}
    config = replace(CONFIG, admin_port="tcp:9100")
    built = build(config, environ=environ, process=Process(2, (PORT,), ("memory:",)))
    assert built.service.nodes.name.startswith(f"{socket.gethostname()}-2-")
    built.service.startService()
    assert said_to_it(pipes) == [{"say": "started"}]
    built.relay.begin()
    assert said_to_it(pipes) == [{"say": "ready"}]
    assert not built.reactor.ports, "the supervisor has the ports, that for operators too"
    assert not any("browser" in line or "the rooms are open" in line for line in said())

    link: Any = built.service._link
    link.dataReceived(b'{"order": 1, "do": "report"}\n{"order": 2, "do": "reload"}\n')
    report, reloaded = said_to_it(pipes)
    assert (report["obstacles"], report["nodes"]) == ([], 1)
    assert ["twisted_chat_ready", [["twisted_chat_ready", {}, 1.0]]] in [
        [name, samples] for name, _, _, samples in report["metrics"]
    ]
    assert reloaded == {"order": 2}
    link.dataReceived(b'{"order": 3, "do": "stop"}\n')
    assert built.reactor.events == ["stop"]
    built.stop()
    built.reactor.advance(1)
    assert {"say": "stopping"} in said_to_it(pipes)


def test_its_relay_cannot_start(
    build: Callable[..., Built],
    pipes: StringTransport,
    said: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(atexit, "register", lambda _: None)
    built = build(process=Process(1, (PORT,), ("memory:",)))
    built.service.startService()
    said_to_it(pipes)
    built.relay.fail(RelayError("it is too old"))
    assert said_to_it(pipes) == [{"say": "failed", "message": "the relay cannot start: it is too old"}]
    assert not any("too old" in line for line in said()), "the supervisor says it, once"


def test_it_has_ports_and_relay_of_the_supervisor(reactor: Reactor, tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text('port = "tcp:8081"\nrelay = "sqlite:"\nprocesses = 2\ndrain = 3', encoding="utf-8")
    environ = {VARIABLE: Process(1, (PORT,), ("memory:",)).variable()}
    made = build_service(options("--config", str(file)), reactor, environ)
    assert isinstance(made, ChatService)
    assert (made.config.port, made.config.relay, made.config.drain) == ((PORT,), ("memory:",), 3.0)
    assert environ == {}
