"""How log events are written."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, PredicateResult, capturedLogs
from twisted.python import log as legacy
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.application import Application
from twisted_chat.core.errors import Reason
from twisted_chat.logs import (
    LONGEST,
    MOST_LINES,
    RefusedAccepts,
    ServiceLog,
    is_journal,
    json_observer,
    text_observer,
)

NOON = 1_763_796_000.25  # 2025-11-22T07:20:00.25Z


@implementer(ILogObserver)
class AtNoon:
    """Gives events a time that is known, whatever the clock says."""

    def __init__(self, observer: ILogObserver) -> None:
        self.observer = observer

    def __call__(self, event: LogEvent) -> None:
        self.observer({**event, "log_time": NOON})


class Written:
    """A source of events, and what was written of them."""

    def __init__(self, observer: Callable[[io.StringIO], ILogObserver]) -> None:
        self.stream = io.StringIO()
        self.observer = AtNoon(observer(self.stream))
        self.source = Logger("twisted_chat.hub", observer=self.observer)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def entries(self) -> list[dict[str, Any]]:
        # By "\n" alone: splitlines() would split at characters that JSON may contain.
        assert self.text.endswith("\n")
        return [json.loads(line) for line in self.text[:-1].split("\n")]


@pytest.fixture
def text() -> Written:
    return Written(text_observer)


@pytest.fixture
def json_lines() -> Written:
    return Written(json_observer)


def failure(text: str = "no such room") -> Failure:
    try:
        raise LookupError(text)
    except LookupError:
        return Failure()


def test_they_are_observers() -> None:
    verifyObject(ILogObserver, text_observer(io.StringIO()))
    verifyObject(ILogObserver, json_observer(io.StringIO()))


def test_text_is_a_line_for_each_event(text: Written) -> None:
    text.source.info("{handle} joined {room}", handle="ann", room="lobby")
    text.source.warn("slow")
    text.source.critical("broken")
    assert text.text == (
        "2025-11-22T07:20:00Z info  twisted_chat.hub  ann joined lobby\n"
        "2025-11-22T07:20:00Z warn  twisted_chat.hub  slow\n"
        "2025-11-22T07:20:00Z critical twisted_chat.hub  broken\n"
    )


def test_one_of_several_processes_says_which() -> None:
    text = Written(lambda stream: text_observer(stream, 2))
    text.source.info("served")
    assert text.text == "2025-11-22T07:20:00Z info  [2] twisted_chat.hub  served\n"
    lines = Written(lambda stream: json_observer(stream, 2))
    lines.source.info("served", process="the event's own")
    assert lines.entries[0]["process"] == 2


def test_a_client_cannot_forge_a_line(text: Written) -> None:
    forged = "ann\n2025-11-22T07:20:00Z info  twisted_chat.auth  root logged in\r\x1b[2K\u2028\x85\u202e\x00"
    text.source.info("{handle} joined", handle=forged)
    (line,) = text.lines
    assert line.isprintable()
    assert r"ann\n2025-11-22" in line
    assert line.endswith(r"root logged in\r\x1b[2K\u2028\x85\u202e\x00 joined")


def test_nor_by_the_system_of_an_event(text: Written) -> None:
    text.source.info("hello", log_system="HTTPChannel\nforged")
    (line,) = text.lines
    assert r"HTTPChannel\nforged  hello" in line


def test_text_in_any_language_stays_readable(text: Written) -> None:
    text.source.info("{handle} joined", handle="Ærøskøbing 東京 \U0001f600")
    assert "Ærøskøbing 東京 \U0001f600 joined" in text.text


def test_a_failure_comes_with_its_traceback_indented(text: Written) -> None:
    text.source.failure("{room} cannot be left", failure("first\n2025-11-22T07:20:00Z info  forged"), room="lobby")
    first, *rest = text.lines
    assert first == "2025-11-22T07:20:00Z critical twisted_chat.hub  lobby cannot be left"
    assert rest[0] == "    Traceback (most recent call last):"
    assert "LookupError: first" in "".join(rest)
    assert all(line.startswith("    ") for line in rest)


def test_the_end_of_a_long_traceback_is_kept(text: Written) -> None:
    text.source.failure("deep", failure("\n".join(f"line {number}" for number in range(1_000))))
    _, note, *rest = text.lines
    assert note.endswith("lines left out)")
    assert len(rest) == MOST_LINES
    assert rest[-1] == "    line 999"


def test_long_lines_are_cut_and_say_so(text: Written) -> None:
    text.source.info("{body}", body="x" * (LONGEST + 1))
    text.source.info("{body}", body="\x00" * LONGEST)
    for line, length in zip(text.lines, (LONGEST + 1, LONGEST), strict=True):
        assert line.endswith(f"... ({length} characters)")
        assert len(line) < LONGEST + 100


def test_the_journal_gets_priorities_and_no_time() -> None:
    journal = Written(lambda stream: text_observer(stream, journal=True))
    journal.source.debug("one")
    journal.source.info("two")
    journal.source.warn("three")
    journal.source.error("four\n<0>forged")
    journal.source.failure("five", failure())
    first_five, rest = journal.lines[:5], journal.lines[5:]
    assert first_five == [
        "<7>debug twisted_chat.hub  one",
        "<6>info  twisted_chat.hub  two",
        "<4>warn  twisted_chat.hub  three",
        r"<3>error twisted_chat.hub  four\n<0>forged",
        "<2>critical twisted_chat.hub  five",
    ]
    assert rest
    assert all(line.startswith("<2>    ") for line in rest)


def test_an_event_that_says_nothing_is_not_written(text: Written, json_lines: Written) -> None:
    for written in (text, json_lines):
        written.source.info(None)
        written.source.info("")
        assert written.text == ""


def test_an_event_that_cannot_be_formatted_is_still_one_line(text: Written, json_lines: Written) -> None:
    for written in (text, json_lines):
        written.source.info("{missing}", other="a\nb")
        (line,) = written.lines
        assert "Unable to format event" in line


def test_an_event_without_time_or_level() -> None:
    for observer in (text_observer, json_observer):
        stream = io.StringIO()
        observer(stream)({"log_format": "bare"})
        (line,) = stream.getvalue().splitlines()
        if observer is text_observer:
            assert line == "- info  -  bare"
        else:
            assert json.loads(line) == {"time": None, "level": "info", "system": "-", "message": "bare"}


def test_json_is_an_object_for_each_event(json_lines: Written) -> None:
    json_lines.source.info(
        "{handle} left {room} after {seconds} s", handle="ann\u2028", room=b"caf\xc3\xa9\xff", seconds=1.5, final=True
    )
    (entry,) = json_lines.entries
    assert entry == {
        "time": "2025-11-22T07:20:00.250000Z",
        "level": "info",
        "system": "twisted_chat.hub",
        "message": "ann\u2028 left b'caf\\xc3\\xa9\\xff' after 1.5 s",
        "handle": "ann\u2028",
        "room": "café\\xff",
        "seconds": 1.5,
        "final": True,
    }
    assert json_lines.text.isascii()


def test_json_leaves_out_what_it_cannot_say(json_lines: Written) -> None:
    deep: list[object] = []
    deep.append(deep)
    json_lines.source.info(
        "hello",
        reason=Reason.TOO_SLOW,
        peer=object(),
        nan=float("nan"),
        deep=deep,
        large=list(range(LONGEST)),
        rooms=("lobby", "den"),
        nothing=None,
        log_private="not a field",
    )
    (entry,) = json_lines.entries
    assert set(entry) == {"time", "level", "system", "message", "rooms", "nothing"}
    assert entry["rooms"] == ["lobby", "den"]


def test_a_json_field_cannot_replace_what_every_entry_has(json_lines: Written) -> None:
    json_lines.source.info("hello", time="never", system="forged", message="forged", traceback="forged")
    (entry,) = json_lines.entries
    assert entry == {
        "time": "2025-11-22T07:20:00.250000Z",
        "level": "info",
        "system": "twisted_chat.hub",
        "message": "hello",
    }


def test_json_bounds_every_string(json_lines: Written) -> None:
    json_lines.source.info("{body}", body="x" * 100_000)
    (entry,) = json_lines.entries
    assert entry["body"] == entry["message"] == "x" * LONGEST + "... (100000 characters)"


def test_a_json_failure_has_its_traceback_in_a_field(json_lines: Written) -> None:
    json_lines.source.failure("{room} cannot be left", failure(), room="lobby")
    (entry,) = json_lines.entries
    assert entry["message"] == "lobby cannot be left"
    assert entry["traceback"].startswith("Traceback (most recent call last):\n")
    assert "LookupError: no such room" in entry["traceback"]


def test_events_of_the_older_interface(text: Written, json_lines: Written) -> None:
    for written in (text, json_lines):
        publisher = LogPublisher()
        publisher.addObserver(written.observer)
        old = legacy.LogPublisher(observerPublisher=LogPublisher(), publishPublisher=publisher)
        old.msg("starting", "up")
        old.msg(failure=failure(), why="no room", isError=1)
    first, second, *rest = text.lines
    assert first == "2025-11-22T07:20:00Z info  -  starting up"
    assert second == "2025-11-22T07:20:00Z critical -  no room"
    assert rest[0] == "    Traceback (most recent call last):"
    assert [entry["message"] for entry in json_lines.entries] == ["starting up", "no room"]


def test_no_message_is_lost_to_a_narrow_encoding() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    text_observer(stream)({"log_format": "東京"})
    assert raw.getvalue() == b"- info  -  \\u6771\\u4eac\n"


def test_files_of_bytes_are_written_in_utf_8() -> None:
    raw = io.BytesIO()
    text_observer(raw)({"log_format": "東京"})
    assert raw.getvalue().decode() == "- info  -  東京\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_less_than_the_level_is_left_out(form: str, tmp_path: Path) -> None:
    file, application = tmp_path / "log", Application()
    log = ServiceLog(form, "info", {"logfile": str(file)}, {})
    log.attach(application)
    source = Logger("twisted_chat.hub", observer=application.observer)

    def written(level: str) -> str:
        """Which of all levels are written, by their first letters."""
        before = len(file.read_text())
        log.set_level(level)
        for one in (source.debug, source.info, source.warn, source.error, source.critical):
            one("said")
        names = ("debug", "info", "warn", "error", "critical")
        return "".join(name[0] for line in file.read_text()[before:].splitlines() for name in names if name in line)

    assert [written(level) for level in ("debug", "info", "warn", "error")] == ["diwec", "iwec", "wec", "ec"]


def test_the_level_of_the_beginning(tmp_path: Path) -> None:
    file, application = tmp_path / "log", Application()
    ServiceLog("text", "error", {"logfile": str(file)}, {}).attach(application)
    source = Logger("twisted_chat.hub", observer=application.observer)
    source.warn("not said")
    source.error("said")
    assert file.read_text().splitlines()[0].endswith("error twisted_chat.hub  said")


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with tmp_path.joinpath("journal").open("w") as stream, tmp_path.joinpath("other").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream, environ)
        assert not is_journal(other, environ)
        assert not is_journal(stream, {})
        assert not is_journal(stream, {"JOURNAL_STREAM": "nonsense"})
        assert not is_journal(io.StringIO(), environ)
    assert not is_journal(stream, environ)
    assert not is_journal(sys.stderr, {})


def test_accepts_that_are_refused_are_one_line_a_minute() -> None:
    now = [0.0]
    filtered = RefusedAccepts(lambda: now[0])
    other: LogEvent = {"log_namespace": "twisted.internet.tcp.Port", "log_format": "(TCP Port {port} Closed)"}
    assert filtered(other) is PredicateResult.maybe
    with capturedLogs() as said:
        for second in range(130):
            now[0] = float(second)
            for text in ("EMFILE encountered; releasing", "EMFILE recovery: Closed socket", "Re-reserving EMFILE"):
                event: LogEvent = {"log_namespace": "twisted.internet.tcp.Port", "log_format": text}
                assert filtered(event) is PredicateResult.no
    assert [event["log_level"] for event in said] == [LogLevel.error] * 3
