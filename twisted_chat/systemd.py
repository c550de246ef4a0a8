"""What systemd is told: ready, stopping, reloading, still alive.

The protocol is one datagram of ``NAME=value`` lines for each message, sent to the socket that ``$NOTIFY_SOCKET`` names
(sd_notify(3)). Without that variable all of this does nothing, so nobody has to ask which system runs. Sockets that
systemd passes on are read by Twisted's ``systemd:`` endpoints, not here.
"""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Callable, MutableMapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_chat.life import LifeSigns, Repeat, in_thread

MAX_STATUS: Final = 500
"""Characters of a status line; systemd takes 4,096 bytes for a whole datagram."""

_UNIX: Final = getattr(socket, "AF_UNIX", None)  # not on Windows


class Notifier:
    """Tells the service manager how this process is doing.

    Takes ``NOTIFY_SOCKET`` out of `environ`: a process that we start must not speak for us.

    A message that cannot be delivered is logged the first time and forgotten: it is worth neither stopping nor waiting.
    """

    _log = Logger()

    def __init__(self, environ: MutableMapping[str, str], monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        self._monotonic = monotonic
        self._complained = False
        # One for all messages: a process that is out of descriptors must not seem dead.
        self._socket = _socket() if self._address is not None else None
        if self._socket is not None:
            weakref.finalize(self, self._socket.close)

    @property
    def enabled(self) -> bool:
        """Whether anyone listens."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Started, or done reloading."""
        self._send("READY=1", _status(status))

    def stopping(self, within: float = 0.0) -> None:
        """Shutting down, which takes up to `within` seconds.

        systemd grants them beyond its own ``TimeoutStopSec=``, so a longer drain window needs no change of the unit.
        """
        lines = ["STOPPING=1", _status("stopping")]
        if within > 0:
            lines.append(f"EXTEND_TIMEOUT_USEC={round(within * 1e6)}")
        self._send(*lines)

    def reloading(self) -> None:
        """Reading configuration and certificates again; `ready` ends it."""
        # systemd compares this with its own clock, CLOCK_MONOTONIC, which the reactor's need not be.
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic() // 1000}", _status("reloading"))

    def failed(self, message: str) -> None:
        """Ends, because it cannot start."""
        self.status(message)

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "systemd cannot be told {message!r} at {address!r}: {error}",
                    message=lines[0],
                    address=self._address,
                    error=error,
                )


class Watchdog(Service):
    """Says "still alive" at a third of the time after which systemd kills a silent service (``WatchdogSec=``).

    It falls silent when the reactor is stuck, but not while that is busy (`life.LifeSigns`); and it only speaks while
    `alive`, which a thread asks, says that what this process is responsible for lives too. Takes ``WATCHDOG_USEC`` and
    ``WATCHDOG_PID`` out of `environ`, and does nothing where they are missing or meant for another process.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        notifier: Notifier,
        environ: MutableMapping[str, str],
        alive: Callable[[], bool] = lambda: True,
        repeat: Repeat = in_thread,
    ) -> None:
        self._alive = alive
        self._reactor = reactor
        self._notifier = notifier
        self._microseconds = environ.pop("WATCHDOG_USEC", "")
        self._pid = environ.pop("WATCHDOG_PID", "")
        self._repeat = repeat
        self._signs: LifeSigns | None = None

    def startService(self) -> None:
        super().startService()
        interval = self._interval()
        if interval is not None and self._notifier.enabled:
            self._signs = LifeSigns(self._reactor, interval, self._beat, self._repeat)
            self._signs.startService()

    def stopService(self) -> None:
        super().stopService()
        if self._signs is not None:
            self._signs.stopService()
            self._signs = None

    def _interval(self) -> float | None:
        """Seconds between two signs of life, or None where nobody waits for them."""
        # Compared here and not earlier: twistd may have forked since it read its options.
        if not self._microseconds or (self._pid and self._pid != str(os.getpid())):
            return None
        if not (self._microseconds.isdecimal() and int(self._microseconds) > 0):
            self._log.warn(
                "WATCHDOG_USEC is {value!r}, which is no number of microseconds: the watchdog gets no sign of life",
                value=self._microseconds,
            )
            return None
        return int(self._microseconds) / 1e6 / 3

    def _beat(self) -> None:
        if self._alive():
            self._notifier.watchdog()


def _socket() -> socket.socket:
    assert _UNIX is not None, "an address is None where there are no such sockets"
    made = socket.socket(_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _address(name: str) -> str | None:
    """The socket's address: a path, or ``@`` and a name in the abstract namespace."""
    if not name or _UNIX is None:
        return None
    return "\0" + name[1:] if name.startswith("@") else name


def _status(text: str) -> str:
    # One line: what follows a line break would be read as another message.
    return "STATUS=" + "".join(char if char.isprintable() else " " for char in text[:MAX_STATUS])
