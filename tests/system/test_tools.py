"""``python -m twisted_chat`` against a real server."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.twistd import Server, until

StartServer = Callable[..., Server]

PATIENCE = 90.0


def tool(*arguments: str | Path, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twisted_chat", *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def tail(url: str, *options: str | Path, cwd: Path) -> Iterator[Callable[[], list[str]]]:
    """Follows a room meanwhile; what was printed until now."""
    output = cwd / "tail"
    command = [sys.executable, "-m", "twisted_chat", "tail", url, *options]
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield lambda: output.read_text(encoding="utf-8").splitlines()
        finally:
            process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            process.wait(PATIENCE)


def test_tail_follows_through_a_restart(twistd: StartServer, tmp_path: Path) -> None:
    server = twistd()
    room = f"{server.url}/chat/lobby"
    first = server.post("before it came").json()
    with tail(room, "--since", first["id"], cwd=tmp_path) as printed:
        said = tool("publish", room, "--handle", "bob", "hello", cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        second = server.history()[-1]
        assert said.stdout == f"{second['id']}\n"
        until(lambda: len(printed()) == 1)
        server.terminate()
        server.start()
        lines = tool("publish", room, "--handle", "cron", cwd=tmp_path, given="one\n\ntwo\n")
        assert lines.returncode == 0, lines.stderr
        until(lambda: len(printed()) == 3)
    third, fourth = server.history()[-2:]
    assert printed() == [
        f"{second['timestamp']} bob: hello",
        f"{third['timestamp']} cron: one",
        f"{fourth['timestamp']} cron: two",
    ]


def test_who_may_come_in(twistd: StartServer, tmp_path: Path) -> None:
    (tmp_path / "token-key").write_text(secrets.token_hex(32))
    api_key = secrets.token_urlsafe(32)
    (tmp_path / "api-keys").write_text(f"# of the backup\n{api_key}\n")
    for name in ("token-key", "api-keys"):
        (tmp_path / name).chmod(0o600)
    options = ("--token-key-file", "token-key", "--token-audience", "chat", "--api-key-file", "api-keys")
    server = twistd(*options, "--self-signed", endpoint="tls:{port}:interface=127.0.0.1")
    room = f"{server.url}/chat/lobby"
    made = tool("token", "u1", "--key-file", "token-key", "--handle", "ann", "--audience", "chat", cwd=tmp_path)
    (tmp_path / "token").write_text(made.stdout)

    def publish(*options: str) -> subprocess.CompletedProcess[str]:
        return tool("publish", room, *options, "hi", cwd=tmp_path)

    assert publish("--insecure", "--token-file", "token").returncode == 0
    assert publish("--insecure", "--api-key-file", "api-keys", "--handle", "backup").returncode == 0
    page = server.get("/chat/lobby", authorization=f"Bearer {made.stdout.strip()}").json()
    assert [message["handle"] for message in page["messages"]] == ["ann", "backup"]

    refused = publish("--insecure")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"twisted_chat publish: {room}: this room needs a token: send Authorization")
    untrusted = publish("--token-file", "token")
    assert (untrusted.returncode, untrusted.stderr.count("\n")) == (1, 1)
    assert "certificate verify failed" in untrusted.stderr


@pytest.mark.parametrize("command", ["publish", "tail"])
def test_nobody_there(tmp_path: Path, port: int, command: str) -> None:
    room = f"http://127.0.0.1:{port}/chat/"
    ended = tool(command, room, *(["hi"] if command == "publish" else []), cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(f"twisted_chat {command}: {room}: ")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ([], 0, "the configuration is good\n"),
        (["--relay", "sqlite:nowhere/chat.db"], 1, "there is no directory nowhere; make it, or name another path"),
        (["--config", "nowhere.toml"], 1, "--config: nowhere.toml cannot be read: No such file or directory"),
    ],
)
def test_check(tmp_path: Path, options: list[str], status: int, said: str) -> None:
    ended = tool("check", *options, cwd=tmp_path)
    assert (ended.returncode, said in ended.stdout + ended.stderr) == (status, True), ended
    assert (ended.stdout + ended.stderr).count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_bench_measures_and_says_what_was_in_the_way(twistd: StartServer, tmp_path: Path) -> None:
    server = twistd("--limit-connections-per-address", "5", "--limit-messages-per-address", "1:30")
    room = f"{server.url}/chat/bench"
    load = ("--members", "3", "--seconds", "1", "--characters", "40")
    done = tool("bench", room, *load, "--rate", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    # Two; where it is held up, it says what it is behind with.
    stored = [message["message"] for message in server.history("bench")]
    assert stored
    assert f"stored     {len(stored)}\n" in done.stdout
    assert f"delivered  {3 * len(stored)}," in done.stdout
    assert "all within" in done.stdout
    assert {len(message) for message in stored} == {40}
    limited = tool("bench", room, *load, "--rate", "200", cwd=tmp_path)
    assert limited.returncode == 1
    assert "times rate_limited" in limited.stdout
    crowd = tool("bench", room, "--members", "6", cwd=tmp_path)
    assert crowd.returncode == 1
    assert crowd.stderr.startswith(f"twisted_chat bench: {room}: ")
    assert "429" in crowd.stderr
    nobody = tool("bench", "http://127.0.0.1:9/chat/bench", cwd=tmp_path)
    assert (nobody.returncode, len(nobody.stderr.splitlines())) == (1, 1)
