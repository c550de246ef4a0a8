r"""How log events are written: one line of text or one JSON object each, and neither can be forged by a client.

Text::

    2026-11-22T07:20:00Z info  twisted_chat.hub  ann joined lobby
    2026-11-22T07:20:01Z error twisted_chat.hub  lobby cannot be left
        Traceback (most recent call last):
          ...

A line that is not indented is an event. Whatever is not printable (line breaks, terminal escapes, characters that turn
the direction of text) is written as in a Python string: ``\n``, ``\x1b``, ``\u202e``. Lines have a bound, and say when
they were cut.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

LONGEST: Final = 8_192
"""Characters of a line. The journal splits at 48 KiB, and would take what follows for a line of its own."""

MOST_LINES: Final = 200
"""Lines of a traceback; of a longer one the end is kept, where the error is."""

_PRIORITIES: Final = {"debug": "<7>", "info": "<6>", "warn": "<4>", "error": "<3>", "critical": "<2>"}
# Keys of our own, and those that Twisted's older interface leaves in events.
_RESERVED: Final = frozenset(
    {"time", "level", "system", "message", "process", "traceback", "isError", "why", "failure", "format", "printed"}
)


EMFILE_SECONDS: Final = 60.0
"""Seconds between two lines about connections that could not be taken for want of file descriptors."""


@implementer(ILogFilterPredicate)
class RefusedAccepts:
    """Says once in a while that connections cannot be taken. Twisted says so several times for each of them."""

    _log = Logger()
    _FORMATS: Final = ("EMFILE", "Re-reserving EMFILE", "Could not accept new connection")

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds: Final = seconds
        self._said: float | None = None

    def __call__(self, event: LogEvent) -> object:
        namespace, text = event.get("log_namespace"), event.get("log_format")
        if not str(namespace).startswith("twisted.internet.tcp") or not str(text).startswith(self._FORMATS):
            return PredicateResult.maybe
        now = self._seconds()
        if self._said is None or now - self._said >= EMFILE_SECONDS:
            self._said = now
            self._log.error(
                "new connections are closed, the system has no file descriptor left for them; right would be a higher "
                "limit (LimitNOFILE= of the unit, ulimit -n) or a lower --limit-connections"
            )
        return PredicateResult.no


class ServiceLog:
    """Where the events of a process go, and which.

    form, level
        ``--log-format``; ``--log-level``, and what is worse
    twistd
        the options of `twistd` itself, which say where to
    process
        the number of this process among several, which is then said in each line
    """

    def __init__(
        self,
        form: str,
        level: str,
        twistd: Mapping[str, Any] | None,
        environ: Mapping[str, str],
        process: int | None = None,
    ) -> None:
        self._form: Final = form
        self._twistd: Final = twistd or {}
        self._environ: Final = environ
        self._process: Final = process
        self._least: Final = LogLevelFilterPredicate()
        self.set_level(level)

    def attach(self, application: Any) -> IO[Any] | None:
        """Write the events of twistd's application, unless ``--logger`` or ``--syslog`` chose who does.

        Returns what they are written to. Raises `SystemExit`.
        """
        stream = open_log(self._twistd)
        if stream is not None:
            write = observer(stream, self._form, self._environ, self._process)
            application.setComponent(ILogObserver, FilteringLogObserver(write, [RefusedAccepts(), self._least]))
        return stream

    def set_level(self, level: str) -> None:
        """One that ``--log-level`` takes. What is critical is written in any case."""
        self._least.setLogLevelForNamespace("", LogLevel.levelWithName(level))


def open_log(twistd: Mapping[str, Any]) -> IO[Any] | None:
    """Where events are to be written: what `twistd` was told with ``--logfile``; None if it was told of another log.

    Raises `SystemExit`.
    """
    if twistd.get("logger") or twistd.get("syslog"):
        return None
    file = twistd.get("logfile")
    if file in (None, "-") and twistd.get("nodaemon", True):
        return sys.stdout
    from twisted.python.logfile import LogFile

    try:
        log: IO[Any] = LogFile.fromFullPath(file or "twistd.log")
    except OSError as error:
        raise SystemExit(f"twistd: --logfile: cannot write to {error.filename}: {error.strerror}") from None
    return log


def observer(stream: IO[Any], form: str, environ: Mapping[str, str], process: int | None = None) -> ILogObserver:
    """What writes events to `stream` in a `form` that ``--log-format`` names.

    process
        the number of this process among several, which is then said in each line
    """
    if form == "json":
        return json_observer(stream, process)
    return text_observer(stream, process, journal=stream is sys.stdout and is_journal(stream, environ))


def text_observer(stream: IO[Any], process: int | None = None, *, journal: bool = False) -> ILogObserver:
    """Write events to `stream` as text.

    journal
        the stream is read by systemd's journal (`is_journal`): each line starts with its priority, ``<3>``, which the
        journal takes off, instead of the time, which it keeps by itself
    """

    number = "" if process is None else f"[{process}] "

    def line(event: LogEvent) -> str | None:
        message, failure = _parts(event)
        if not message and failure is None:
            return None
        level = _level(event)
        prefix = _PRIORITIES.get(level, "<6>") if journal else ""
        at = "" if journal else f"{_time(event, 'seconds') or '-'} "
        lines = [f"{at}{level:<5} {number}{one_line(_system(event))}  {one_line(message)}"]
        if failure is not None:
            lines += [f"    {one_line(frame)}" for frame in _traceback(failure)]
        return "".join(f"{prefix}{text}\n" for text in lines)

    return _observer(stream, line)


def json_observer(stream: IO[Any], process: int | None = None) -> ILogObserver:
    """Write events to `stream` as JSON: one object a line, in ASCII.

    ``time`` (UTC, microseconds), ``level``, ``system``, ``message``, ``process`` (one of several), ``traceback`` (if
    any), and those named fields of the event that JSON can say. A field that is named like one of these is left out.
    """

    def line(event: LogEvent) -> str | None:
        message, failure = _parts(event)
        if not message and failure is None:
            return None
        entry: dict[str, object] = {
            "time": _time(event, "microseconds"),
            "level": _level(event),
            "system": _bounded(_system(event)),
            "message": _bounded(message),
        }
        if process is not None:
            entry["process"] = process
        if failure is not None:
            entry["traceback"] = "\n".join(_bounded(frame) for frame in _traceback(failure))
        entry.update(_fields(event))
        return json.dumps(entry) + "\n"

    return _observer(stream, line)


def is_journal(stream: IO[Any], environ: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads `stream`: ``$JOURNAL_STREAM`` names its device and inode (systemd.exec(5))."""
    if "JOURNAL_STREAM" not in environ:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        # Not a file of the system: io.StringIO, a stream that was closed.
        return False
    return environ["JOURNAL_STREAM"] == f"{status.st_dev}:{status.st_ino}"


def one_line(text: str) -> str:
    """`text` in printable characters, at most `LONGEST` of them and a note."""
    line = text[:LONGEST]
    if not line.isprintable():
        line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)
    if max(len(text), len(line)) > LONGEST:
        return f"{line[:LONGEST]}... ({len(text)} characters)"
    return line


def _observer(stream: IO[Any], line: Callable[[LogEvent], str | None]) -> ILogObserver:
    if isinstance(stream, io.TextIOWrapper):
        # Not every terminal and locale can write every message; none may be lost for it.
        stream.reconfigure(errors="backslashreplace")
    return FileLogObserver(stream, line)


def _parts(event: LogEvent) -> tuple[str, Failure | None]:
    """What an event says, and the failure that it carries."""
    failure = event.get("log_failure")
    if failure is None and isinstance(event.get("failure"), Failure):
        # twisted.python.log.err: its text is the traceback.
        return str(event.get("why") or "unhandled error"), event["failure"]
    return formatEvent(event).strip(), failure


def _level(event: LogEvent) -> str:
    level = event.get("log_level", LogLevel.info)
    return str(level.name)


def _system(event: LogEvent) -> str:
    return str(event.get("log_system") or event.get("log_namespace") or "-")


def _time(event: LogEvent, precision: str) -> str | None:
    time = event.get("log_time")
    if time is None:
        return None
    return datetime.fromtimestamp(time, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _traceback(failure: Failure) -> list[str]:
    lines = failure.getTraceback().rstrip().splitlines()
    if len(lines) > MOST_LINES:
        return [f"({len(lines) - MOST_LINES} lines left out)", *lines[-MOST_LINES:]]
    return lines


def _fields(event: LogEvent) -> dict[str, object]:
    """The fields of an event that JSON can say."""
    fields: dict[str, object] = {}
    for name, value in event.items():
        if name.startswith("log_") or name in _RESERVED:
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            fields[name] = _bounded(value)
        else:
            try:
                encoded = json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                continue
            if len(encoded) <= LONGEST:
                fields[name] = value
    return fields


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"
