"""What makes a new connection to Redis ready for use, or tells why it cannot be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from twisted.logger import Logger
from txredisapi import ResponseError

from twisted_chat.relay.redis.errors import UnusableError, error_code
from twisted_chat.relay.redis.protocol import CommandProtocol
from twisted_chat.relay.redis.scripts import Script
from twisted_chat.relay.redis.url import Credentials, RedisServer

OLDEST: Final = (6, 2)
"""The first Redis with XTRIM MINID and open intervals in XRANGE."""

_log = Logger()


async def prepare(protocol: CommandProtocol, server: RedisServer, scripts: Sequence[Script]) -> None:
    """Greet, see what is there, and load the scripts. Raises whatever is in the way."""
    await greet(protocol, server)
    await _look_around(protocol, server)
    for script in scripts:
        await protocol.execute_command("SCRIPT", "LOAD", script.text)


async def greet(protocol: CommandProtocol, server: RedisServer) -> None:
    """Log in and choose the database. Raises whatever is in the way."""
    await log_in(protocol, server.credentials)
    if server.database:
        await protocol.select(server.database)
    await protocol.ping()  # refused without password, and while Redis loads its data
    with suppress(ResponseError):
        await protocol.execute_command("CLIENT", "SETNAME", "twisted_chat")
    if server.is_found_by_sentinel:
        await _must_be_master(protocol)


async def log_in(protocol: CommandProtocol, credentials: Credentials | None) -> None:
    """With a password, if there is one. Raises `UnusableError` without it in the message."""
    if credentials is None:
        return
    try:
        await protocol.auth(credentials.password, credentials.user)
    except ResponseError as error:
        # Redis repeats what it does not understand.
        raise UnusableError(f"it refuses the user name or password: {error_code(error)}") from None


async def _must_be_master(protocol: CommandProtocol) -> None:
    role = (await protocol.role())[0].decode()
    if role != "master":
        raise UnusableError(f"Sentinel named a server that is not the master, but a {role}")


async def _look_around(protocol: CommandProtocol, server: RedisServer) -> None:
    try:
        text = (await protocol.execute_command("INFO")).decode("utf-8", "replace")
    except ResponseError:
        return  # an ACL may forbid it
    found = dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))
    protocol.is_replica = found.get("role") == "slave"
    version = tuple(int(part) for part in re.findall(r"\d+", found.get("redis_version", ""))[:2])
    if version and version < OLDEST:
        raise UnusableError(f"it is Redis {found['redis_version']}; 6.2 is the oldest that works")
    if found.get("cluster_enabled") == "1":
        raise UnusableError("it is a node of a Redis Cluster; use single servers: several relays share the rooms")
    if found.get("maxmemory", "0") != "0" and found.get("maxmemory_policy", "noeviction") != "noeviction":
        _log.warn(
            "{name} forgets history when its memory is full (maxmemory-policy {policy}); set it to noeviction",
            name=server.name,
            policy=found["maxmemory_policy"],
        )
