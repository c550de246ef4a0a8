"""A real server in a process of its own: started, asked, stopped, killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.ports import free_port

PATIENCE: Final = 90.0
"""Seconds until a test gives up; nothing takes nearly as long unless it is broken, or the machine very busy."""

TWISTD: Final = Path(sys.executable).with_name("twistd")
SERVING: Final = re.compile(r"open https?://\S+ in a browser|listening on \S+")


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """What `condition` returns as soon as that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what or condition}")
        time.sleep(0.02)
    return result


def environment(**variables: str) -> dict[str, str]:
    """Ours without what speaks to a server, and with `variables`."""
    ours = re.compile("TWISTED_CHAT_|LISTEN_|NOTIFY_|WATCHDOG_|CREDENTIALS_|STATE_|JOURNAL_|PYTHON|COV_")
    return {name: value for name, value in os.environ.items() if not ours.match(name)} | variables


def run(directory: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What became of ``twistd`` with `arguments`, which is expected to end; `variables`: of its environment."""
    return subprocess.run(
        [TWISTD, *arguments],
        cwd=directory,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Server:
    """A server and its directory, which outlives it.

    What it needs to be asked is in `url` and `port`; `log` is everything that it wrote, on standard output and error,
    since it was last started.
    """

    def __init__(
        self,
        directory: Path,
        options: tuple[str, ...],
        environ: Mapping[str, str],
        endpoint: str,
        twistd: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.secure = endpoint.startswith("tls")
        self.url = f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"
        self._log = directory / "log"
        self._environ = dict(environ)
        self._arguments = [
            str(TWISTD),
            "-n",
            "--pidfile=",
            *twistd,
            "chat",
            "-p",
            endpoint.format(port=self.port),
            *options,
        ]
        self.start()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._arguments,
                cwd=self.directory,
                env=environment(**self._environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._serves, "a server that serves")

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log}")
        return SERVING.search(self.log) is not None

    def logged(self, text: str) -> str:
        """Waits for the line of the log with this text."""
        found = until(lambda: [line for line in self.log.splitlines() if text in line], f"{text!r} in the log")
        return str(found[0])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status; a negative one is the signal that ended it."""
        return self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """Stops it as a service manager does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """What a crash is like."""
        self.process.kill()
        self.wait()

    def restart(self) -> None:
        self.terminate()
        self.start()

    # Asking it

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, trust_env=False, verify=False, timeout=PATIENCE)

    def post(self, message: str, room: str = "lobby", headers: Mapping[str, str] | None = None, **fields: str) -> Any:
        """The answer to a message of ann's."""
        return httpx.post(
            f"{self.url}/chat/{room}",
            json={"handle": "ann", "message": message} | fields,
            headers=dict(headers or {}),
            trust_env=False,
            verify=False,
            timeout=PATIENCE,
        )

    def history(self, room: str = "lobby") -> list[dict[str, Any]]:
        """All that is kept of a room."""
        page = self.get(f"/chat/{room}?limit=200").json()
        messages: list[dict[str, Any]] = page["messages"]
        while page["more"]:
            page = self.get(f"/chat/{room}?limit=200&before={messages[0]['id']}").json()
            messages = page["messages"] + messages
        return messages

    def socket(self, room: str = "lobby", **options: Any) -> ClientConnection:
        """A WebSocket in a room; close it."""
        url = self.url.replace("http", "ws", 1)
        connection: ClientConnection = connect(
            f"{url}/chat/{room}", proxy=None, open_timeout=PATIENCE, close_timeout=PATIENCE, **options
        )
        return connection

    @contextmanager
    def events(self, room: str = "lobby", **headers: str) -> Iterator[Iterator[str]]:
        """The lines of an event stream."""
        ask = {"accept": "text/event-stream"} | headers
        with (
            httpx.Client(trust_env=False, verify=False, timeout=PATIENCE) as client,
            client.stream("GET", f"{self.url}/chat/{room}", headers=ask) as response,
        ):
            response.raise_for_status()
            yield response.iter_lines()
