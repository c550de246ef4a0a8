"""How the server that a URL names is connected to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from OpenSSL.crypto import X509
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from txredisapi import ResponseError
from zope.interface import implementer

from twisted_chat.relay.interface import RelayError
from twisted_chat.relay.redis.errors import UnusableError, describe, error_code
from twisted_chat.relay.redis.greeting import log_in
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.protocol import CommandProtocol
from twisted_chat.relay.redis.url import Credentials, Host, RedisServer, Tls


class IRedisReactor(IReactorTime, IReactorTCP, IReactorPluggableNameResolver):
    """What the Redis relay needs of a reactor."""


def redis_endpoint(reactor: IRedisReactor, server: RedisServer, limits: LinkLimits) -> IStreamClientEndpoint:
    """Where to connect to. Raises `RelayError` when this system cannot do that."""
    if server.path is not None:
        if not IReactorUNIX.providedBy(reactor):
            raise RelayError(f"the relay {server.name!r}: this system has no Unix sockets; use redis://HOST")
        return UNIXClientEndpoint(reactor, server.path, timeout=limits.deadline)

    def reach(host: Host) -> IStreamClientEndpoint:
        endpoint = HostnameEndpoint(reactor, host.name, host.port, timeout=limits.deadline)
        return endpoint if server.tls is None else wrapClientTLS(_verifying(host, server.tls), endpoint)

    if server.service is None:
        return reach(server.hosts[0])
    return SentinelEndpoint(reactor, server.service, server.hosts, server.credentials, reach, limits)


def _verifying(host: Host, tls: Tls) -> Any:
    if not tls.authorities:
        return optionsForClientTLS(host.name)
    trusted = [Certificate(X509.from_cryptography(each)) for each in tls.authorities]
    return optionsForClientTLS(host.name, trustRoot=trustRootFromCertificates(trusted))


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Connects to the master of a service, which is asked for each time.

    The Sentinels are asked one after the other, beginning with the one that knew it last. That what they name is the
    master indeed is for whoever connects to find out.

    credentials
        are given to Sentinels only if they ask for some
    reach
        makes an endpoint for a host, a Sentinel or the master
    """

    def __init__(
        self,
        reactor: IReactorTime,
        service: str,
        sentinels: Sequence[Host],
        credentials: Credentials | None,
        reach: Callable[[Host], IStreamClientEndpoint],
        limits: LinkLimits,
    ) -> None:
        self._reactor = reactor
        self._service: Final = service
        self._sentinels = list(sentinels)
        self._credentials = credentials
        self._reach = reach
        self._limits = limits

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        return await self._reach(await self.master()).connect(factory)

    async def master(self) -> Host:
        """Where it is now. Raises `UnusableError` when no Sentinel can tell."""
        failures = []
        for sentinel in list(self._sentinels):
            try:
                master = await Deferred.fromCoroutine(self._ask(sentinel)).addTimeout(
                    self._limits.deadline, self._reactor
                )
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the next one may know
                failures.append(f"{sentinel}: {describe(error)}")
            else:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                return master
        raise UnusableError(f"no Sentinel knows the master of {self._service!r} ({'; '.join(failures)})")

    async def _ask(self, sentinel: Host) -> Host:
        factory = Factory.forProtocol(lambda: CommandProtocol(self._reactor, self._limits))
        factory.noisy = False
        protocol = cast("CommandProtocol", await self._reach(sentinel).connect(factory))
        try:
            found = await self._master_according_to(protocol)
        finally:
            protocol.drop("it was asked")
        if found is None:
            raise UnusableError("it knows no such service")
        address, port = found
        return Host(address.decode(), int(port))

    async def _master_according_to(self, protocol: CommandProtocol) -> list[bytes] | None:
        try:
            answer = await protocol.sentinel_get_master_addr_by_name(self._service)
        except ResponseError as error:
            if error_code(error) != "NOAUTH" or self._credentials is None:
                raise
            await log_in(protocol, self._credentials)
            answer = await protocol.sentinel_get_master_addr_by_name(self._service)
        return answer if answer is None else list(answer)
