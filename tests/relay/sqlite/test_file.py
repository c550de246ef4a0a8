"""Files that the SQLite relay opens, and those that it refuses, each with a line that says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest

from twisted_chat.core.publication import Newest, Position, Proof, Publication, Published, Since
from twisted_chat.relay.interface import HistoryLimits, RelayError
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft
from twisted_chat.relay.sqlite.file import APPLICATION, SCHEMA, Transaction, open_file

ROOMY = 1 << 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def refusal(path: Path) -> str:
    """What is said about it: one line, that begins with the path."""
    with pytest.raises(RelayError) as error:
        open_file(path, ROOMY)
    line = str(error.value)
    assert line.startswith(f"sqlite:{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"sqlite:{path}: ")


def make(path: Path, rows: int = 0) -> None:
    with closing(open_file(path, ROOMY)) as connection, Transaction(connection):
        for number in range(rows):
            connection.execute("INSERT INTO publications VALUES (?, 1, ?, 1, 0, randomblob(1000))", (number, number))


def test_a_new_file_is_ours_and_durable(path: Path) -> None:
    with closing(open_file(path, ROOMY)) as connection:
        pragmas = ["application_id", "user_version", "journal_mode", "synchronous", "locking_mode", "auto_vacuum"]
        values = [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    assert values == [APPLICATION, SCHEMA, "wal", 2, "exclusive", 2]
    assert [file.name for file in path.parent.iterdir()] == ["chat.db"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes here")
def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    """With all that is beside it, whatever the umask lets through."""
    before = os.umask(0o022)
    try:
        with closing(open_file(path, ROOMY)):
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"chat.db": 0o600, "chat.db-wal": 0o600}


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes here")
def test_the_mode_of_a_file_that_is_there_is_its_owners_to_choose(path: Path) -> None:
    make(path)
    path.chmod(0o640)
    make(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_was_written_is_there_when_it_is_opened_again(path: Path) -> None:
    make(path, rows=10)
    with closing(open_file(path, ROOMY)) as connection:
        assert connection.execute("SELECT count(*) FROM publications").fetchone() == (10,)


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    make(path)
    assert path.read_bytes().startswith(b"SQLite format 3\0")


def test_the_file_grows_to_its_bound(path: Path) -> None:
    with closing(open_file(path, 200_000)) as connection:
        with pytest.raises(sqlite3.OperationalError) as error:
            connection.execute("INSERT INTO publications VALUES (1, 1, 1, 1, 0, zeroblob(200000))")
        assert error.value.sqlite_errorcode == sqlite3.SQLITE_FULL
        connection.execute("INSERT INTO publications VALUES (1, 1, 1, 1, 0, zeroblob(100000))")
    assert path.stat().st_size <= 200_000


def test_a_transaction_that_raises_changes_nothing(path: Path) -> None:
    with closing(open_file(path, ROOMY)) as connection:

        def fail() -> None:
            with Transaction(connection):
                connection.execute("INSERT INTO publications VALUES (1, 1, 1, 1, 0, x'')")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert not connection.in_transaction
        with Transaction(connection):
            connection.execute("INSERT INTO publications VALUES (1, 1, 1, 1, 0, x'')")
        assert connection.execute("SELECT count(*) FROM publications").fetchone() == (1,)


def test_no_directory(tmp_path: Path) -> None:
    line = refusal(tmp_path / "missing" / "chat.db")
    assert line == f"there is no directory {tmp_path / 'missing'}; make it, or name another path"


def test_a_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"is a directory; name a file in it, as in sqlite:{tmp_path / 'chat.db'}"


@pytest.mark.parametrize("content", [b"Not a database, but a letter. " * 200, b"x" * 20, os.urandom(8_192)])
def test_not_a_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path) == "is not an SQLite database; move it away, or name another path"
    assert path.read_bytes() == content


@pytest.mark.parametrize("application", [0, 0x0F055112])
def test_the_database_of_another_program_is_left_as_it_is(path: Path, application: int) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE precious (data)")
        other.execute(f"PRAGMA application_id = {application}")
        other.commit()
    before = path.read_bytes()
    assert refusal(path) == "is the database of another program; name another path"
    assert path.read_bytes() == before


SCHEMA_1 = """
    PRAGMA auto_vacuum = INCREMENTAL;
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, offset INTEGER NOT NULL,
        tag INTEGER NOT NULL);
    CREATE TABLE publications (
        id INTEGER PRIMARY KEY, room INTEGER NOT NULL, offset INTEGER NOT NULL, tag INTEGER NOT NULL,
        previous INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (room, offset));
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY, room INTEGER NOT NULL, key BLOB NOT NULL, expires INTEGER NOT NULL,
        offset INTEGER NOT NULL, tag INTEGER NOT NULL, previous INTEGER NOT NULL, data BLOB NOT NULL,
        UNIQUE (room, key));
    CREATE TABLE probe (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, filler BLOB NOT NULL);
    INSERT INTO rooms VALUES (1, 'r', 'OldEpoch', 2, 2000000), (7, 's', 'Another1', 1, 3000000);
    INSERT INTO publications VALUES
        (1, 1, 1, 1000000, 0, x'7b7d'), (2, 1, 2, 2000000, 1000000, x'7b2278227d'), (3, 7, 1, 3000000, 0, x'7b7d');
    INSERT INTO keys VALUES (1, 1, x'6b', 300000000, 1, 1000000, 0, x'7b7d');
    PRAGMA application_id = 1953973096;
    PRAGMA user_version = 1;
"""
"""A file as the first version left it."""


def test_a_file_of_the_first_schema_goes_on(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(SCHEMA_1)
    for _ in range(2):
        with closing(ChatDatabase(path, HistoryLimits())) as database:
            history = database.history("r", Since(Position("OldEpoch", 0, 0), 10), 4.0)
            assert (history.proof, [one.data for one in history.publications]) == (Proof.COMPLETE, [b"{}", b'{"x"}'])
            assert history.top == Position("OldEpoch", 2, 2_000_000)
            [again] = database.store([Draft("r", b"{}", "k")], 5.0)
            assert isinstance(again, Published)
            assert (again.duplicate, again.publication.position) == (True, Position("OldEpoch", 1, 1_000_000))
            before = database.history("new", Newest(0), 5.0).top
    with closing(ChatDatabase(path, HistoryLimits())) as database:
        third, first = database.store([Draft("r", b"third"), Draft("new", b"first")], 5.0)
        assert third == Published(Publication(Position("OldEpoch", 3, 5_000_000), 2_000_000, b"third"))
        assert isinstance(first, Published)
        assert database.history("new", Since(before, 10), 6.0).publications == (first.publication,)


def test_a_file_of_the_first_schema_that_is_full_can_be_read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(SCHEMA_1)
        old.execute("UPDATE publications SET data = zeroblob(500000)")
        old.commit()
    with closing(ChatDatabase(path, HistoryLimits(), max_bytes=1 << 20)) as database:
        assert len(database.history("r", Newest(10), 4.0).publications) == 2


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from twisted_chat.relay.sqlite.file import open_file

class Connection(sqlite3.Connection):
    def execute(self, sql, *arguments):
        if sql.startswith(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, *arguments)

connect = sqlite3.connect
sqlite3.connect = lambda *arguments, **named: connect(*arguments, factory=Connection, **named)
open_file(Path(sys.argv[1]), 1 << 30)
"""
"""Opens a file, and is killed before a statement."""


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
@pytest.mark.parametrize("statement", ["INSERT INTO store", "CREATE INDEX", "PRAGMA user_version =", "COMMIT"])
def test_a_crash_while_a_file_is_upgraded_changes_nothing(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(SCHEMA_1)
    killed = subprocess.run([sys.executable, "-c", KILLED, path, statement], check=False)
    assert killed.returncode == -9
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA user_version").fetchone() == (1,)
        assert [name for _, name, *_ in found.execute("PRAGMA table_info(rooms)")][-1] == "tag"
    with closing(ChatDatabase(path, HistoryLimits())) as database:
        assert len(database.history("r", Newest(10), 4.0).publications) == 2


def test_a_newer_schema(path: Path) -> None:
    make(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    line = refusal(path)
    assert f"schema {SCHEMA + 1}, this one knows {SCHEMA}" in line
    assert line.endswith("install that version, or name another path")


@pytest.mark.parametrize("page", [2, 3, 5, 20, 40])
def test_damage_in_a_page(path: Path, page: int) -> None:
    make(path, rows=200)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(b"\xff" * 4_096)
    line = refusal(path)
    assert line.startswith("is damaged (")
    assert line.endswith("restore a backup, or move the file away to begin without history")


def test_a_file_that_lost_its_end(path: Path) -> None:
    make(path, rows=200)
    os.truncate(path, path.stat().st_size // 2)
    assert refusal(path).startswith("is damaged (")


def test_looking_for_damage_ends_after_a_while(path: Path) -> None:
    with closing(open_file(path, ROOMY)) as connection, Transaction(connection):
        for number in range(30):
            connection.execute("INSERT INTO publications VALUES (?, 1, ?, 1, 0, zeroblob(1000000))", (number, number))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 4_096)
        file.write(b"\xff" * 4_096)
    assert refusal(path).startswith("is damaged (")

    def gave_up() -> bool:
        with suppress(RelayError), closing(open_file(path, ROOMY, check_seconds=0.0001)):
            return True
        return False

    # The timer may be late, but not for ever.
    assert any(gave_up() for _ in range(1_000))


HOLDER = """
import sys
from pathlib import Path
from twisted_chat.relay.sqlite.file import open_file
connection = open_file(Path(sys.argv[1]), 1 << 30)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("new", [True, False])
def test_in_use_by_another_process_until_that_is_killed(path: Path, new: bool) -> None:
    if not new:
        make(path, rows=10)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"open"
        assert refusal(path) == "is in use by another process; stop that one, or name another path"
        holder.kill()
    open_file(path, ROOMY).close()


def test_in_use_by_another_relay_of_this_process(path: Path) -> None:
    with closing(open_file(path, ROOMY)):
        assert refusal(path) == "is in use by another process; stop that one, or name another path"
    open_file(path, ROOMY).close()


def test_a_reader_is_another_process_too(path: Path) -> None:
    make(path, rows=10)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM publications").fetchone()
        assert refusal(path) == "is in use by another process; stop that one, or name another path"


OPENER = """
import os, sys
from pathlib import Path
from twisted_chat.relay.interface import RelayError
from twisted_chat.relay.sqlite.file import open_file
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open_file(Path(sys.argv[1]), 1 << 30)
except RelayError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="about the permissions of POSIX")
@pytest.mark.parametrize("what", ["file", "directory", "unreadable"])
def test_not_writable(what: str) -> None:
    # Not below tmp_path, which others than its owner cannot reach.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "chat.db"
        if what != "directory":
            make(path)
        path.parent.chmod(0o555 if what == "directory" else 0o777)
        if what != "directory":
            path.chmod(0o444 if what == "file" else 0o000)
        try:
            opened = subprocess.run(
                [sys.executable, "-c", OPENER, str(path)], capture_output=True, text=True, check=True, timeout=60
            )
        finally:
            directory.chmod(0o755)
    line = opened.stdout.strip()
    assert line.startswith(f"sqlite:{path}: cannot be written (")
    assert line.endswith(f"; let this user read and write the file and create files in {directory}")


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a\0b") == "cannot be used (embedded null byte); name another path"


@pytest.mark.parametrize("name", ["with space.db", "ünï.db", "a?b#c.db", "%41.db", ":memory:", "file:x.db"])
@pytest.mark.skipif(os.name == "nt", reason="files cannot be named like that")
def test_any_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    make(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 0
