"""Starting and stopping what is measured, each on a processor of its own where there are two."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender
from benchmarks.installation import redis_server

PATIENCE: Final = 90.0
"""Seconds for a server to listen, or to end."""

SERVER_CPU: Final = 0
LOAD_CPU: Final = 1


class BrokenError(Exception):
    """A server that does not start, or a load generator that does not end well."""


@dataclass(frozen=True, slots=True)
class Running:
    """One contender, in as many processes as it has ports."""

    contender: Contender
    ports: tuple[int, ...]
    pids: tuple[int, ...]
    directory: Path
    """Where the first process works; ``log`` there is what it wrote."""

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def memory(self) -> float:
        """KiB that the processes hold, without children."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * resource.getpagesize() / 1024


def pinned(cpu: int) -> list[str]:
    """The beginning of a command that stays on this processor; nothing where that cannot be had."""
    if shutil.which("taskset") is None or cpu not in os.sched_getaffinity(0):
        return []
    return ["taskset", "-c", str(cpu)]


def free_port() -> int:
    """One that nothing listens on, below those that the system gives to clients, of which there are many here."""
    while True:
        port = random.randrange(11_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(contender: Contender, processes: int = 1) -> Iterator[Running]:
    """Start it, and stop it at the end. Raises `BrokenError`, and `MissingError` as `Contender.command` does."""
    with ExitStack() as stack:
        ports, pids, directories = [], [], []
        for _ in range(processes):
            port, directory = free_port(), Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-bench-")))
            command = [*pinned(SERVER_CPU), *contender.command(port)]
            process = stack.enter_context(started(command, contender.environ, directory))
            _until_it_listens(process, port, contender.name, directory)
            ports.append(port)
            pids.append(process.pid)
            directories.append(directory)
        yield Running(contender, tuple(ports), tuple(pids), directories[0])


@contextmanager
def redis() -> Iterator[int]:
    """A Redis of the benchmarks' own, that keeps nothing; its port. Raises `BrokenError` and `MissingError`."""
    with tempfile.TemporaryDirectory(prefix="chat-bench-") as name:
        port, directory = free_port(), Path(name)
        command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with started(command, {}, directory) as process:
            _until_it_listens(process, port, "Redis", directory)
            yield port


@contextmanager
def started(command: list[str], environ: Mapping[str, str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children, which end with this; what it says is in ``log`` of the directory."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TWISTED_CHAT_")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=ours | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Some have children: the group is theirs. A second SIGTERM cuts off clients that are left.
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, PATIENCE)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def _until_it_listens(process: subprocess.Popen[bytes], port: int, name: str, directory: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = (directory / "log").read_text(errors="replace").strip().splitlines()[-3:]
            raise BrokenError(f"{name} ended with status {process.returncode}: {' / '.join(said)}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BrokenError(f"{name} does not listen on its port after {PATIENCE:.0f} seconds")
