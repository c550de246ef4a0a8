"""The relay through Redis or Valkey.

Before a reactor was chosen, nothing of it may be imported but this, ``url`` and ``limits``: the rest imports
txredisapi, which installs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_chat.relay.interface import HistoryLimits, Relay
from twisted_chat.relay.redis.url import parse_url

if TYPE_CHECKING:
    from twisted_chat.relay.redis.endpoints import IRedisReactor


def open_redis(url: str, *, reactor: IRedisReactor, history: HistoryLimits) -> Relay:
    """The relay through the Redis that `url` names, not started. Raises `RelayError`.

    ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``
        over TCP; ``rediss:`` over TLS, verified by the system's certificates or those of ``?ca=FILE``
    ``redis+unix://[USER:PASSWORD@]/PATH[?db=DB]``
        over a Unix socket
    ``redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST…/SERVICE[/DB]``
        the master of that service, which the Sentinels on these hosts know; ``rediss+sentinel:`` over TLS

    Each with ``?prefix=NAME``, which all keys and channels begin with, where several applications share a server.
    """
    server = parse_url(url)
    from twisted_chat.relay.redis.relay import RedisRelay

    return RedisRelay(reactor, server, history)
