"""`twisted_chat.open_files`: what the system allows, and what is kept for all but connections."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.twistd import PATIENCE, environment
from twisted_chat.open_files import RESERVE, capacity, limit, needed

resource = pytest.importorskip("resource")


def answer(code: str, soft: int, hard: int) -> str:
    """What `code` prints in a process with these limits."""
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); {code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("soft", "hard"), [(64, 256), (256, 256)])
def test_the_limit_is_raised_to_what_is_allowed(soft: int, hard: int) -> None:
    code = "from twisted_chat import open_files; open_files.raise_limit(); print(open_files.limit())"
    assert answer(code, soft, hard) == "256"


def test_something_is_kept_for_all_else() -> None:
    most = capacity(1_000)
    assert most is not None
    assert 0 < most <= 1_000 - RESERVE
    assert needed(most) == pytest.approx(1_000, abs=5), "so many files are enough for so many connections"


def test_there_is_always_one() -> None:
    assert capacity(3) == 1
    assert capacity(None) is None


def test_the_limit_of_this_process() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit() == (None if soft == resource.RLIM_INFINITY else soft)
