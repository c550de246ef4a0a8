"""How the server is built, started, reloaded and stopped, over a reactor in memory that writes down the order."""

from __future__ import annotations

import atexit
import io
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionDone, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IPushProducer, IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_chat import service as service_module
from twisted_chat.auth import SigningKey, make_token
from twisted_chat.config import Config, ConfigError
from twisted_chat.options import Options
from twisted_chat.relay.interface import HistoryLimits, RelayError, RelayEvents
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.server.draining import GRACE
from twisted_chat.service import MISTAKES, PATIENCE, ChatService, StartError, makeService

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("memory:",), drain=4.0)


@implementer(IListeningPort, IPushProducer)
class Port:
    """A port that writes down what happens to it."""

    def __init__(self, reactor: Reactor, number: int) -> None:
        self._reactor = reactor
        self.number = number
        self.accepting = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def startListening(self) -> None:
        """It listens already."""

    def stopListening(self) -> Deferred[None]:
        self._reactor.events.append(f"close {self.number}")
        return succeed(None)

    def pauseProducing(self) -> None:
        self.accepting = False

    def resumeProducing(self) -> None:
        self.accepting = True

    def stopProducing(self) -> None:
        """Nobody calls it."""


@implementer(IReactorFromThreads)
class Reactor(MemoryReactorClock):
    """A reactor in memory that writes down what happens, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.ports: dict[int, Port] = {}
        self.taken: set[int] = set()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.ports[port] = Port(self, port)
        return self.ports[port]

    def callFromThread(self, callable: Callable[..., object], *args: object, **kw: object) -> None:  # noqa: A002
        callable(*args, **kw)

    def callInThread(self, callable: Callable[..., object], *args: object, **kw: object) -> None:  # noqa: A002
        raise AssertionError("nothing here needs a thread")

    def run(self) -> None:
        """Begin to; Twisted's own stops as well."""
        self.running = self.hasRun = True
        for call, arguments, named in self.whenRunningHooks:
            call(*arguments, **named)

    def stop(self) -> None:
        if self.hasStopped:
            raise ReactorNotRunning
        self.events.append("stop")
        super().stop()


class Relay(MemoryRelay):
    """A relay that starts when it is told to."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, HistoryLimits())
        self._happened = reactor.events
        self.starting: Deferred[None] | None = None

    def start(self, events: RelayEvents) -> Deferred[None]:
        super().start(events)
        self.starting = Deferred()
        return self.starting

    def begin(self) -> None:
        assert self.starting is not None
        self.starting.callback(None)

    def fail(self, error: Exception) -> None:
        assert self.starting is not None
        self.starting.errback(error)

    def stop(self) -> Deferred[None]:
        self._happened.append("relay")
        return super().stop()


class Built:
    """A service in memory."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] | None = None,
        reload: Callable[[], Config] | None = None,
        twistd: Mapping[str, Any] | None = None,
    ) -> None:
        self.reactor = Reactor()
        self.relay = Relay(self.reactor)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service_module, "open_relays", lambda *_, **__: self.relay)
            self.service = ChatService(config, self.reactor, dict(environ or {}), reload=reload, twistd=twistd)

    def bind(self) -> None:
        self.service.privilegedStartService()

    def start(self) -> None:
        self.bind()
        self.service.startService()
        self.relay.begin()

    def stop(self) -> list[None]:
        """The result is not empty when it has stopped."""
        stopped: list[None] = []
        self.service.stopService().addCallback(stopped.append)
        return stopped

    def get(self, path: str, *, admin: bool = False, headers: str = "") -> bytes:
        """The answer to a request."""
        client = self.connect(admin=admin)
        client.protocol.dataReceived(f"GET {path} HTTP/1.0\r\n{headers}\r\n".encode())
        self.reactor.advance(0)
        answer: bytes = client.value()
        client.lose()
        return answer

    def connect(self, *, admin: bool = False) -> Transport:
        site = self.service._admin_site if admin else self.service.site
        return Transport(self.reactor, site.buildProtocol(IPv4Address("TCP", "192.0.2.7", 54321)))


class Transport(StringTransport):
    """A client's connection. It ends in the turn of the reactor after the server said so."""

    def __init__(self, reactor: Reactor, protocol: Any) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 54321))
        self._reactor = reactor
        self.protocol = protocol
        self.lost = False
        protocol.makeConnection(self)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As it likes."""

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()

    def loseConnection(self) -> None:
        self._reactor.callLater(0, self.lose)

    def abortConnection(self) -> None:
        self.lose()

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def build() -> Iterator[Callable[..., Built]]:
    """Builds services, and stops those that a test did not."""
    built: list[Built] = []

    def build(config: Config = CONFIG, **options: Any) -> Built:
        built.append(Built(config, **options))
        return built[-1]

    yield build
    for each in built:
        if each.service.running:
            each.stop()
            each.reactor.advance(60)
        assert not each.reactor.getDelayedCalls()


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


@pytest.fixture
def said(log: Sequence[LogEvent]) -> Callable[[], list[str]]:
    """What the log says until now."""
    return lambda: [formatEvent(event) for event in log]


def key_file(path: Path) -> Path:
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path


# Building it


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"port": ("tcp:80x",)}, "--port: cannot listen on 'tcp:80x': '80x' is not a port"),
        ({"admin_port": "tcp:80x"}, "--admin-port: cannot listen on 'tcp:80x': '80x' is not a port"),
        ({"relay": ("sqlite",)}, "there is no relay 'sqlite'"),
        ({"relay": ("sqlite:/nowhere/chat.db",)}, "sqlite:/nowhere/chat.db: there is no directory /nowhere"),
        ({"allow_origin": ("example.com",)}, "'example.com' is no origin to allow"),
        ({"token_key_file": Path("nowhere")}, "the key file nowhere cannot be read"),
        ({"api_key_file": Path("nowhere")}, "the key file nowhere cannot be read"),
        ({"port": ("tls:443",), "certificates": Path("nowhere")}, "no certificates in nowhere: no such file"),
        ({"port": ("tls:nowhere:443",)}, "--port: cannot listen on 'tls:nowhere:443': 'nowhere' is neither"),
    ],
)
def test_a_mistake_is_found_before_anything_is_touched(fields: dict[str, Any], said: str) -> None:
    reactor = Reactor()
    with pytest.raises(MISTAKES) as error:
        ChatService(replace(CONFIG, **fields), reactor, {})
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert not reactor.getDelayedCalls()
    assert not reactor.ports


def test_certificates_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(service_module, "default_directory", lambda *_: None)
    tls = replace(CONFIG, port=("tls:443", "tls:8443"))
    with pytest.raises(
        MISTAKES, match="name their directory with --certificates, or add --self-signed for development"
    ):
        ChatService(tls, Reactor(), {})
    state = os.pathsep.join([str(tmp_path / "state"), "/nowhere"])
    ChatService(replace(tls, self_signed=True), Reactor(), {"STATE_DIRECTORY": state})
    made = tmp_path / "state" / "self-signed"
    assert [path.name for path in made.iterdir()] == ["self-signed.pem"]
    monkeypatch.setattr(service_module, "default_directory", lambda *_: made)
    assert len(ChatService(tls, Reactor(), {})._certificates) == 1
    # One that is named is served by all endpoints, and watched once.
    service = ChatService(replace(tls, certificates=made), Reactor(), {})
    assert len(service._certificates) == 1
    (tmp_path / "file").touch()
    with pytest.raises(MISTAKES, match=r"^--self-signed: cannot write to .*/file/self-signed: Not a directory$"):
        ChatService(replace(tls, self_signed=True), Reactor(), {"STATE_DIRECTORY": str(tmp_path / "file")})


def test_what_systemd_says_to_us_is_not_for_our_children() -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "OTHER": "x"}
    ChatService(CONFIG, Reactor(), environ)
    assert environ == {"OTHER": "x"}


# As twistd makes it


def options(*arguments: str) -> Options:
    parsed: Any = Options()
    parsed.parent = {"nodaemon": True}  # twistd's own options
    parsed.parseOptions(list(arguments))
    assert isinstance(parsed, Options)
    return parsed


@pytest.fixture
def excepthook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts back what is done with exceptions that nobody caught."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def test_a_mistake_ends_with_one_line(excepthook: None) -> None:
    with pytest.raises(SystemExit) as error:
        makeService(options("--relay", "nothing"))
    assert str(error.value.code).startswith("twistd chat: there is no relay 'nothing'; use ")


def test_what_is_found_while_starting_ends_with_one_line_too(
    excepthook: None, capsys: pytest.CaptureFixture[str]
) -> None:
    service = makeService(options("--relay", "memory:", "-p", "tcp:0"))
    assert isinstance(service, ChatService)
    sys.excepthook(StartError, StartError("--port tcp:1: cannot listen there"), None)
    assert capsys.readouterr().err == "twistd chat: --port tcp:1: cannot listen there\n"
    sys.excepthook(ZeroDivisionError, ZeroDivisionError("a mistake of ours"), None)
    assert "ZeroDivisionError: a mistake of ours" in capsys.readouterr().err


@contextmanager
def written(config: Config, twistd: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What is written of one event, on standard output or in the file of twistd's log."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    parent = MultiService()
    application: dict[Any, Any] = {}
    parent.setComponent = application.__setitem__  # type: ignore[attr-defined]  # twistd's application is one
    ChatService(config, Reactor(), {}, twistd=twistd).setServiceParent(parent)
    observer = application.get(ILogObserver)
    if observer is not None:
        observer({"log_format": "an event", "log_time": 0.0})
    yield output.getvalue


@pytest.mark.parametrize("twistd", [{"nodaemon": True}, {"nodaemon": True, "logfile": "-"}, {}])
def test_logs_go_to_standard_output(twistd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with written(CONFIG, twistd, monkeypatch) as text:
        assert text() == "1970-01-01T00:00:00Z info  -  an event\n"
    with written(replace(CONFIG, log_format="json"), twistd, monkeypatch) as text:
        assert json.loads(text())["message"] == "an event"


@pytest.mark.parametrize(
    ("twistd", "file"),
    [({"nodaemon": False}, "twistd.log"), ({"nodaemon": True, "logfile": "chat.log"}, "chat.log")],
)
def test_logs_go_to_a_file(twistd: dict[str, Any], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with written(CONFIG, twistd, monkeypatch) as text:
        assert text() == ""
    assert (tmp_path / file).read_text() == "1970-01-01T00:00:00Z info  -  an event\n"


def test_a_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as error, written(CONFIG, {"logfile": "/nowhere/log"}, monkeypatch):
        pass
    assert error.value.code == "twistd: --logfile: cannot write to /nowhere/log: No such file or directory"


@pytest.mark.parametrize("twistd", [{"logger": "my.logger"}, {"syslog": True}])
def test_who_chose_another_log_gets_it(twistd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with written(CONFIG, twistd, monkeypatch) as text:
        assert text() == ""


# Starting


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
    assert "the rooms are open: whoever reaches the port reads and writes all of them" in lines
    assert "history is kept in memory only" in lines


def test_nothing_is_warned_of_that_is_not_so(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    built = build(replace(CONFIG, token_key_file=key_file(tmp_path / "key")))
    built.relay.durable = True
    built.start()
    assert not any("the rooms are open" in line or "history is kept in memory" in line for line in said())


def test_where_no_browser_gets_to(build: Callable[..., Built], said: Callable[[], list[str]]) -> None:
    built = build(replace(CONFIG, port=("unix:/run/chat.sock",)))
    built.start()  # its port cannot be paused
    assert "listening on unix:/run/chat.sock" in said()


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_that_is_taken(option: str) -> None:
    built = Built(replace(CONFIG, port=("tcp:8080",), admin_port="tcp:9100"))
    number = 8080 if option == "--port" else 9100
    built.reactor.taken = {number}
    with pytest.raises(StartError) as error:
        built.bind()
    assert str(error.value) == f"{option} tcp:{number}: cannot listen there: [Errno 98] Address already in use"


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
    client.protocol.dataReceived(b"GET /chat/ HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n")
    built.reactor.advance(0)
    client.clear()
    built.reactor.advance(CONFIG.limits.ping_interval)
    assert client.value() == b"3\r\n:\n\n\r\n"


# Reloading


def test_a_reload(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_file(tmp_path / "key")
    config = replace(CONFIG, token_key_file=key)
    configs: list[Config | Exception] = [config]

    def reload() -> Config:
        if isinstance(configs[-1], Exception):
            raise configs[-1]
        return configs[-1]

    built = build(config, reload=reload)
    built.start()

    def status() -> bytes:
        token = make_token(SigningKey.from_file(key), "u1", now=0.0)
        headers = f"Host: chat.example\r\nOrigin: https://site.example\r\nAuthorization: Bearer {token}\r\n"
        return built.get("/chat/lobby", headers=headers)[9:12]

    assert status() == b"403"
    configs.append(replace(config, allow_origin=("https://site.example",)))
    built.service.reload()
    assert said()[-1] == "certificates, keys and origins reloaded; other settings change with a restart"
    assert status() == b"200"
    key_file(key)
    assert status() == b"401"
    built.service.reload()
    assert status() == b"200"

    configs.append(ConfigError("chat.toml: there is no setting 'x'"))
    built.service.reload()
    assert said()[-1] == "not reloaded, what was in use stays: chat.toml: there is no setting 'x'"
    assert status() == b"200"
    configs.append(replace(config, allow_origin=("wrong",), token_key_file=None))
    built.service.reload()
    assert said()[-1].startswith("not reloaded, what was in use stays: 'wrong' is no origin to allow")
    assert status() == b"200"


def test_certificates_are_reloaded_with_the_rest(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    built = build(replace(CONFIG, port=("tls:443",), self_signed=True), environ={"STATE_DIRECTORY": str(tmp_path)})
    (tmp_path / "self-signed" / "self-signed.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    built.service.reload()
    assert any("self-signed.pem: cut off, or still being written" in line for line in said())


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_sighup_reloads(build: Callable[..., Built], said: Callable[[], list[str]]) -> None:
    before = signal.getsignal(signal.SIGHUP)
    built = build()
    built.start()
    assert signal.getsignal(signal.SIGHUP) is before, "not before the reactor runs"
    try:
        built.reactor.run()
        signal.raise_signal(signal.SIGHUP)
        assert said()[-1].startswith("certificates, keys and origins reloaded")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_sighup_nothing_listens_for_it(build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    built = build()
    built.start()
    assert built.reactor.whenRunningHooks == []


# Stopping


def test_the_order_of_a_stop(build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(replace(CONFIG, admin_port="tcp:9100"))
    built.start()
    service, events = built.service, built.reactor.events
    client = built.connect()
    client.protocol.dataReceived(b"GET /chat/ HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n")
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
    client.protocol.dataReceived(b"POST /chat/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n")
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
    client.protocol.dataReceived(b"POST /chat/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n")
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
    client.protocol.dataReceived(b"POST /chat/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n")
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


# What is measured


def test_what_is_measured(build: Callable[..., Built]) -> None:
    built = build()
    built.start()
    client = built.connect()
    client.protocol.dataReceived(b"GET /chat/ HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n")
    built.reactor.advance(1.0)
    sample = built.service.metrics.registry.get_sample_value
    assert sample("twisted_chat_rooms") == 1.0
    assert sample("twisted_chat_connections", {"transport": "event_stream"}) == 1.0
    assert sample("twisted_chat_reactor_tick_seconds_count") == 1.0
    built.get("/chat/%00")
    assert sample("twisted_chat_refusals_total", {"reason": "bad_room"}) == 1.0
