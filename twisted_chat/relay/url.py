"""The relay that a URL names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twisted_chat.relay.interface import HistoryLimits, Relay, RelayError
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.sqlite import SqliteRelay
from twisted_chat.relay.sqlite.database import MAX_BYTES
from twisted_chat.relay.sqlite.file import check_place
from twisted_chat.relay.sqlite.thread import IRelayReactor

_FORMS: Final = "memory:, sqlite: or sqlite:PATH"
_REDIS: Final = re.compile(r"(?:redis|rediss|redis\+unix|redis\+sentinel):")
_CREDENTIALS: Final = re.compile(r"//.*@")


def open_relay(
    url: str,
    *,
    reactor: IRelayReactor,
    history: HistoryLimits,
    environ: Mapping[str, str],
    max_bytes: int = MAX_BYTES,
) -> Relay:
    """The relay that `url` names, not started.

    ``memory:``
        keeps everything in this process
    ``sqlite:PATH``
        in that file, which may be relative to the working directory and grow to `max_bytes`; without a PATH,
        ``chat.db`` in the directory that systemd names in ``STATE_DIRECTORY``, or else in the working directory

    Raises `RelayError`, with the URL and what would be right.
    """
    scheme, colon, rest = url.partition(":")
    if _REDIS.match(url):
        shown = _CREDENTIALS.sub("//***@", url)
        raise RelayError(f"the relay {shown!r}: Redis is not in this version; use {_FORMS}")
    if url == "memory:":
        return MemoryRelay(reactor, history)
    if scheme != "sqlite" or not colon:
        raise RelayError(f"there is no relay {url!r}; use {_FORMS}")
    if rest.startswith("//"):
        # Some read three slashes as a relative path, others as an absolute one.
        raise RelayError(f"the relay {url!r}: after sqlite: comes a path without //, as in sqlite:/var/lib/chat.db")
    if rest == ":memory:":
        raise RelayError(f"the relay {url!r}: what is not to be kept in a file is memory:")
    path = Path(rest) if rest else _default_path(environ)
    check_place(path)
    return SqliteRelay(reactor, path, history, max_bytes=max_bytes)


def _default_path(environ: Mapping[str, str]) -> Path:
    # systemd may name several directories; the first is the one of StateDirectory='s first word.
    directory = environ.get("STATE_DIRECTORY", "").split(os.pathsep)[0]
    return Path(directory, "chat.db")
