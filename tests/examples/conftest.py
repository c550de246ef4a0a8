"""The examples, started as their READMEs say: each program in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import browser, people, pytest_configure  # noqa: F401  # their fixtures are ours too
from tests.ports import free_port
from tests.relay.redis_server import RedisServer, needed_server, running
from tests.twistd import PATIENCE, environment, until

BIN = Path(sys.executable).parent


class Program:
    """A program of an example. Started again, it is what it was before.

    ready
        a regular expression for what it says when it can be used
    """

    def __init__(self, example: Path, log: Path, ready: str, environ: dict[str, str], *arguments: str | Path) -> None:
        self._arguments = arguments
        self._example = example
        self._log = log
        self._ready = ready
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote since its last start."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def begin(self) -> None:
        """Start it, and do not wait for it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._example,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Until it can be used."""
        until(self._is_ready, f"{self._ready!r} in {self._log}")

    def start(self) -> None:
        self.begin()
        self.wait()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send it the signal, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None
            self.check()

    def check(self) -> None:
        """What users do to an example must not make it fail."""
        assert not re.search(r"^\S+ (error|critical) |^Traceback", self.log, re.MULTILINE), self.log

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"it ended with {self._process.returncode}:\n{self.log}")
        return re.search(self._ready, self.log) is not None


class Stage:
    """Where the programs of one example run, and a directory for what they write."""

    def __init__(self, example: Path, directory: Path) -> None:
        self.example = example
        self.directory = directory
        self._programs: list[Program] = []

    def program(self, name: str, *arguments: str | Path, ready: str, **variables: str) -> Program:
        """One that was not started yet; it runs in the directory of the example."""
        log = self.directory / f"{name}.log"
        made = Program(self.example, log, ready, self.environment(**variables), *arguments)
        self._programs.append(made)
        return made

    @staticmethod
    def environment(**variables: str) -> dict[str, str]:
        """That of a program; the checkout is not the tests' to write to."""
        return environment(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1", **variables)

    def twistd(self, name: str, *arguments: str | Path, ready: str, **variables: str) -> Program:
        """The same for ``twistd chat`` and ``twistd chat-worker``."""
        return self.program(name, BIN / "twistd", "-n", "--pidfile=", *arguments, ready=ready, **variables)

    def python(self, name: str, *arguments: str | Path, ready: str, **variables: str) -> Program:
        return self.program(name, sys.executable, *arguments, ready=ready, **variables)

    def port(self) -> int:
        """One that nobody listens on."""
        return free_port()

    def close(self) -> None:
        # Those that were started last need those that were started first.
        for program in reversed(self._programs):
            program.stop()


@pytest.fixture(scope="module")
def make_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Stage]]:
    """``make_stage(directory)`` of an example; its programs end with the module."""
    stages: list[Stage] = []

    def make(example: Path) -> Stage:
        stages.append(Stage(example, tmp_path_factory.mktemp("stage")))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that runs, on a Unix socket."""
    with running(needed_server()) as server:
        yield server
