"""The order of a stop, and what shortens it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.service.conftest import Built
from twisted_chat.config import Config
from twisted_chat.server.draining import GRACE

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("memory:",), drain=4.0)


UNFINISHED = (
    b"POST /chat/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)
"""A request whose body never comes."""


def test_the_order_of_a_stop(build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(replace(CONFIG, admin_port="tcp:9100"))
    built.start()
    service, events = built.service, built.reactor.events
    client = built.connect()
    client.protocol.dataReceived(b"GET /chat/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    (connection,) = service.connections.open

    def write_down(owner: object, name: str) -> None:
        call = getattr(owner, name)

        def noted(*arguments: object) -> object:
            events.append(" ".join([name, *(f"{each:g}" for each in arguments if isinstance(each, float))]))
            return call(*arguments)

        monkeypatch.setattr(owner, name, noted)

    write_down(service._notifier, "stopping")
    write_down(service._readiness, "draining")
    write_down(connection.edge, "say_goodbye")
    stopped = built.stop()
    assert stopped == []
    assert b'"draining"' in built.get("/readyz", admin=True)
    assert service.site.buildProtocol(None) is None, "who was accepted by accident is not served"
    built.reactor.advance(0.1)
    assert stopped == [None]
    assert events == [
        f"stopping {CONFIG.drain + 2 * GRACE:g}",
        "draining",
        "close 8080",
        "say_goodbye",
        "relay",
        "close 9100",
    ]
    assert b"retry: " in client.value()


def test_a_stop_without_a_start(build: Callable[..., Built]) -> None:
    built = build()
    built.bind()
    assert built.stop() == [None]
    assert built.reactor.events == ["close 8080", "relay"]


def test_what_does_not_end_is_cut_off(build: Callable[..., Built]) -> None:
    built = build()
    built.start()
    client = built.connect()
    client.protocol.dataReceived(UNFINISHED)
    stopped = built.stop()
    built.reactor.advance(GRACE - 0.1)
    assert (stopped, client.lost) == ([], False)
    built.reactor.advance(0.2)
    assert (stopped, client.lost) == ([None], True)


@pytest.fixture
def harmless() -> Iterator[Callable[..., object]]:
    """What signals to stop do meanwhile, which is nothing: a test that fails does not end all others."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def nothing(*_: object) -> None:
        pass

    for number in before:
        signal.signal(number, nothing)
    yield nothing
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_signal_cuts_everyone_off(
    build: Callable[..., Built], said: Callable[[], list[str]], harmless: Callable[..., object], name: str
) -> None:
    number = getattr(signal, name)
    built = build()
    built.start()
    built.reactor.stop()
    client = built.connect()
    client.protocol.dataReceived(UNFINISHED)
    stopped = built.stop()
    assert stopped == []
    signal.raise_signal(number)
    assert (stopped, client.lost) == ([None], True)
    assert "told to stop again: the 1 clients that are left are cut off" in said()
    assert signal.getsignal(number) is harmless


def test_a_signal_stops_the_process_where_only_the_service_was_stopping(
    build: Callable[..., Built], harmless: Callable[..., object]
) -> None:
    built = build()
    built.start()
    client = built.connect()
    client.protocol.dataReceived(UNFINISHED)
    built.stop()
    assert "stop" not in built.reactor.events
    signal.raise_signal(signal.SIGTERM)
    assert "stop" in built.reactor.events


def test_in_another_thread_signals_are_left_alone(build: Callable[..., Built]) -> None:
    built = build()
    built.start()
    before = signal.getsignal(signal.SIGTERM)
    stopped: list[None] = []
    thread = threading.Thread(target=lambda: stopped.extend(built.stop()))
    thread.start()
    thread.join()
    assert stopped == [None]
    assert signal.getsignal(signal.SIGTERM) is before
