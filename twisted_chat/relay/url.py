"""The relay that URLs name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted_chat.relay.interface import HistoryLimits, Relay, RelayError, WhenFull
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.redis import open_redis
from twisted_chat.relay.sharded import ShardedRelay
from twisted_chat.relay.sqlite import SqliteRelay
from twisted_chat.relay.sqlite.database import MAX_BYTES
from twisted_chat.relay.sqlite.file import check_place

_FORMS: Final = "memory:, sqlite:, sqlite:PATH or redis://HOST:PORT"
_REDIS: Final = frozenset({"redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel"})


def open_relays(
    urls: Sequence[str],
    *,
    reactor: Any,
    history: HistoryLimits,
    environ: Mapping[str, str],
    max_bytes: int = MAX_BYTES,
    when_full: WhenFull = WhenFull.REFUSE,
) -> Relay:
    """The relay that `urls` name, not started. With several, all of Redis, each room is kept by one of them.

    Raises `RelayError`.
    """
    if len(urls) == 1:
        return open_relay(
            urls[0], reactor=reactor, history=history, environ=environ, max_bytes=max_bytes, when_full=when_full
        )
    shards: dict[str, Relay] = {}
    for url in urls:
        if _scheme(url) not in _REDIS:
            raise RelayError(
                f"the relay {_without_password(url)!r}: rooms can be spread over several Redis servers only"
            )
        name = _without_password(url)
        if name in shards:
            raise RelayError(f"the relay {name!r} is named twice")
        shards[name] = open_redis(url, reactor=reactor, history=history)
    return ShardedRelay(shards, reactor)


def are_shared(urls: Sequence[str]) -> bool:
    """Whether several processes can use the relay that `urls` name at the same time."""
    return all(_scheme(url) in _REDIS for url in urls)


def open_relay(
    url: str,
    *,
    reactor: Any,
    history: HistoryLimits,
    environ: Mapping[str, str],
    max_bytes: int = MAX_BYTES,
    when_full: WhenFull = WhenFull.REFUSE,
) -> Relay:
    """The relay that `url` names, not started. The reactor is a whole one: each relay needs other parts of it.

    ``memory:``
        keeps everything in this process
    ``sqlite:PATH``
        in that file, which may be relative to the working directory and grow to `max_bytes`; without a PATH,
        ``chat.db`` in the directory that systemd names in ``STATE_DIRECTORY``, or else in the working directory
    ``redis:``, ``rediss:``, ``redis+unix:``, ``redis+sentinel:``, ``rediss+sentinel:``
        many nodes as one server; see `relay.redis.open_redis`

    Raises `RelayError`, with the URL and what would be right.
    """
    scheme, colon, rest = url.partition(":")
    if _scheme(url) in _REDIS:
        return open_redis(url, reactor=reactor, history=history)
    if url == "memory:":
        return MemoryRelay(reactor, history)
    if scheme != "sqlite" or not colon:
        raise RelayError(f"there is no relay {_without_password(url)!r}; use {_FORMS}")
    if rest.startswith("//"):
        # Some read three slashes as a relative path, others as an absolute one.
        raise RelayError(f"the relay {url!r}: after sqlite: comes a path without //, as in sqlite:/var/lib/chat.db")
    if rest == ":memory:":
        raise RelayError(f"the relay {url!r}: what is not to be kept in a file is memory:")
    path = Path(rest) if rest else _default_path(environ)
    check_place(path)
    return SqliteRelay(reactor, path, history, max_bytes=max_bytes, when_full=when_full)


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def _default_path(environ: Mapping[str, str]) -> Path:
    # systemd may name several directories; the first is the one of StateDirectory='s first word.
    directory = environ.get("STATE_DIRECTORY", "").split(os.pathsep)[0]
    return Path(directory, "chat.db")
