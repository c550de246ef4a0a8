"""Privileges of the supervisor where `twistd --uid` drops them: its processes begin with them, as one process does.

A process reads its configuration, keys and certificates before it drops its privileges, also one that is started when
the supervisor has run for long. So the supervisor changes its effective user only, and is root again while it starts a
process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

ROOT = 0


def keep(twistd: MutableMapping[str, Any]) -> None:
    """Make `twistd`, by its options, change only the effective user and group, if it is to change any."""
    if twistd.get("uid") is not None or twistd.get("gid") is not None:
        twistd["euid"] = True


@contextmanager
def regained() -> Iterator[None]:
    """Be root within, where `keep` has kept that."""
    if os.name != "posix" or os.getuid() != ROOT or os.geteuid() == ROOT == os.getgid() == os.getegid():
        yield
        return
    user, group = os.geteuid(), os.getegid()
    os.seteuid(ROOT)
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(user)
