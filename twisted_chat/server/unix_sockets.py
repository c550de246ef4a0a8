"""Unix sockets to listen on: what a process that died has left behind is taken over.

Twisted keeps a lock beside the socket, with the id of the process that has it. After a crash that id may belong to
another process, in a container it always does, and the lock holds for ever. To find out whether anybody listens on a
socket, the server connects to it instead.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

try:
    import fcntl
except ImportError:  # Windows, which has no such sockets either
    fcntl = None  # type: ignore[assignment]  # only looked at where there are

ALONE_SECONDS: Final = 1.0
"""Seconds that a start waits at most for others in the same directory, which need some milliseconds each."""


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class UnixServerEndpoint:
    """A socket in the file system.

    take_over
        whether to remove what a dead process left there; not where the socket is another's, and only adopted here
    """

    reactor: Any
    address: str
    mode: int
    backlog: int
    take_over: bool = True

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Fails with `CannotListenError`."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        path = Path(self.address)
        with _alone_in(path.parent):
            if self.take_over:
                try:
                    remove_if_dead(path)
                except OSError as error:
                    raise CannotListenError(None, self.address, error) from None
            port: IListeningPort = self.reactor.listenUNIX(self.address, factory, self.backlog, self.mode, False)
            return port


def remove_if_dead(path: Path) -> None:
    """Remove a socket on which nobody listens, and Twisted's lock of it. Raises `OSError` if somebody does."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return  # it cannot be bound: that error is the right one
    except OSError:
        return
    if is_answered(path):
        raise OSError(errno.EADDRINUSE, f"another process listens on {path}")
    path.unlink()
    lock = path.with_name(f"{path.name}.lock")
    if lock.is_symlink():
        lock.unlink()


def is_answered(path: Path) -> bool:
    """Return whether a process listens on a socket. Raises `OSError` where that cannot be known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its queue is full
        return True


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other servers that start waiting: of two that find the same dead socket, one would lose its new one."""
    lock: int | None = None
    if fcntl is not None:
        with suppress(OSError):  # not readable, of a file system that has no locks, or somebody keeps it
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            _lock(lock)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(directory: int) -> None:
    """Lock a directory, but not for whoever keeps it locked: in /tmp anybody may. Raises `OSError`."""
    end = time.monotonic() + ALONE_SECONDS
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)
        else:
            return
