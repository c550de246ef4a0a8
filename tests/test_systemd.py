"""What systemd is told, over a real socket where the system has them."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs

from tests.repeating import by_clock
from twisted_chat.systemd import MAX_STATUS, Notifier, Watchdog

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def received(self) -> list[list[str]]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages


@pytest.fixture
def address() -> Iterator[str]:
    # tmp_path is too long for a socket's address on macOS.
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory, "notify"))


@pytest.fixture
def systemd(address: str) -> Iterator[Systemd]:
    systemd = Systemd(address)
    yield systemd
    systemd.socket.close()


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


def test_the_life_of_a_service(systemd: Systemd, address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address}, monotonic=lambda: 5_000_123_999)
    assert notifier.enabled
    notifier.status("waiting for redis")
    notifier.ready("3 endpoints")
    notifier.reloading()
    notifier.ready("3 endpoints")
    notifier.stopping()

    assert systemd.received() == [
        ["STATUS=waiting for redis"],
        ["READY=1", "STATUS=3 endpoints"],
        ["RELOADING=1", "MONOTONIC_USEC=5000123", "STATUS=reloading"],
        ["READY=1", "STATUS=3 endpoints"],
        ["STOPPING=1", "STATUS=stopping"],
    ]


def test_stopping_asks_for_the_time_it_takes(systemd: Systemd, address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).stopping(within=12.5)
    assert systemd.received() == [["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=12500000"]]


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace is Linux's")
def test_an_abstract_socket() -> None:
    name = f"twisted-chat-test-{os.getpid()}"
    systemd = Systemd("\0" + name)
    try:
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready("up")
        assert systemd.received() == [["READY=1", "STATUS=up"]]
    finally:
        systemd.socket.close()


def test_nothing_happens_without_systemd(log: Sequence[LogEvent]) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}):
        notifier = Notifier(environ)
        assert not notifier.enabled
        notifier.ready("up")
        notifier.stopping()
    assert not log


def test_child_processes_do_not_inherit_the_socket(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "PATH": "/bin"}
    Notifier(environ)
    assert environ == {"PATH": "/bin"}


def test_a_status_is_one_line_of_bounded_length(systemd: Systemd, address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.status("up\nWATCHDOG=trigger\x1b[31m")
    notifier.status("\U0001f600" * 10_000)
    assert systemd.received() == [["STATUS=up WATCHDOG=trigger [31m"], ["STATUS=" + "\U0001f600" * MAX_STATUS]]


def test_one_socket_serves_all_messages(systemd: Systemd, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "no descriptor is left")

    monkeypatch.setattr("twisted_chat.systemd.socket.socket", refuse)
    notifier.watchdog()
    notifier.status("fine")
    assert systemd.received() == [["WATCHDOG=1"], ["STATUS=fine"]]


def test_nobody_listening_is_logged_once(address: str, log: Sequence[LogEvent]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("up")
    notifier.status("still up")
    (event,) = log
    assert event["log_level"].name == "warn"
    assert event["address"] == address


@pytest.mark.parametrize("address", ["/" + "x" * 500, "vsock:2:1234", "/nul\0byte"])
def test_an_address_that_cannot_be_is_logged(address: str, log: Sequence[LogEvent]) -> None:
    Notifier({"NOTIFY_SOCKET": address}).ready("up")
    (event,) = log
    assert event["address"] == address


def test_a_full_socket_does_not_block(systemd: Systemd, address: str, log: Sequence[LogEvent]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for _ in range(100_000):
        notifier.status("x" * MAX_STATUS)
        if log:
            break
    else:
        pytest.skip("this system's sockets do not fill up")
    assert isinstance(log[0]["error"], OSError)
    assert systemd.received()


def watchdog(clock: Clock, environ: dict[str, str]) -> Watchdog:
    return Watchdog(clock, Notifier(environ), environ, repeat=by_clock(clock))


def test_the_watchdog_is_silent_while_something_is_wrong(systemd: Systemd, address: str) -> None:
    clock, alive = Clock(), [True]
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}
    service = Watchdog(clock, Notifier(environ), environ, lambda: alive[0], by_clock(clock))
    service.startService()
    assert systemd.received() == [["WATCHDOG=1"]]
    alive[0] = False
    clock.pump([10.0, 10.0])
    assert systemd.received() == []
    alive[0] = True
    clock.advance(10.0)
    assert systemd.received() == [["WATCHDOG=1"]]
    service.stopService()


def test_the_watchdog_beats_three_times_in_its_time(systemd: Systemd, address: str) -> None:
    clock = Clock()
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    service = watchdog(clock, environ)
    assert environ == {}
    assert systemd.received() == []

    service.startService()
    assert systemd.received() == [["WATCHDOG=1"]]
    clock.advance(9.9)
    assert systemd.received() == []
    clock.pump([0.1, 10.0, 10.0])
    assert systemd.received() == [["WATCHDOG=1"]] * 3

    service.stopService()
    assert clock.getDelayedCalls() == []
    clock.advance(100.0)
    assert systemd.received() == []


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}],
    ids=["unset", "empty", "for another process"],
)
def test_the_watchdog_is_silent_where_none_waits(
    systemd: Systemd, address: str, environ: dict[str, str], log: Sequence[LogEvent]
) -> None:
    clock = Clock()
    service = watchdog(clock, {"NOTIFY_SOCKET": address, **environ})
    service.startService()
    clock.advance(60.0)
    assert systemd.received() == []
    assert clock.getDelayedCalls() == []
    assert not log
    service.stopService()


def test_the_watchdog_needs_a_socket() -> None:
    clock = Clock()
    service = watchdog(clock, {"WATCHDOG_USEC": "30000000"})
    service.startService()
    assert clock.getDelayedCalls() == []
    service.stopService()


@pytest.mark.parametrize("value", ["soon", "-5", "0", "1.5"])
def test_a_watchdog_time_that_is_none_is_logged(address: str, log: Sequence[LogEvent], value: str) -> None:
    clock = Clock()
    service = watchdog(clock, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": value})
    service.startService()
    assert clock.getDelayedCalls() == []
    (event,) = log
    assert event["value"] == value
    service.stopService()
