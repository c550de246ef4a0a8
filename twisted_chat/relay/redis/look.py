"""A look at a Redis from outside of a server: for who checks a configuration."""

from __future__ import annotations

from typing import Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from twisted_chat.relay.redis.endpoints import IRedisReactor, redis_endpoint
from twisted_chat.relay.redis.errors import describe
from twisted_chat.relay.redis.greeting import greet, look_around
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.protocol import CommandProtocol
from twisted_chat.relay.redis.url import RedisServer

PATIENCE: Final = 5.0
"""Seconds that a server has to answer."""


async def look(reactor: IRedisReactor, server: RedisServer) -> str | None:
    """What an operator should know of it, in one line; None if nothing. Never fails."""
    try:
        said = await Deferred.fromCoroutine(_ask(reactor, server)).addTimeout(PATIENCE, reactor)
    except Exception as error:  # noqa: BLE001 - it may be there when the server starts
        said = f"it could not be asked: {describe(error)}"
    return None if said is None else f"{server.name}: {said}"


async def _ask(reactor: IRedisReactor, server: RedisServer) -> str | None:
    limits = LinkLimits(deadline=PATIENCE)
    factory = Factory.forProtocol(lambda: CommandProtocol(reactor, limits))
    factory.noisy = False
    protocol = cast("CommandProtocol", await redis_endpoint(reactor, server, limits).connect(factory))
    try:
        await greet(protocol, server)
        return await look_around(protocol)
    finally:
        protocol.drop("it was asked")
        await protocol.closed
