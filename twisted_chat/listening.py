"""Where a process listens, as its configuration says: the endpoints, their certificates, and the ports once bound."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv6Address as IPv6
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat import open_files
from twisted_chat.auth import Hosts
from twisted_chat.auth.hosts import EVERY
from twisted_chat.config import Config
from twisted_chat.server.endpoints import ChatEndpoint, EndpointError, parse_endpoint
from twisted_chat.server.tls.certificates import CertificateDirectory, CertificateError, default_directory
from twisted_chat.server.tls.self_signed import development_names, make_self_signed


class StartError(Exception):
    """The server cannot start; one readable line."""


class Listening:
    """The ports of a process.

    inherited
        descriptors of sockets that listen already where `Config.port` says, in that order
    binder
        binds those ports, as a reactor does; else `reactor` does that too
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        environ: Mapping[str, str],
        *,
        inherited: Sequence[int] | None = None,
        binder: Any = None,
    ) -> None:
        self._config: Final = config
        self._reactor: Final = reactor
        self._environ: Final = environ
        self._directories: Final[dict[str | None, CertificateDirectory]] = {}
        self._ports: Final[list[IListeningPort]] = []
        descriptors: Sequence[int | None] = [None] * len(config.port) if inherited is None else inherited
        self._endpoints: Final = [
            self._endpoint("--port", text, reactor if binder is None else binder, descriptor)
            for text, descriptor in zip(config.port, descriptors, strict=True)
        ]

    @property
    def certificates(self) -> list[CertificateDirectory]:
        """Those that are in use."""
        return list(self._directories.values())

    def warnings(self) -> list[str]:
        """Return what is doubtful about the certificates, a line each, with their directory."""
        return [f"{each.directory}: {line}" for each in self.certificates for line in each.warnings()]

    @property
    def ports(self) -> Sequence[IListeningPort]:
        """One for each of `Config.port`, once they are bound."""
        return self._ports

    # Building

    def _endpoint(self, option: str, description: str, reactor: Any, inherited: int | None = None) -> ChatEndpoint:
        try:
            return parse_endpoint(reactor, description, self._certificate_directory, inherited)
        except EndpointError as error:
            raise EndpointError(f"{option}: {error}") from None

    def _certificate_directory(self, named: str | None) -> CertificateDirectory:
        if named not in self._directories:
            path = Path(named) if named is not None else self._default_certificates()
            self._directories[named] = CertificateDirectory(path, self._reactor)
        return self._directories[named]

    def _default_certificates(self) -> Path:
        config = self._config
        if config.certificates is not None:
            return config.certificates
        if config.self_signed:
            # As the relay does: systemd may name several.
            state = self._environ.get("STATE_DIRECTORY", "").split(os.pathsep)[0]
            directory = Path(state, "self-signed")
            try:
                make_self_signed(directory, development_names(socket.gethostname()), datetime.now(UTC))
            except OSError as error:
                raise CertificateError(f"--self-signed: cannot write to {directory}: {error.strerror}") from None
            return directory
        found = default_directory(self._environ, Path.cwd())
        if found is None:
            raise CertificateError(
                "a tls: endpoint needs certificates, and neither ./certificates nor /etc/letsencrypt/live is there: "
                "name their directory with --certificates, or add --self-signed for development"
            )
        return found

    # Ports

    def bind(self, site: IProtocolFactory) -> None:
        """Serve `site` there. Raises `StartError`."""
        for endpoint in self._endpoints:
            self._ports.append(_listen("--port", endpoint, site))

    def pause(self) -> None:
        """Leave connections with the system, which keeps some (``backlog``)."""
        for port in self._pausable():
            port.pauseProducing()

    def resume(self) -> None:
        """Take the connections that wait."""
        for port in self._pausable():
            port.resumeProducing()

    def _pausable(self) -> Iterator[Any]:
        # Twisted's ports can do that; what a plugin listens with need not.
        return (port for port in self._ports if IPushProducer.providedBy(port))

    def stop(self) -> Deferred[None]:
        """No new connections."""
        return stop_listening(self._ports)

    def say_where(self) -> None:
        """In the log, for people."""
        for endpoint, port in zip(self._endpoints, self._ports, strict=True):
            url = endpoint.url(port)
            if url is None:
                self._log.info("listening on {description}", description=endpoint.description)
            else:
                self._log.info("open {url} in a browser; a room is {url}chat/ROOM", url=url)
        self._compare_files()
        named = self._config.allow_host
        if not named and self.is_local:
            self._log.info("only localhost and addresses are answered to; --allow-host names other hosts")
        if self._config.token_key_file is None:
            self._log.warn(
                "the rooms are open: whoever reaches the port reads and writes all of them, under any name; "
                "--token-key-file closes them"
            )
            if not named and not self.is_local and any(self._plain()):
                self._log.warn(
                    "any host is answered to, so pages of any site can make the browsers of those who reach the port "
                    "use the rooms; --allow-host says which hosts are this server's"
                )

    def _compare_files(self) -> None:
        """Say in the log if the system allows fewer open files than there may be connections."""
        connections = self._config.limits.connections
        most = open_files.capacity(open_files.limit())
        if most is not None and most < connections:
            self._log.warn(
                "the system allows {limit} open files, enough for {most} connections and not for {connections}; right "
                "would be LimitNOFILE={needed} in the unit, ulimit -n {needed}, or --limit-connections {most}",
                limit=open_files.limit(),
                most=most,
                connections=connections,
                needed=open_files.needed(connections),
            )

    # Hosts

    @property
    def is_local(self) -> bool:
        """Whether clients come from this machine alone, without a proxy, and without TLS, which proves the name."""
        plain = list(self._plain())
        return len(plain) == len(self._ports) and all(_is_loopback(port.getHost()) for port in plain)

    def _plain(self) -> Iterator[IListeningPort]:
        """The ports that a browser reaches by itself without TLS, so whatever name it has for them."""
        if not self._config.trusted_proxies:
            for endpoint, port in zip(self._endpoints, self._ports, strict=False):
                if endpoint.url(port) is not None and not endpoint.secure:
                    yield port

    def hosts(self, named: Sequence[str]) -> Hosts:
        """Those that the server answers to, once the ports are bound. Raises `HostError`.

        named
            those of ``--allow-host``; without any they are what is safe and in nobody's way
        """
        return Hosts(named or (() if self.is_local else (EVERY,)))

    # Certificates

    def expiries(self) -> dict[str, float]:
        """When each certificate expires, in Unix seconds."""
        return {name: at for each in self._directories.values() for name, at in each.expiries().items()}

    def reload(self) -> None:
        """Read the certificates again."""
        for directory in self._directories.values():
            directory.reload()

    # For operators

    def admin(self) -> AdminPort | None:
        """Where machines ask, if they may."""
        description = self._config.admin_port
        return AdminPort(self._endpoint("--admin-port", description, self._reactor)) if description else None


class AdminPort:
    """The port of ``--admin-port``, which is closed last."""

    _log = Logger()

    def __init__(self, endpoint: ChatEndpoint) -> None:
        self._endpoint: Final = endpoint
        self._ports: Final[list[IListeningPort]] = []

    def bind(self, site: IProtocolFactory) -> None:
        """Serve `site` there. Raises `StartError`."""
        self._ports.append(_listen("--admin-port", self._endpoint, site))

    def say_where(self) -> None:
        """Say in the log where metrics and health are, for people."""
        (port,) = self._ports
        url = self._endpoint.url(port)
        if url is None:
            self._log.info(
                "metrics and health are on {description}, as /metrics, /healthz and /readyz",
                description=self._endpoint.description,
            )
        else:
            self._log.info(
                "metrics are at {url}metrics; {url}healthz says whether the server runs, {url}readyz whether it serves",
                url=url,
            )

    def stop(self) -> Deferred[None]:
        """No more questions."""
        return stop_listening(self._ports)


def _is_loopback(address: IAddress) -> bool:
    """Whether only this machine gets there."""
    assert isinstance(address, IPv4Address | IPv6Address)
    host = ip_address(address.host)
    mapped = host.ipv4_mapped if isinstance(host, IPv6) else None
    return (mapped or host).is_loopback


def _listen(option: str, endpoint: ChatEndpoint, site: IProtocolFactory) -> IListeningPort:
    listening: list[IListeningPort] = []
    failures: list[Failure] = []
    endpoint.endpoint.listen(site).addCallbacks(listening.append, failures.append)
    if failures:
        error = failures[0].value
        cause = error.socketError if isinstance(error, CannotListenError) else error
        why = getattr(cause, "strerror", None) or cause  # the names of files in an OSError are not what was given
        raise StartError(f"{option} {endpoint.description}: cannot listen there: {why}")
    return listening[0]


def stop_listening(ports: list[IListeningPort]) -> Deferred[None]:
    """Close all of them, and forget them."""
    closing = gatherResults([maybeDeferred(port.stopListening) for port in ports])
    ports.clear()
    return closing.addCallback(lambda _: None)
