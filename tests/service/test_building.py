"""How the server is built, and what twistd gets of it: every mistake is found before anything starts."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel

from tests.application import Application
from tests.service.conftest import Reactor
from twisted_chat import listening as listening_module
from twisted_chat.chat import makeService
from twisted_chat.config import Config
from twisted_chat.listening import StartError
from twisted_chat.options import Options
from twisted_chat.service import MISTAKES, ChatService

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("memory:",), drain=4.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"port": ("tcp:80x",)}, "--port: cannot listen on 'tcp:80x': '80x' is not a port"),
        ({"admin_port": "tcp:80x"}, "--admin-port: cannot listen on 'tcp:80x': '80x' is not a port"),
        ({"relay": ("sqlite",)}, "there is no relay 'sqlite'"),
        ({"relay": ("sqlite:/nowhere/chat.db",)}, "sqlite:/nowhere/chat.db: there is no directory /nowhere"),
        ({"allow_origin": ("example.com",)}, "'example.com' is no origin to allow"),
        ({"allow_host": ("example.com:80",)}, "'example.com:80' is no host to allow"),
        ({"token_key_file": Path("nowhere")}, "the key file nowhere cannot be read"),
        ({"api_key_file": Path("nowhere")}, "the key file nowhere cannot be read"),
        ({"port": ("tls:443",), "certificates": Path("nowhere")}, "no certificates in nowhere: no such file"),
        ({"port": ("tls:nowhere:443",)}, "--port: cannot listen on 'tls:nowhere:443': 'nowhere' is neither"),
    ],
)
def test_a_mistake_is_found_before_anything_is_touched(reactor: Reactor, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(MISTAKES) as error:
        ChatService(replace(CONFIG, **fields), reactor, {})
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert not reactor.getDelayedCalls()
    assert not reactor.ports


def test_certificates_by_default(reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listening_module, "default_directory", lambda *_: None)
    tls = replace(CONFIG, port=("tls:443", "tls:8443"))
    with pytest.raises(
        MISTAKES, match="name their directory with --certificates, or add --self-signed for development"
    ):
        ChatService(tls, reactor, {})
    state = os.pathsep.join([str(tmp_path / "state"), "/nowhere"])
    ChatService(replace(tls, self_signed=True), reactor, {"STATE_DIRECTORY": state})
    made = tmp_path / "state" / "self-signed"
    assert [path.name for path in made.iterdir()] == ["self-signed.pem"]
    monkeypatch.setattr(listening_module, "default_directory", lambda *_: made)
    assert len(ChatService(tls, reactor, {})._listening.certificates) == 1
    # One that is named is served by all endpoints, and watched once.
    service = ChatService(replace(tls, certificates=made), reactor, {})
    assert len(service._listening.certificates) == 1
    (tmp_path / "file").touch()
    with pytest.raises(MISTAKES, match=r"^--self-signed: cannot write to .*/file/self-signed: Not a directory$"):
        ChatService(replace(tls, self_signed=True), reactor, {"STATE_DIRECTORY": str(tmp_path / "file")})


def test_what_systemd_says_to_us_is_not_for_our_children(reactor: Reactor) -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "OTHER": "x"}
    ChatService(CONFIG, reactor, environ)
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
    application = Application()
    ChatService(config, MemoryReactorClock(), {}, twistd=twistd).setServiceParent(application)
    if application.observer is not None:
        application.observer(
            {"log_format": "an event", "log_time": 0.0, "log_level": LogLevel.info, "log_namespace": "here"}
        )
    yield output.getvalue


@pytest.mark.parametrize("twistd", [{"nodaemon": True}, {"nodaemon": True, "logfile": "-"}, {}])
def test_logs_go_to_standard_output(twistd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with written(CONFIG, twistd, monkeypatch) as text:
        assert text() == "1970-01-01T00:00:00Z info  here  an event\n"
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
    assert (tmp_path / file).read_text() == "1970-01-01T00:00:00Z info  here  an event\n"


def test_a_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as error, written(CONFIG, {"logfile": "/nowhere/log"}, monkeypatch):
        pass
    assert error.value.code == "twistd: --logfile: cannot write to /nowhere/log: No such file or directory"


@pytest.mark.parametrize("twistd", [{"logger": "my.logger"}, {"syslog": True}])
def test_who_chose_another_log_gets_it(twistd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with written(CONFIG, twistd, monkeypatch) as text:
        assert text() == ""
