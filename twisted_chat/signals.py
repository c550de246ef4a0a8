"""What signals of the system do, and how the process ends: as twistd has it, but for what is here."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from twisted_chat.listening import StartError

_log: Final = Logger()


TERMINAL: Final = 0
"""The descriptor of the standard input, which is a terminal if a person started the process there."""


def on_hangup(reactor: Any, act: Callable[[], None], *, at_end_of_terminal: bool = False) -> None:
    """Call `act` on each SIGHUP.

    at_end_of_terminal
        whether the signal stops the reactor where it says that the terminal is gone in which the process was started,
        and was not to be ignored then, as with nohup
    """
    if not hasattr(signal, "SIGHUP"):
        return
    attended = at_end_of_terminal and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and is_terminal(TERMINAL)

    def hung_up() -> None:
        if not attended or is_terminal(TERMINAL):
            act()
            return
        _log.warn("the terminal in which the server was started is gone: it stops")
        _stop(reactor)

    reactor.callWhenRunning(signal.signal, signal.SIGHUP, lambda *_: reactor.callFromThread(hung_up))


def stop_on_hangup(reactor: Any) -> None:
    """Stop the reactor on SIGHUP, where that would kill the process: not after nohup."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        reactor.callWhenRunning(signal.signal, signal.SIGHUP, lambda *_: reactor.callFromThread(_stop, reactor))


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # the end of a terminal is signalled more than once
        reactor.stop()


def is_terminal(descriptor: int) -> bool:
    """Return whether a descriptor is a terminal that is there still."""
    try:
        return os.isatty(descriptor)  # asks for its settings, which fails once it has hung up
    except OSError:
        return False


@contextmanager
def second_signal(act: Callable[[], None]) -> Iterator[None]:
    """Within, a signal to stop calls `act`. The reactor understands the first one, and fails on others.

    A signal that is ignored stays so.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last is Ctrl-Break on Windows
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def end_failed(reactor: Any) -> None:
    """Stop in order, and then end with status 1."""
    # twistd ends with 0 whatever made the reactor stop; this comes after it has tidied up.
    atexit.register(_exit_failed)
    reactor.callWhenRunning(reactor.stop)


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def one_line(program: str) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """A `sys.excepthook` that says a `StartError` in one line, behind the name of the program."""

    def say(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, StartError):
            sys.stderr.write(f"{program}: {error}\n")
        else:
            sys.__excepthook__(kind, error, traceback)

    return say
