"""A server that a person started in a terminal ends with it; SIGHUP alone has it read its settings again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.twistd import PATIENCE, TWISTD, environment, until

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals here")


class Terminal:
    """A terminal with a server in it."""

    def __init__(self, directory: Path, before: Callable[[], Any] | None = None) -> None:
        self._master, slave = os.openpty()
        self._log = directory / "log"
        port = f"tcp:{free_port()}:interface=127.0.0.1"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [TWISTD, "-n", "chat", "-p", port, "--relay", "memory:", "--drain", "1"],
                cwd=directory,
                env=environment(),
                stdin=slave,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=before,
            )
        os.close(slave)
        self.logged("in a browser")
        # With a relay in memory that is said before the event loop runs, and with it the handler of the signal.
        until(self._handles_hangups, "a handler of SIGHUP")

    def _handles_hangups(self) -> bool:
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except FileNotFoundError:
            return True  # another system: it has had time enough, mostly
        (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
        return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)

    def logged(self, text: str) -> None:
        until(lambda: text in self._log.read_text(encoding="utf-8"), text)

    def close(self) -> None:
        """The window is closed, say; the shell passes the signal on."""
        os.close(self._master)
        self.process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)


def test_it_ends_in_order_with_its_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    try:
        terminal.process.send_signal(signal.SIGHUP)
        terminal.logged("reloaded")
        terminal.close()
        assert terminal.process.wait(PATIENCE) == 0
        terminal.logged("Server Shut Down")
    finally:
        terminal.end()
    assert not (tmp_path / "twistd.pid").exists()


def test_one_that_ignores_hangups_goes_on(tmp_path: Path) -> None:
    """As after nohup."""
    terminal = Terminal(tmp_path, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    try:
        terminal.close()
        terminal.logged("reloaded")
        assert terminal.process.poll() is None
    finally:
        terminal.end()
