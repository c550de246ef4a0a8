"""Starting: what serves, and what every mistake says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import Authority
from tests.twistd import Server, until
from twisted_chat.config import Config
from twisted_chat.relay.sqlite.file import APPLICATION, SCHEMA

StartServer = Callable[..., Server]
Run = Callable[..., subprocess.CompletedProcess[str]]

INFO = re.compile(r"\S+ info  ")
posix = pytest.mark.skipif(os.name != "posix", reason="twistd does not daemonize here")


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why a server did not start."""
    assert ended.returncode == 1
    lines = [line for line in (ended.stdout + ended.stderr).splitlines() if not INFO.match(line)]
    assert len(lines) == 1, lines
    return lines[0]


def test_twistd_knows_the_plugin_of_a_checkout(run_twistd: Run) -> None:
    ended = run_twistd("--help")
    assert ended.returncode == 0
    assert re.search(r"^ +chat +\S", ended.stdout, re.MULTILINE)


def test_without_a_word_it_listens_on_this_machine_alone() -> None:
    assert Config().port == ("tcp:8080:interface=127.0.0.1",)
    assert Config().relay == ("sqlite:",)


def test_it_serves_without_a_word(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8080))
        except OSError:
            pytest.skip("port 8080 is in use here")
    twistd = Path(sys.executable).with_name("twistd")
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([twistd, "-n", "chat"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            until(lambda: b"open http://127.0.0.1:8080/" in (tmp_path / "log").read_bytes())
            page = httpx.get("http://127.0.0.1:8080/", trust_env=False, timeout=60)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert (tmp_path / "chat.db").exists()
        finally:
            process.terminate()


# Mistakes that are seen before anything starts


@pytest.mark.parametrize(
    ("options", "variables", "line"),
    [
        (["--relai", "memory:"], {}, "there is no option --relai; did you mean 'relay'? See twistd chat --help"),
        (["--drain", "soon"], {}, "--drain: 'soon' will not do; give seconds from 0 up, or for example 90s, 15m"),
        (["--config", "broken.toml"], {}, "--config: broken.toml is not TOML: "),
        (["--config", "unknown.toml"], {}, "unknown.toml: there is no setting 'histori-count'; did you mean 'history-"),
        ([], {"TWISTED_CHAT_DRAIN": "soon"}, "TWISTED_CHAT_DRAIN: 'soon' will not do; give seconds"),
        (["--token-key-file", "nowhere"], {}, "the key file nowhere cannot be read: No such file or directory"),
        (["-p", "tls:0", "--certificates", "empty"], {}, "no usable certificate in empty: it has no .pem, "),
    ],
    ids=["option", "value", "TOML", "setting", "variable", "key file", "certificates"],
)
def test_a_mistake_is_named(
    tmp_path: Path, run_twistd: Run, options: list[str], variables: dict[str, str], line: str
) -> None:
    (tmp_path / "broken.toml").write_text("port = [", encoding="utf-8")
    (tmp_path / "unknown.toml").write_text("histori-count = 3", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    ended = run_twistd("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1", *options, **variables)
    assert complaint(ended).startswith(f"twistd chat: {line}")
    assert not (tmp_path / "chat.db").exists()


def test_certificates_that_cannot_be_served_are_named(tmp_path: Path, run_twistd: Run, authority: Authority) -> None:
    live = tmp_path / "live"
    authority.issue(live / "expired.example", "expired.example", lifetime=-timedelta(days=1))
    authority.issue(live / "mismatched.example", "mismatched.example")
    shutil.copy(live / "expired.example" / "privkey.pem", live / "mismatched.example" / "privkey.pem")
    line = complaint(run_twistd("-n", "--pidfile=", "chat", "-p", "tls:0:interface=127.0.0.1", "--certificates", live))
    assert f"no usable certificate in {live}: " in line
    assert re.search(r"expired\.example/fullchain\.pem: expired on \d{4}-\d\d-\d\d", line)
    assert "mismatched.example/fullchain.pem: no private key here fits the certificate of mismatched.example" in line


def test_a_port_that_is_taken_is_named(run_twistd: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        line = complaint(run_twistd("-n", "--pidfile=", "chat", "-p", endpoint, "--relay", "memory:"))
    assert f"twistd chat: --port {endpoint}: cannot listen there: " in line
    assert "in use" in line


# Mistakes of the database


def newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute("PRAGMA user_version = 99")
    database.execute("CREATE TABLE from_the_future (id INTEGER)")
    database.close()


def foreign(path: Path) -> None:
    path.write_bytes(b"these are no rooms\n" * 1000)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (foreign, "chat.db: is not an SQLite database; move it away, or name another path"),
        (
            newer,
            f"chat.db: was written by a newer version of this program (schema 99, this one knows {SCHEMA})",
        ),
    ],
    ids=["foreign", "newer"],
)
def test_a_database_that_is_not_ours_is_named(
    tmp_path: Path, run_twistd: Run, make: Callable[[Path], None], line: str
) -> None:
    make(tmp_path / "chat.db")
    before = (tmp_path / "chat.db").read_bytes()
    ended = run_twistd("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1", "--relay", "sqlite:chat.db")
    assert f"sqlite:{line}" in complaint(ended)
    assert (tmp_path / "chat.db").read_bytes() == before, "what is not ours is not touched"


def test_a_damaged_database_is_named(twistd: StartServer, run_twistd: Run, tmp_path: Path) -> None:
    server = twistd()
    for number in range(100):
        server.post(f"{number}" * 1000)
    server.terminate()
    size = (tmp_path / "chat.db").stat().st_size
    with (tmp_path / "chat.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    ended = run_twistd("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1")
    assert re.search(r"sqlite:chat\.db: is damaged \(.+\); restore a backup, or move the file away", complaint(ended))


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A directory in which this user makes no file."""
    if os.name == "posix" and os.getuid() == 0:
        return Path("/proc")  # permissions do not bind root
    directory = tmp_path / "unwritable"
    directory.mkdir(mode=0o500)
    return directory


def test_a_directory_that_cannot_be_written_is_named(run_twistd: Run, unwritable: Path) -> None:
    relay = f"sqlite:{unwritable}/chat.db"
    ended = run_twistd("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1", "--relay", relay)
    assert f"{relay}: cannot be written (unable to open database file); let this user " in complaint(ended)


def test_a_database_of_a_running_server_is_named(twistd: StartServer, run_twistd: Run) -> None:
    server = twistd()
    server.post("hi")
    ended = run_twistd("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1")
    assert "sqlite:chat.db: is in use by another process; stop that one, or name another path" in complaint(ended)
    assert [message["message"] for message in server.history()] == ["hi"], "the other one does not notice"


# In the background


@posix
def test_it_goes_into_the_background(tmp_path: Path, run_twistd: Run, port: int) -> None:
    files = ("--pidfile", "chat.pid", "--logfile", "chat.log")
    ended = run_twistd(*files, "chat", "-p", f"tcp:{port}:interface=127.0.0.1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    # Its parent has waited: the port is bound.
    process = int((tmp_path / "chat.pid").read_text())
    try:
        until(lambda: f"open http://127.0.0.1:{port}/" in (tmp_path / "chat.log").read_text())
        assert httpx.get(f"http://127.0.0.1:{port}/chat/", trust_env=False, timeout=60).json()["messages"] == []
        assert (tmp_path / "chat.db").exists()
    finally:
        os.kill(process, signal.SIGTERM)
        until(lambda: not (tmp_path / "chat.pid").exists(), "the end of the server")


@posix
def test_in_the_background_its_parent_tells_that_it_did_not_start(tmp_path: Path, run_twistd: Run) -> None:
    def complaints() -> list[str]:
        return [line for line in (tmp_path / "chat.log").read_text().splitlines() if not INFO.match(line)]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        ended = run_twistd("--pidfile", "chat.pid", "--logfile", "chat.log", "chat", "-p", endpoint)
    assert ended.returncode == 1
    assert f"--port {endpoint}: cannot listen there" in ended.stderr
    assert "Traceback" not in ended.stderr
    # It tells its parent first.
    until(complaints)
    until(lambda: not (tmp_path / "chat.pid").exists())
    (line,) = complaints()
    assert f"--port {endpoint}: cannot listen there: " in line
