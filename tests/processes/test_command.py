"""How processes are started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import pollreactor, selectreactor
from twisted.internet.testing import MemoryReactor

from twisted_chat.config import Config
from twisted_chat.options import Options
from twisted_chat.processes.command import Command, reactor_name
from twisted_chat.processes.process import VARIABLE, Process


def command(*arguments: str, twistd: Any = None) -> Command:
    options = Options()
    options.parseOptions(list(arguments))
    return Command(options.given, options.config_file, twistd or {})


def parsed(command: Command) -> Options:
    """What such a process reads of its arguments."""
    arguments = command.arguments()
    options = Options()
    options.parseOptions(arguments[arguments.index("chat") + 1 :])
    return options


def test_the_options_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text('admin-port = "tcp:9100"')
    given = ("--config", str(file), "-p", "tcp:1:interface=127.0.0.1", "-p", "unix:/a b", "--self-signed", "--drain=3")
    made = command(*given, "--processes", "4", "--admin-port", "tcp:9101")
    read = parsed(made)
    assert read.config_file == file
    assert read.given == {
        "self-signed": ["yes"],
        "drain": ["3"],
    }, "without what is for the supervisor, and what Process says"
    assert made.arguments()[0] == sys.executable


@pytest.mark.parametrize(
    ("twistd", "arguments"),
    [
        ({}, []),
        ({"uid": None, "gid": None, "euid": 1}, []),
        ({"uid": 1001, "gid": None}, ["--uid=1001"]),
        ({"uid": 1001, "gid": 0, "euid": 1}, ["--euid", "--uid=1001", "--gid=0"]),
    ],
)
def test_it_runs_as_the_user_that_was_named(twistd: dict[str, Any], arguments: list[str]) -> None:
    made = Command({}, None, twistd).arguments()
    assert [each for each in made if ("id=" in each and "pidfile" not in each) or each == "--euid"] == arguments


def test_secrets_are_not_among_the_arguments() -> None:
    urls = ("redis://:secret@127.0.0.1", "redis://:secret@127.0.0.2")
    made = command("--relay", urls[0], "--relay", urls[1])
    assert not any("secret" in argument for argument in made.arguments())
    process = Process.from_environ(made.environment({}, Process(1, ("tcp:1",), urls)))
    assert process is not None
    assert process.relay == urls


def test_port_and_relay_are_the_same_whatever_is_said_later() -> None:
    process = Process(2, ("tcp:1", "unix:/a b"), ("redis+unix:///a b",))
    later = Config(port=("tcp:2",), relay=("sqlite:",), drain=3.0)
    assert process.configured(later) == Config(port=process.port, relay=process.relay, drain=3.0)
    assert list(process.descriptors) == [6, 7]


def test_paths_are_relative_to_where_they_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = command()
    assert made.change() is None
    before = str(Path.cwd())
    monkeypatch.chdir(tmp_path)
    assert made.change() == before


def test_what_systemd_says_is_for_the_supervisor() -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "2"}
    kept = {"HOME": "/", "CREDENTIALS_DIRECTORY": "/c", "JOURNAL_STREAM": "1:2", "TWISTED_CHAT_DRAIN": "3"}
    environment = command().environment(environ | kept, Process(2, ("tcp:1", "unix:/a"), ("redis:",)))
    process = Process.from_environ(environment)
    assert environment == kept
    assert process == Process(2, ("tcp:1", "unix:/a"), ("redis:",))
    assert Process.from_environ(environment) is None


@pytest.mark.parametrize(
    ("twistd", "options"),
    [
        ({"logfile": "chat.log", "pidfile": "a.pid", "prefix": "chat"}, []),
        ({"logger": "my.logger", "syslog": True}, ["--logger=my.logger"]),
        ({"syslog": 1, "prefix": "chat", "facility": None}, ["--syslog", "--prefix=chat"]),
    ],
)
def test_the_log_is_chosen_as_it_was(twistd: dict[str, Any], options: list[str]) -> None:
    arguments = command(twistd=twistd).arguments()
    assert arguments[arguments.index("--pidfile=") + 1 : arguments.index("chat")] == options


def test_modules_come_from_where_they_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "-P" in command().arguments()
    for entry in ("", str(tmp_path)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [entry, *sys.path])
            assert "-P" not in command().arguments()


def test_the_reactor_is_the_same() -> None:
    assert reactor_name(selectreactor.SelectReactor.__new__(selectreactor.SelectReactor)) == "select"
    assert reactor_name(pollreactor.PollReactor.__new__(pollreactor.PollReactor)) == "poll"
    assert reactor_name(MemoryReactor()) is None
    assert "--reactor=poll" in Command({}, None, {}, "poll").arguments()
    assert VARIABLE not in Command({}, None, {}).arguments()
