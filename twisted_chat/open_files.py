"""How many files a process may have open: every connection is one.

The soft limit that systems give (256, 1024) is for programs that use select(2); the hard one is what is allowed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]  # only looked at where there is one

RESERVE: Final = 32
"""Files kept for what is no connection of a client: ports, links to relays, the database, the log, the admin port."""

MOST: Final = 1 << 20
"""No limit is raised further: some systems have none, but no process has more."""

_DIRECTORIES: Final = ("/proc/self/fd", "/dev/fd")


def raise_limit() -> None:
    """Raise the soft limit to the hard one, for this process and those that it starts."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with suppress(OSError, ValueError):  # macOS says that it is unlimited, and takes less
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int | None:
    """Return how many files may be open at a time; None if any number."""
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def capacity(allowed: int | None) -> int | None:
    """Return for how many connections of clients there are files, 1 or more; None for any number.

    allowed
        files that may be open
    """
    return None if allowed is None else max(1, allowed - needed(0))


def needed(connections: int) -> int:
    """Return how many files must be allowed for so many connections, and all else that this process has open."""
    return connections + RESERVE + _open_now()


def _open_now() -> int:
    for directory in _DIRECTORIES:
        with suppress(OSError):
            return len(list(Path(directory).iterdir()))
    return RESERVE
