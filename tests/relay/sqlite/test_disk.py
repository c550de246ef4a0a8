"""The database of the SQLite relay on a disk that takes no more."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from twisted_chat.core.publication import Newest
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.sqlite.database import ChatDatabase

NO_SPACE = """
import resource, sys
from pathlib import Path
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Newest
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.sqlite.database import ChatDatabase, Draft
database = ChatDatabase(Path(sys.argv[1]), HistoryLimits())
database.store([Draft("r", b"before")], 1.0)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
for call in (
    lambda: database.store([Draft("r", b"too much", "key"), Draft("r", bytes(200_000))], 2.0),
    lambda: [database.probe(2.0) for _ in range(20)],
):
    try:
        call()
    except ChatError as error:
        print(error.reason.code)
print([publication.data for publication in database.history("r", Newest(10), 2.0).publications])
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
database.probe(3.0)
print([one.duplicate for one in database.store([Draft("r", b"after", "key")], 3.0)])
print([publication.data for publication in database.history("r", Newest(10), 3.0).publications])
database.close()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_disk_that_takes_no_more_costs_only_what_did_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    command = [sys.executable, "-c", NO_SPACE, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert output == ["try_again", "try_again", "[b'before']", "[False]", "[b'before', b'after']"]
    with closing(ChatDatabase(path, HistoryLimits(age=0.0))) as database:
        kept = database.history("r", Newest(10), 4.0).publications
    assert [publication.data for publication in kept] == [b"before", b"after"]
