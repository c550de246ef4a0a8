"""`twisted_chat.pid_file`: what a dead `twistd` left behind does not stop the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from twisted_chat.pid_file import DEFAULT, is_stale, settle


def test_there_is_none_in_the_foreground() -> None:
    twistd: dict[str, Any] = {"pidfile": DEFAULT, "nodaemon": 1}
    settle(twistd)
    assert twistd["pidfile"] == ""


@pytest.mark.parametrize("twistd", [{}, {"pidfile": "", "nodaemon": 1}, {"pidfile": None}])
def test_none_is_none(twistd: dict[str, Any]) -> None:
    before = dict(twistd)
    settle(twistd)
    assert twistd == before


@pytest.mark.parametrize("nodaemon", [0, 1])
def test_one_of_this_very_process_is_removed(tmp_path: Path, nodaemon: int) -> None:
    path = tmp_path / "chat.pid"
    path.write_text(str(os.getpid()))  # as it always is in a container
    twistd: dict[str, Any] = {"pidfile": str(path), "nodaemon": nodaemon}
    settle(twistd)
    assert twistd["pidfile"] == str(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "command", "stale"),
    [
        ("77", b"/bin/sleep\x0010", True),
        ("77", b"/opt/venv/bin/python\x00/opt/venv/bin/twistd\x00-n\x00chat", False),
        ("78", b"/bin/sleep\x0010", False),
        ("it is not a number", b"", False),
    ],
)
def test_one_of_another_program_is_stale(tmp_path: Path, text: str, command: bytes, stale: bool) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "cmdline").write_bytes(command)
    (tmp_path / "chat.pid").write_text(text)
    assert is_stale(tmp_path / "chat.pid", tmp_path) is stale


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert not is_stale(tmp_path / "chat.pid")
