"""`server.unix_sockets`: a socket that a dead process left behind is in nobody's way."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from twisted_chat.server import unix_sockets
from twisted_chat.server.unix_sockets import UnixServerEndpoint, is_answered

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def path() -> Iterator[Path]:
    # tmp_path is too long for a socket's address on macOS.
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "http.sock")


def leave(path: Path) -> None:
    """As kill -9 does: a socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


def leave_lock(path: Path) -> Path:
    """As Twisted's, of a process that lives."""
    lock = path.with_name(f"{path.name}.lock")
    lock.symlink_to(str(os.getpid()))
    return lock


def mode(path: Path) -> int | None:
    """None if it is not there."""
    try:
        return path.lstat().st_mode & 0o777
    except FileNotFoundError:
        return None


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def listen(reactor: Any, path: Path, mode: int = 0o660) -> Any:
    """The port, or what the attempt failed with."""
    outcome: list[Any] = []
    UnixServerEndpoint(reactor, str(path), mode, 10).listen(Factory()).addCallbacks(
        outcome.append, lambda failure: outcome.append(failure.value)
    )
    return outcome[0]


@pytest_twisted.ensureDeferred
async def test_what_a_dead_process_left_is_taken_over(reactor: Any, path: Path) -> None:
    leave(path)
    port = listen(reactor, path)
    assert is_answered(path)
    await maybeDeferred(port.stopListening)
    assert mode(path) is None


@pytest_twisted.ensureDeferred
async def test_a_lock_with_the_id_of_a_living_process_is_no_obstacle(reactor: Any, path: Path) -> None:
    leave(path)
    lock = leave_lock(path)
    port = listen(reactor, path, 0o600)
    assert mode(path) == 0o600
    assert mode(lock) is None
    await maybeDeferred(port.stopListening)


@pytest.mark.parametrize("queue", [0, 5])
def test_one_that_is_answered_is_left_alone(reactor: Any, path: Path, queue: int) -> None:
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen(queue)
        waiting = []
        for _ in range(queue + 2):  # a full queue is a sign of life, too
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(str(path))
        refused = listen(reactor, path)
        for each in waiting:
            each.close()
    assert isinstance(refused, CannotListenError)
    assert isinstance(refused.socketError, OSError)
    assert refused.socketError.errno == errno.EADDRINUSE
    assert str(path) in str(refused.socketError)
    assert path.is_socket()


def test_a_file_is_never_removed(reactor: Any, path: Path) -> None:
    path.write_text("dear")
    assert isinstance(listen(reactor, path), CannotListenError)
    assert path.read_text() == "dear"


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may connect to all of them")
def test_one_that_may_not_be_asked_is_left_alone(reactor: Any, path: Path) -> None:
    leave(path)
    path.chmod(0)
    assert isinstance(listen(reactor, path), CannotListenError)
    assert path.is_socket()


@pytest_twisted.ensureDeferred
async def test_whoever_holds_the_directory_delays_the_start_and_does_not_stop_it(
    reactor: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_sockets, "ALONE_SECONDS", 0.05)
    fcntl = pytest.importorskip("fcntl")
    leave(path)
    holder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        port = listen(reactor, path)
        assert is_answered(path)
        await maybeDeferred(port.stopListening)
    finally:
        os.close(holder)
