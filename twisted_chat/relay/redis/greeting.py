"""What makes a new connection to Redis ready for use, or tells why it cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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


class Preparation:
    """Greets, sees what is there, and loads the scripts: for each new connection of one link."""

    def __init__(self, server: RedisServer, scripts: Sequence[Script]) -> None:
        self._server: Final = server
        self._scripts: Final = scripts
        self._warned: str | None = None

    async def __call__(self, protocol: CommandProtocol) -> None:
        """Raises whatever is in the way."""
        await greet(protocol, self._server)
        warning = await look_around(protocol)
        if warning is not None and warning != self._warned:
            _log.warn("{name}: {warning}", name=self._server.name, warning=warning)
        self._warned = warning
        for script in self._scripts:
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


async def look_around(protocol: CommandProtocol) -> str | None:
    """What an operator should know, if anything. Raises `UnusableError` where the server cannot be used."""
    try:
        text = (await protocol.execute_command("INFO")).decode("utf-8", "replace")
    except ResponseError:
        text = ""  # an ACL may forbid it
    found = dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))
    protocol.is_replica = found.get("role") == "slave"
    version = tuple(int(part) for part in re.findall(r"\d+", found.get("redis_version", ""))[:2])
    if version and version < OLDEST:
        raise UnusableError(f"it is Redis {found['redis_version']}; 6.2 is the oldest that works")
    if found.get("cluster_enabled") == "1":
        raise UnusableError("it is a node of a Redis Cluster; use single servers: several relays share the rooms")
    return eviction(found)


def eviction(found: Mapping[str, str]) -> str | None:
    """What a server that says this of itself may throw away, for its operator; None where it is nothing."""
    limit, policy = found.get("maxmemory"), found.get("maxmemory_policy")
    if limit is None or policy is None:
        return "whether it throws data away when its memory is full could not be checked: its user may not call INFO"
    if limit == "0" or policy == "noeviction":
        return None
    # Who is present, and what waits for consumers, have no time to live.
    lost = "history" if policy.startswith("volatile") else "history, who is present, and what waits for consumers,"
    return f"it throws {lost} away when its memory is full (maxmemory-policy {policy}); set it to noeviction"
