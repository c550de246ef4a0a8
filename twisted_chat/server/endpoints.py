"""Where the server listens: what ``-p`` describes, and where a browser finds it.

Descriptions are Twisted's (`twisted.internet.endpoints.serverFromString`), but TLS serves our certificates:

``tls:443``, ``tls:8443:interface=\\:\\:1``
    those of the default directory;
``tls:DIRECTORY:443``
    those of another directory;
``tls:haproxy:tcp:443``, ``tls:systemd:domain=INET6:name=https``, ``tls:unix:/run/chat.sock``
    those of the default directory, over any other endpoint: behind a proxy that speaks the PROXY protocol, or on a
    socket that systemd made.

Without ``interface=`` the first two listen on every address: by one socket for IPv6 and IPv4 where the system makes
such (Linux, macOS), else on IPv4 alone, so that IPv4 works everywhere. Peers over IPv4 then show as
``::ffff:192.0.2.1``. A bare number is a TCP port.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final, cast

from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from twisted_chat.server.descriptions import CLEAR, Argument, Description, EndpointError, for_twisted, is_number
from twisted_chat.server.inherited import InheritingReactor, PassedOnEndpoint
from twisted_chat.server.proxy_protocol import ProxyHeaderEndpoint
from twisted_chat.server.tls.certificates import CertificateDirectory, openssl_reason
from twisted_chat.server.tls.pem import PemError, PemFile, pair_up, read_pem
from twisted_chat.server.tls.transport import DirectTLS
from twisted_chat.server.unix_sockets import UnixServerEndpoint

__all__ = ["ChatEndpoint", "EndpointError", "TLSServerEndpoint", "parse_endpoint"]

UNIX_MODE: Final = "660"
"""Who may connect to a unix socket by default: its user and group. Those who do speak for any client."""

FIRST_DESCRIPTOR: Final = 3
"""Where the sockets begin that systemd passes on: SD_LISTEN_FDS_START, sd_listen_fds(3)."""


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """Somewhere to listen, ready for `IStreamServerEndpoint.listen`."""

    endpoint: IStreamServerEndpoint
    description: str
    secure: bool
    """Whether TLS ends here."""
    proxied: bool
    """Whether clients must send a PROXY header, which no browser does."""

    def url(self, listening: IListeningPort | IAddress) -> str | None:
        """What to point a browser to, once `listening`; None where a browser cannot get there by itself."""
        address = listening.getHost() if IListeningPort.providedBy(listening) else listening
        if self.proxied or not isinstance(address, IPv4Address | IPv6Address):
            return None
        scheme, usual = ("https", 443) if self.secure else ("http", 80)
        port = "" if address.port == usual else f":{address.port}"
        return f"{scheme}://{_url_host(address.host)}{port}/"


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class TLSServerEndpoint:
    """TLS over another endpoint, as `twisted.internet.endpoints.wrapServerTLS`, but what is written goes out at once.

    The default transport collects small writes by a delayed call for each connection and turn of the reactor. What we
    write is joined already, and a message to many would pay that for each of them.
    """

    endpoint: IStreamServerEndpoint
    certificates: CertificateDirectory
    clock: IReactorTime

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        tls = TLSMemoryBIOFactory(self.certificates, False, protocolFactory, clock=self.clock)
        tls.protocol = DirectTLS
        return self.endpoint.listen(tls)


def parse_endpoint(
    reactor: IReactorTCP,
    description: str,
    certificates: Callable[[str | None], CertificateDirectory],
    inherited: int | None = None,
) -> ChatEndpoint:
    """The endpoint that `description` describes, with everything checked that can be before it listens.

    `certificates` is asked for a directory, None for the default one, where TLS needs it; what it raises passes
    through. `inherited` is the descriptor of a socket that listens there already. Raises `EndpointError` for all other
    mistakes.
    """
    return _Parser(reactor, Description(description), certificates, inherited).parse()


class _Parser:
    def __init__(
        self,
        reactor: IReactorTCP,
        description: Description,
        certificates: Callable[[str | None], CertificateDirectory],
        inherited: int | None,
    ) -> None:
        self._reactor = reactor if inherited is None else cast("IReactorTCP", InheritingReactor(reactor, inherited))
        self._inherited = inherited
        self._description = description
        self._error = description.error
        self._certificates = certificates

    def parse(self) -> ChatEndpoint:
        kind, arguments = self._description.kind(self._description.split())
        if kind == "tls":
            return self._tls(arguments)
        if kind == "ssl":
            return self._made(self._ssl(self._description.bind(kind, arguments)), secure=True)
        if kind in CLEAR:
            return self._made(self._clear(kind, arguments), proxied=kind == "haproxy")
        return self._made(self._plugin(kind))

    def _made(self, endpoint: IStreamServerEndpoint, *, secure: bool = False, proxied: bool = False) -> ChatEndpoint:
        return ChatEndpoint(endpoint, self._description.text, secure, proxied)

    def _twisted(self, description: str) -> IStreamServerEndpoint:
        endpoint: IStreamServerEndpoint = serverFromString(self._reactor, description)
        return endpoint

    def _clear(self, kind: str, arguments: list[Argument]) -> IStreamServerEndpoint:
        if kind == "haproxy":
            return self._haproxy(arguments)
        bound = self._description.bind(kind, arguments)
        if kind == "systemd":
            return self._systemd(bound)
        if kind == "unix":
            if not IReactorUNIX.providedBy(self._reactor):
                raise self._error("there are no unix sockets on this system", "tcp")
            if not re.fullmatch("[0-7]{1,4}", bound.get("mode", UNIX_MODE)):
                raise self._error(f"{bound['mode']!r} is not an octal mode like 660", kind)
            if bound.get("lockfile", "1") not in {"0", "1"}:
                raise self._error(f"lockfile is 0 or 1, not {bound['lockfile']!r}", kind)
            mode, backlog = int(bound.get("mode", UNIX_MODE), 8), int(bound["backlog"])
            return UnixServerEndpoint(self._reactor, bound["address"], mode, backlog, self._inherited is None)
        return self._twisted(for_twisted(kind, bound))

    def _haproxy(self, arguments: list[Argument]) -> IStreamServerEndpoint:
        kind, rest = self._description.kind(arguments)
        if kind in {"tls", "ssl"}:
            raise self._error("the PROXY header comes before TLS, not in it", right="tls:haproxy:tcp:443")
        if kind not in CLEAR or kind == "haproxy":
            raise self._error(f"the PROXY protocol goes over tcp, tcp6, unix or systemd, not {kind!r}", "haproxy")
        return ProxyHeaderEndpoint(self._clear(kind, rest), IReactorTime(self._reactor))

    def _systemd(self, bound: Mapping[str, str]) -> IStreamServerEndpoint:
        if not IReactorSocket.providedBy(self._reactor):
            raise self._error("no sockets are passed on to servers on this system", "tcp")
        if bound["domain"] not in {"INET", "INET6", "UNIX"}:
            raise self._error(f"the domain is INET, INET6 or UNIX, not {bound['domain']!r}", "systemd")
        if ("index" in bound) == ("name" in bound):
            raise self._error("either name= or index= says which socket it is", "systemd")
        if self._inherited is not None:
            fileno = self._inherited
        elif "name" in bound:
            fileno = self._named_descriptor(bound)
        elif is_number(bound["index"]):
            # Not by Twisted, which drops the descriptors where LISTEN_FDNAMES is missing, as it may be.
            fileno = FIRST_DESCRIPTOR + int(bound["index"])
        else:
            raise self._error(f"{bound['index']!r} is not an index of 0 or more", "systemd")
        family = _listening_family(fileno)
        if family is None:
            problem = f"descriptor {fileno} is not a listening socket: this process was not started by a .socket unit"
            raise self._error(problem, "systemd")
        domain = family.name.removeprefix("AF_")
        if domain != bound["domain"]:
            raise self._error(f"the domain of that socket is {domain}", "systemd")
        return PassedOnEndpoint(self._reactor, fileno)

    def _named_descriptor(self, bound: Mapping[str, str]) -> int:
        try:
            # Twisted took LISTEN_FDS out of the environment when it was imported: only it knows the names.
            adopted = self._twisted(for_twisted("systemd", bound))
        except LookupError:
            problem = f"no socket named {bound['name']!r} was passed on; FileDescriptorName= in a .socket unit names it"
            raise self._error(problem, "systemd") from None
        assert isinstance(adopted, AdoptedStreamServerEndpoint)
        return int(adopted.fileno)

    def _tls(self, arguments: list[Argument]) -> ChatEndpoint:
        (first_name, first), *rest = arguments or [(None, "")]
        if first_name is None:
            kind = first.lower()
            if kind in CLEAR:
                return self._secured(None, self._clear(kind, rest), proxied=kind == "haproxy")
            if kind in {"tls", "ssl"}:
                raise self._error("it is TLS inside of TLS", "tls")
            if is_number(first):
                if rest and rest[0][0] is None:
                    problem = f"{first} and {rest[0][1]} cannot both be its port (a directory would be ./{first})"
                    raise self._error(problem, "tls")
                arguments = [("port", first), *rest]
        bound = self._description.bind("tls", arguments)
        directory = bound.get("path")
        if directory is not None and not _is_directory(directory):
            raise self._error(f"{directory!r} is neither a port nor a directory", "tls")
        if directory is None and "port" not in bound:
            raise self._error("the port is missing", "tls")
        port, backlog = int(bound.get("port", "443")), int(bound["backlog"])
        interface = bound.get("interface", "::" if dual_stack() else "")
        server = TCP6ServerEndpoint if isIPv6Address(interface) else TCP4ServerEndpoint
        return self._secured(directory, server(self._reactor, port, backlog, interface))

    def _secured(
        self, directory: str | None, endpoint: IStreamServerEndpoint, *, proxied: bool = False
    ) -> ChatEndpoint:
        tls = TLSServerEndpoint(endpoint, self._certificates(directory), IReactorTime(self._reactor))
        return self._made(tls, secure=True, proxied=proxied)

    def _ssl(self, bound: Mapping[str, str]) -> IStreamServerEndpoint:
        key = bound.get("privateKey", "server.pem")
        certificate = bound.get("certKey", key)
        key_file, certificate_file = self._pem(key), self._pem(certificate)
        # Twisted takes the first certificate of the file, whatever follows.
        first = certificate_file.certificates[:1]
        pairs, _ = pair_up((key_file, certificate_file), datetime.now(UTC))
        pair = next((each for each in pairs if each.certificate in first), None)
        if pair is None:
            raise self._error(f"the private key in {key} is not that of a certificate in {certificate}", "ssl")
        if "extraCertChain" in bound and not self._pem(bound["extraCertChain"]).certificates:
            raise self._error(f"there is no certificate in {bound['extraCertChain']}", "ssl")
        try:
            # What OpenSSL refuses, Twisted would find out in the first handshake.
            context = SSL.Context(SSL.TLS_METHOD)
            context.use_certificate(pair.certificate)
            context.use_privatekey(pair.key)  # type: ignore[arg-type]  # TypeError for kinds that are not for TLS
            if "dhParameters" in bound:
                context.load_tmp_dh(str(Path(bound["dhParameters"]).resolve(strict=True)))
            return self._twisted(for_twisted("ssl", bound))
        except (SSL.Error, crypto.Error) as error:
            raise self._error(f"OpenSSL does not take it: {openssl_reason(error)}", "ssl") from error
        except (AttributeError, OSError, TypeError, ValueError) as error:
            raise self._error(str(error), "ssl") from error

    def _pem(self, name: str) -> PemFile:
        try:
            return read_pem(Path(name))
        except PemError as error:
            raise self._error(f"{name}: {error}", "ssl") from error

    def _plugin(self, kind: str) -> IStreamServerEndpoint:
        if kind not in {plugin.prefix.lower() for plugin in getPlugins(IStreamServerEndpointStringParser)}:
            raise self._error(f"{kind!r} is no type of endpoint")
        try:
            return self._twisted(self._description.text)
        except Exception as error:  # a plugin may raise anything, Autobahn's does
            right = f"what the documentation of {kind}: says"
            raise self._error(str(error) or type(error).__name__, right=right) from error


def dual_stack() -> bool:
    """Whether a socket for all IPv6 addresses takes IPv4 too: not on Windows and OpenBSD, nor with IPv6 turned off."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
            return not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False


def _listening_family(fileno: int) -> socket.AddressFamily | None:
    """The family of a listening socket for streams; None for any other descriptor."""
    try:
        duplicate = os.dup(fileno)
    except (OSError, OverflowError):
        return None
    try:
        listening = socket.socket(fileno=duplicate)
    except OSError:  # a file or a pipe
        os.close(duplicate)
        return None
    with listening:
        if listening.type == socket.SOCK_STREAM and listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return socket.AddressFamily(listening.family)
    return None


def _url_host(host: str) -> str:
    address = ip_address(host or "0.0.0.0")  # noqa: S104 - compared, not bound
    if address.is_unspecified:
        return "localhost"
    return f"[{host.replace('%', '%25')}]" if address.version == 6 else host


def _is_directory(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # not allowed to look: the certificate directory says so better
        return True
