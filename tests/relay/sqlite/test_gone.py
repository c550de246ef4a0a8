"""The files of the database are moved, deleted or replaced while it is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import capturedLogs, formatEvent

from tests.relay.conftest import Events, taken
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.sqlite import SqliteRelay
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft
from twisted_chat.relay.sqlite.thread import IRelayReactor

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere files that are open stay where they are")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "chat.db"


def log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def move(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.db")


def move_back(path: Path) -> None:
    path.parent.parent.joinpath("elsewhere.db").rename(path)


def move_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("there"))


def move_directory_back(path: Path) -> None:
    path.parent.with_name("there").rename(path.parent)


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.rename(path.parent.parent / "elsewhere.db")
    path.with_name("copy").rename(path)


def move_log(path: Path) -> None:
    log(path).rename(path.with_name("log"))


def move_log_back(path: Path) -> None:
    path.with_name("log").rename(log(path))


Change = Callable[[Path], Any]


def refusal(call: Callable[[], Any]) -> ChatError:
    with pytest.raises(ChatError) as error:
        call()
    return error.value


@pytest.mark.parametrize(
    ("away", "back"),
    [
        (move, move_back),
        (move_directory, move_directory_back),
        (replace, move_back),
        (move_log, move_log_back),
        (Path.unlink, None),
        (lambda path: log(path).unlink(), None),
        (lambda path: shutil.rmtree(path.parent), None),
    ],
)
def test_nothing_is_acknowledged_until_they_are_back(path: Path, away: Change, back: Change | None) -> None:
    with closing(ChatDatabase(path, HistoryLimits())) as database:
        [before] = taken(database.store([Draft("r", b"before")], 1.0))
        away(path)
        for call in (
            lambda: database.store([Draft("r", b"lost", "key")], 2.0),
            lambda: database.store([Draft("new", b"lost")], 2.0),
            lambda: database.probe(2.0),
        ):
            refused = refusal(call)
            assert refused.reason is Reason.TRY_AGAIN
            assert str(path.parent) not in refused.message
            assert str(path) in str(refused.__cause__)
        assert database.history("r", Newest(10), 2.0).publications == (before.publication,)
        if back is None:
            return
        back(path)
        database.probe(3.0)
        [after] = taken(database.store([Draft("r", b"after", "key")], 3.0))
        assert (after.duplicate, after.publication.position.offset) == (False, 2)
    with closing(ChatDatabase(path, HistoryLimits(age=0.0))) as database:
        kept = database.history("r", Newest(10), 4.0).publications
        assert [publication.data for publication in kept] == [b"before", b"after"]


def test_one_that_goes_while_it_is_written_is_not_acknowledged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(ChatDatabase(path, HistoryLimits())) as database:
        database.store([Draft("r", b"before")], 1.0)
        with monkeypatch.context() as patched:
            write = database._write

            def write_and_move(batch: Any) -> None:
                write(batch)
                move(path)

            patched.setattr(database, "_write", write_and_move)
            refusal(lambda: database.store([Draft("r", b"1", "key")], 2.0))
        move_back(path)
        # It was not said that it was not stored: whoever repeats it with its key learns that it was.
        assert [one.duplicate for one in taken(database.store([Draft("r", b"1", "key"), Draft("r", b"2")], 3.0))] == [
            True,
            False,
        ]


def test_a_link_that_leads_elsewhere_is_another_file(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with closing(ChatDatabase(link, HistoryLimits())) as database:
        database.store([Draft("r", b"1")], 1.0)
        link.unlink()
        link.symlink_to(tmp_path / "another.db")
        refusal(lambda: database.store([Draft("r", b"2")], 2.0))
        link.unlink()
        link.symlink_to(path)
        database.store([Draft("r", b"2")], 3.0)


def test_another_working_directory_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(ChatDatabase(Path("chat.db"), HistoryLimits())) as database:
        monkeypatch.chdir("/")
        database.store([Draft("r", b"1")], 1.0)


def test_what_is_put_there_is_not_touched_at_the_end(path: Path) -> None:
    with closing(ChatDatabase(path, HistoryLimits())) as database:
        database.store([Draft("r", b"1")], 1.0)
        shutil.copytree(path.parent, path.parent.with_name("backup"))
        shutil.rmtree(path.parent)
        path.parent.with_name("backup").rename(path.parent)
        there = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        assert log(path).name in there
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == there


@pytest_twisted.async_yield_fixture
async def relay(reactor: IRelayReactor, path: Path, events: Events) -> AsyncIterator[SqliteRelay]:
    relay = SqliteRelay(reactor, path, HistoryLimits())
    await relay.start(events)
    yield relay
    await relay.stop()


@pytest_twisted.ensureDeferred
async def test_the_relay_says_it_once_and_is_not_ready(relay: SqliteRelay, path: Path) -> None:
    await relay.publish("r", b"1")
    assert await relay.ready() == ()
    with capturedLogs() as logged:
        move(path)
        for _ in range(5):
            with pytest.raises(ChatError):
                await relay.publish("r", b"2")
        with pytest.raises(ChatError, match="taken away"):
            await relay.ready()
        move_back(path)
        await relay.publish("r", b"3")
        assert await relay.ready() == ()
    lines = [formatEvent(event) or "" for event in logged]
    assert len(lines) == 2
    assert str(path) in lines[0]
    assert "put the files" in lines[0]
