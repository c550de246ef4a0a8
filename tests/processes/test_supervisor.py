"""Starting, watching and stopping processes, with none of them there."""

from __future__ import annotations

import atexit
import errno
import io
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LogLevel

from tests.application import Application
from tests.processes.conftest import Reactor, Spawned
from tests.repeating import by_clock
from twisted_chat.config import Config, ConfigError
from twisted_chat.processes.backoff import FIRST, LONGEST
from twisted_chat.processes.child import BEAT, PATIENCE
from twisted_chat.processes.command import Command
from twisted_chat.processes.supervisor import LATE, Supervisor
from twisted_chat.server.draining import GRACE

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("redis://127.0.0.1",), processes=2, drain=4.0)
LONGEST_STOP = CONFIG.drain + 2 * GRACE + LATE


class Port:
    """What is bound."""

    def __init__(self) -> None:
        self.closed = False

    def fileno(self) -> int:
        return 77

    def getHost(self) -> None:
        """No browser gets there."""

    def stopListening(self) -> None:
        self.closed = True


class Binder(MemoryReactorClock):
    """Binds one port."""

    def __init__(self) -> None:
        super().__init__()
        self.port = Port()

    def listenTCP(self, *_: Any, **__: Any) -> Any:
        return self.port


class Managed:
    """A supervisor, whom systemd started."""

    def __init__(self, reactor: Reactor, path: Path, **options: Any) -> None:
        self.reactor = reactor
        self.binder = Binder()
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(path))
        self._manager.setblocking(False)
        environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "9000000", "HOME": "/"}
        command = Command({}, None, {})
        self.service = Supervisor(
            CONFIG, reactor, environ, command, binder=self.binder, repeat=by_clock(reactor), **options
        )

    def start(self) -> list[Spawned]:
        self.service.privilegedStartService()
        self.service.startService()
        self.reactor.run()
        return self.reactor.spawned

    def stop(self) -> list[None]:
        """The result is not empty when it has stopped."""
        stopped: list[None] = []
        self.service.stopService().addCallback(stopped.append)
        return stopped

    def heard(self) -> list[str]:
        """What systemd was told since it was last asked, but for signs of life."""
        return [line for line in self._hear() if line != "WATCHDOG=1"]

    def signs_of_life(self) -> int:
        """How many there were since systemd was last asked."""
        return self._hear().count("WATCHDOG=1")

    def _hear(self) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                lines += self._manager.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines

    def close(self) -> None:
        if self.service.running:
            self.stop()
        for process in self.reactor.spawned:
            if not process.gone:
                process.end()
        self.reactor.advance(60)
        self._manager.close()
        assert not self.reactor.getDelayedCalls()


@pytest.fixture
def managed(reactor: Reactor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    managed = Managed(reactor, tmp_path_factory.mktemp("n") / "s")
    yield managed
    managed.close()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to be called when the process ends."""
    calls: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", calls.append)
    return calls


def test_a_start(managed: Managed, said: Callable[[], list[str]]) -> None:
    one, two = managed.start()
    said_to_it = json.loads(one.environment["CHAT_PROCESS"])
    assert said_to_it == {"number": 1, "port": list(CONFIG.port), "relay": list(CONFIG.relay)}
    assert json.loads(two.environment["CHAT_PROCESS"])["number"] == 2
    assert "NOTIFY_SOCKET" not in one.environment
    assert one.environment["HOME"] == "/"
    assert one.descriptors == {0: 0, 1: 1, 2: 2, 3: "r", 4: "w", 5: "r", 6: 77}
    two.begin()
    one.say("started")
    assert managed.heard() == []
    one.say("ready")
    assert managed.heard() == ["READY=1", f"STATUS=serving {CONFIG.port[0]} with 2 processes"]
    assert said()[-3:-1] == ["process 1 is ready (pid 4711)", f"listening on {CONFIG.port[0]}"]


def test_one_that_ends_is_started_again(managed: Managed, said: Callable[[], list[str]]) -> None:
    for process in managed.start():
        process.begin()
    managed.heard()
    spawned, advance = managed.reactor.spawned, managed.reactor.advance
    spawned[0].end(number=signal.SIGKILL)
    assert said()[-1] == f"process 1 was ended by SIGKILL; it is started again in {FIRST} s"
    advance(FIRST - 0.01)
    assert len(spawned) == 2
    advance(0.02)
    assert len(spawned) == 3
    # Whatever is wrong now was not when all began.
    spawned[2].end(1)
    assert said()[-1] == f"process 1 ended with status 1; it is started again in {2 * FIRST} s"
    advance(2 * FIRST)
    spawned[3].say("failed", message="the relay cannot start: no")
    assert said()[-1] == "process 1: the relay cannot start: no"
    spawned[3].end(1)
    advance(LONGEST)
    spawned[4].begin()
    assert managed.heard() == [], "systemd was told once"
    # The other one has no part in it.
    spawned[1].end(number=99)
    assert said()[-1] == f"process 2 was ended by signal 99; it is started again in {FIRST} s"


def test_one_that_cannot_be_started_is_tried_again(managed: Managed, said: Callable[[], list[str]]) -> None:
    managed.reactor.refuses = OSError(11, "Not now")
    assert managed.start() == []
    assert said()[-1] == f"process 2 cannot be started: [Errno 11] Not now; it is started again in {FIRST} s"
    managed.reactor.refuses = None
    managed.reactor.advance(FIRST)
    assert len(managed.reactor.spawned) == 2


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.ENOEXEC])
def test_one_that_can_never_be_started_ends_all(
    managed: Managed, ends: list[Callable[[], None]], said: Callable[[], list[str]], number: int
) -> None:
    managed.reactor.refuses = OSError(number, "Never")
    assert managed.start() == []
    assert said() == [f"process 1 cannot be started: [Errno {number}] Never"], "once"
    assert (managed.reactor.events, len(ends)) == (["stop"], 1)


def test_one_that_cannot_be_started_later_is_tried_again(managed: Managed, ends: list[Callable[[], None]]) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    managed.reactor.refuses = OSError(errno.ENOENT, "An upgrade is under way")
    one.end(number=signal.SIGKILL)
    managed.reactor.advance(FIRST)
    managed.reactor.refuses = None
    managed.reactor.advance(60)
    assert len(managed.reactor.spawned) == 3
    assert ends == []


def test_a_crash_while_it_starts_is_no_mistake(managed: Managed, ends: list[Callable[[], None]]) -> None:
    managed.start()[0].end(number=signal.SIGSEGV)
    managed.reactor.advance(FIRST)
    assert len(managed.reactor.spawned) == 3
    assert (managed.reactor.events, ends) == ([], [])


def test_one_that_cannot_serve_ends_all(
    managed: Managed, ends: list[Callable[[], None]], said: Callable[[], list[str]]
) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.say("started")
        process.say("failed", message="the relay cannot start: too old")
    assert said() == ["the relay cannot start: too old"], "once"
    assert managed.heard() == ["STATUS=the relay cannot start: too old"]
    assert (managed.reactor.events, len(ends)) == (["stop"], 1)
    one.end(1)
    assert managed.stop() == []
    assert two.told() == ["stop"]


def test_one_that_ends_before_it_began_ends_all(managed: Managed, ends: list[Callable[[], None]]) -> None:
    one, two = managed.start()
    one.end(1)
    assert (managed.reactor.events, len(ends)) == (["stop"], 1)
    stopped = managed.stop()
    assert two.signals == [signal.SIGKILL], "it has not begun to listen to us"
    two.end(number=signal.SIGKILL)
    assert stopped == [None]
    managed.reactor.advance(60)
    assert len(managed.reactor.spawned) == 2


def test_systemd_hears_of_life_while_all_live(managed: Managed) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    managed.heard()
    for _ in range(3 * PATIENCE):
        managed.reactor.pump([BEAT / 8] * 8)
        for process in (one, two):
            process.give_sign()
        assert managed.signs_of_life() >= 1
    # One that hangs is killed. While that does not help, the whole is not well.
    for _ in range(PATIENCE + 1):
        managed.reactor.pump([BEAT / 8] * 8)
        two.give_sign()
        managed.heard()
    assert (one.signals, two.signals) == ([signal.SIGABRT], [])
    managed.reactor.pump([BEAT / 8] * 16)
    assert managed.signs_of_life() == 0
    one.end(number=signal.SIGABRT)
    for _ in range(2):
        managed.reactor.pump([BEAT / 8] * 8)
        two.give_sign()
    assert managed.signs_of_life() >= 1


def test_the_order_of_a_stop(managed: Managed, said: Callable[[], list[str]]) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    managed.heard()
    stopped = managed.stop()
    assert managed.heard() == ["STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={LONGEST_STOP * 1e6:.0f}"]
    assert (one.told(), two.told()) == (["stop"], ["stop"])
    one.say("stopping")
    assert not managed.binder.port.closed, "the other may still be taking connections"
    two.say("stopping")
    assert managed.binder.port.closed
    one.end()
    assert stopped == []
    two.end()
    assert stopped == [None]
    assert not any("started again" in line for line in said())


def test_a_stop_without_a_start(managed: Managed) -> None:
    managed.service.privilegedStartService()
    assert managed.stop() == [None]
    assert managed.binder.port.closed


def test_who_does_not_end_is_killed(managed: Managed) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    stopped = managed.stop()
    two.end(number=signal.SIGTERM)
    managed.reactor.advance(LATE)
    assert managed.binder.port.closed, "nobody is kept waiting for one that does not listen"
    for _ in range(int(LONGEST_STOP)):
        managed.reactor.advance(1)
        one.answer()
    assert one.signals == [signal.SIGKILL]
    one.end(number=signal.SIGKILL)
    assert stopped == [None]


def test_a_process_that_waits_to_be_started_is_not(managed: Managed) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    one.end(1)
    stopped = managed.stop()
    two.end()
    assert stopped == [None]
    managed.reactor.advance(60)
    assert len(managed.reactor.spawned) == 2


@pytest.fixture
def harmless() -> Iterator[None]:
    """A signal to stop does nothing, whatever goes wrong here."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("harmless")
def test_a_second_signal_is_passed_on(managed: Managed) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    managed.stop()
    signal.raise_signal(signal.SIGTERM)
    assert (one.told(), two.told()) == (["stop", "hurry"], ["stop", "hurry"])


def test_a_reload_before_all_are_ready(managed: Managed) -> None:
    one, two = managed.start()
    one.begin()
    managed.service.reload()
    one.answer()
    assert (one.told(), two.told(), managed.heard()) == (["reload"], [], [])


def test_a_reload(managed: Managed) -> None:
    one, two = managed.start()
    for process in (one, two):
        process.begin()
    managed.heard()
    managed.service.reload()
    assert managed.heard()[0] == "RELOADING=1"
    one.answer()
    assert managed.heard() == []
    two.answer()
    assert managed.heard()[0] == "READY=1"
    # Nobody is waited for in vain.
    managed.service.reload()
    managed.heard()
    one.end(1)
    two.answer()
    assert managed.heard()[0] == "READY=1"


def test_a_reload_changes_the_level_of_the_log(
    reactor: Reactor, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    configs: list[Config | None] = []

    def reload() -> Config:
        config = configs.pop()
        if config is None:
            raise ConfigError("chat.toml is not TOML")
        return config

    file = tmp_path / "log"
    managed = Managed(reactor, tmp_path_factory.mktemp("n") / "s", twistd={"logfile": str(file)}, reload=reload)
    application = Application()
    managed.service.setServiceParent(application)
    managed.start()
    source = Logger("here", observer=application.observer)
    source.debug("too early")
    for config in (replace(CONFIG, log_level="debug"), None):
        configs.append(config)
        managed.service.reload()
        source.debug("seen")
    assert [line.split()[-1] for line in file.read_text().splitlines()] == ["seen", "seen"]
    managed.close()


def test_a_log_file_is_written_by_one(
    reactor: Reactor, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managed = Managed(
        reactor, tmp_path_factory.mktemp("n") / "s", twistd={"nodaemon": True, "logfile": str(tmp_path / "log")}
    )
    managed.service.setServiceParent(Application())
    one, _ = managed.start()
    assert (one.descriptors[1], one.descriptors[2]) == ("r", "r")
    one.protocol.childDataReceived(1, b"2026 info  [1] served\nand so")
    assert (tmp_path / "log").read_text() == "2026 info  [1] served\n"
    managed.close()


def test_elsewhere_they_write_themselves(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    application = Application()
    managed.service.setServiceParent(application)
    application.observer(
        {"log_format": "an event", "log_time": 0.0, "log_level": LogLevel.info, "log_namespace": "here"}
    )
    assert output.getvalue() == "1970-01-01T00:00:00Z info  here  an event\n"
    # What twistd puts in its place later is not a file of ours.
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert managed.start()[0].descriptors[1] == 1
