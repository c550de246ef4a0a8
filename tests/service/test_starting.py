"""How the server starts, or says why not."""

from __future__ import annotations

import atexit
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Built
from twisted_chat.config import Config
from twisted_chat.listening import StartError
from twisted_chat.relay.interface import RelayError
from twisted_chat.server.heartbeat import PARTS
from twisted_chat.service import PATIENCE

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("memory:",), drain=4.0)


def key_file(path: Path) -> Path:
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path


def test_a_start(build: Callable[..., Built], said: Callable[[], list[str]]) -> None:
    built = build(replace(CONFIG, port=("tcp:8080", "tcp:8081"), admin_port="tcp:9100"))
    built.bind()
    assert sorted(built.reactor.ports) == [8080, 8081, 9100]
    accepting = [built.reactor.ports[number].accepting for number in (8080, 8081, 9100)]
    assert accepting == [False, False, True], "clients wait, operators are answered"
    built.service.startService()
    assert b" 503 " in built.get("/readyz", admin=True)
    assert not any("browser" in line for line in said())
    built.relay.begin()
    assert all(port.accepting for port in built.reactor.ports.values())
    assert b" 200 " in built.get("/readyz", admin=True)
    assert b"twisted_chat_ready 1.0" in built.get("/metrics", admin=True)
    lines = "\n".join(said())
    assert "open http://127.0.0.1:8080/ in a browser; a room is http://127.0.0.1:8080/chat/ROOM" in lines
    assert "metrics are at http://127.0.0.1:9100/metrics" in lines
    assert "the rooms are open: whoever reaches the port reads and writes all of them" in lines
    assert "history is kept in memory only" in lines


def test_nothing_is_warned_of_that_is_not_so(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    built = build(replace(CONFIG, token_key_file=key_file(tmp_path / "key")))
    built.relay.durable = True
    built.start()
    assert not any("the rooms are open" in line or "history is kept in memory" in line for line in said())


LOCAL = "only localhost and addresses are answered to; --allow-host names other hosts"
ANY = "any host is answered to, so pages of any site"


@pytest.mark.parametrize(
    ("changes", "bound", "answered"),
    [
        ({}, "127.0.0.1", False),
        ({"port": ("tcp:8080", "tcp:8081")}, "127.0.0.1", False),
        ({"port": ("tcp6:8080:interface=\\:\\:1",)}, "::1", False),
        ({}, "::ffff:127.0.0.1", False),
        ({"allow_host": ("other.example",)}, "0.0.0.0", False),
        ({"port": ("tcp:8080",)}, "0.0.0.0", True),
        ({"port": ("tcp6:8080",)}, "::", True),
        ({}, "192.0.2.1", True),
        ({"trusted_proxies": 1}, "127.0.0.1", True),
        ({"port": ("haproxy:tcp:8080:interface=127.0.0.1",)}, "127.0.0.1", True),
        ({"port": ("tls:8443:interface=127.0.0.1",), "self_signed": True}, "127.0.0.1", True),
        ({"port": ("tcp:8080:interface=127.0.0.1", "unix:/run/chat.sock")}, "127.0.0.1", True),
        ({"allow_host": ("*.example",)}, "127.0.0.1", True),
        ({"allow_host": ("*",)}, "127.0.0.1", True),
    ],
)
def test_which_hosts_are_answered_to(
    build: Callable[..., Built],
    said: Callable[[], list[str]],
    tmp_path: Path,
    changes: dict[str, Any],
    bound: str,
    answered: bool,
) -> None:
    built = build(replace(CONFIG, **changes), environ={"STATE_DIRECTORY": str(tmp_path)})
    built.reactor.bound = bound
    built.start()
    assert (b" 200 " in built.get("/chat/lobby", headers="Host: chat.example\r\n")) is answered
    assert b" 200 " in built.get("/chat/lobby", headers="Host: localhost:8080\r\n")
    assert b" 200 " in built.get("/healthz", admin=True, headers="Host: chat.example\r\n")
    named = "allow_host" in changes
    assert (LOCAL in said()) is (not named and not answered)
    by_itself = not changes.keys() & {"allow_host", "trusted_proxies", "self_signed"} and "haproxy" not in str(changes)
    assert any(line.startswith(ANY) for line in said()) is (by_itself and answered)


def test_closed_rooms_are_open_to_no_foreign_page(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    built = build(replace(CONFIG, port=("tcp:8080",), token_key_file=key_file(tmp_path / "key")))
    built.reactor.bound = "0.0.0.0"
    built.start()
    assert not any(line.startswith(ANY) for line in said())


def test_where_no_browser_gets_to(build: Callable[..., Built], said: Callable[[], list[str]]) -> None:
    built = build(replace(CONFIG, port=("unix:/run/chat.sock",)))
    built.start()  # its port cannot be paused
    assert "listening on unix:/run/chat.sock" in said()


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_that_is_taken(build: Callable[..., Built], option: str) -> None:
    built = build(replace(CONFIG, port=("tcp:8080",), admin_port="tcp:9100"))
    number = 8080 if option == "--port" else 9100
    built.reactor.taken = {number}
    with pytest.raises(StartError) as error:
        built.bind()
    assert str(error.value) == f"{option} tcp:{number}: cannot listen there: Address already in use"


def test_clients_do_not_wait_for_ever(build: Callable[..., Built]) -> None:
    built = build()
    built.bind()
    built.service.startService()
    port = built.reactor.ports[8080]
    built.reactor.advance(PATIENCE - 0.1)
    assert not port.accepting
    built.reactor.advance(0.2)
    assert port.accepting


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to be done when the process ends."""
    calls: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", calls.append)
    return calls


def test_a_relay_that_cannot_start(
    build: Callable[..., Built],
    said: Callable[[], list[str]],
    at_exit: list[Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = build()
    built.bind()
    built.service.startService()
    built.relay.fail(RelayError("sqlite:chat.db: is in use by another process"))
    assert said()[-1] == "the relay cannot start: sqlite:chat.db: is in use by another process"
    assert built.reactor.events == []
    built.reactor.run()
    assert built.reactor.events == ["stop"]
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    (at_end,) = at_exit
    at_end()
    assert exits == [1]


def test_a_stop_in_the_middle_of_a_start_is_no_failure(
    build: Callable[..., Built], said: Callable[[], list[str]], at_exit: list[Callable[[], None]]
) -> None:
    built = build()
    built.bind()
    built.service.startService()
    assert built.stop() == [None]
    built.relay.fail(RelayError("the relay was stopped while it was starting"))
    assert at_exit == []
    assert "stop" not in built.reactor.events
    assert not any("cannot start" in line for line in said())


def test_silent_connections_are_kept_known(build: Callable[..., Built]) -> None:
    built = build()
    built.start()
    client = built.connect()
    client.protocol.dataReceived(b"GET /chat/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    built.reactor.advance(0)
    client.clear()
    for _ in range(PARTS):
        built.reactor.advance(CONFIG.limits.ping_interval / PARTS)
    assert client.value() == b"3\r\n:\n\n\r\n"


def test_what_is_measured(build: Callable[..., Built]) -> None:
    built = build()
    built.start()
    client = built.connect()
    client.protocol.dataReceived(b"GET /chat/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    built.reactor.advance(1.0)
    sample = built.service.metrics.registry.get_sample_value
    assert sample("twisted_chat_rooms") == 1.0
    assert sample("twisted_chat_connections", {"transport": "event_stream"}) == 1.0
    assert sample("twisted_chat_reactor_tick_seconds_count") == 1.0
    built.get("/chat/%00")
    assert sample("twisted_chat_refusals_total", {"reason": "bad_room"}) == 1.0
