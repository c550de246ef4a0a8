"""Which Redis a URL names, and how it is reached. Nothing of it shows a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from cryptography import x509

from twisted_chat.relay.interface import RelayError
from twisted_chat.relay.redis.names import PREFIX, Names

PORT: Final = 6379
SENTINEL_PORT: Final = 26379

FORMS: Final = """\
redis://[USER:PASSWORD@]HOST[:PORT][/DB], the same with rediss:// for TLS, redis+unix:///PATH[?db=DB], \
redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST…/SERVICE[/DB], each with ?prefix=NAME where applications share it"""

_APPLICATION: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST: Final = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\](?::(\d+))?|([\w.-]+)(?::(\d+))?", re.ASCII)
_SCHEMES: Final = {
    # TLS, kind
    "redis": (False, "tcp"),
    "rediss": (True, "tcp"),
    "redis+unix": (False, "unix"),
    "redis+sentinel": (False, "sentinel"),
    "rediss+sentinel": (True, "sentinel"),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """`user` is None for the default user."""

    user: bytes | None = field(repr=False)
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Host:
    """Where TCP leads."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS that verifies: by these certificates, or those that the system trusts where there are none."""

    authorities: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class RedisServer:
    """What a URL names: one host, a Unix socket, or a service that Sentinels know.

    name
        the URL without anything secret: for logs, and what tells one server from another
    prefix
        what all names there begin with, which tells one application from another
    """

    name: str
    database: int = 0
    credentials: Credentials | None = None
    hosts: tuple[Host, ...] = ()
    path: str | None = None
    service: str | None = None
    tls: Tls | None = None
    prefix: bytes = PREFIX

    @property
    def names(self) -> Names:
        """How things are called there."""
        return Names(self.database, self.prefix)

    @property
    def is_found_by_sentinel(self) -> bool:
        """Whether `hosts` are Sentinels."""
        return self.service is not None


def parse_url(url: str) -> RedisServer:
    """What `url` names. Raises `RelayError`, with what is wrong and what would be right."""
    return _Parser(url).parse()


class _Parser:
    def __init__(self, url: str) -> None:
        self._url = url

    def parse(self) -> RedisServer:
        scheme, separator, rest = self._url.partition("://")
        known = _SCHEMES.get(scheme.lower())
        if known is None or not separator:
            self._wrong(f"use {FORMS}")
        tls, kind = known
        if "#" in rest:
            self._wrong("a # in a password is written %23")
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        if "@" in path + query:
            self._wrong("in a password / is written %2F, ? is %3F, # is %23 and @ is %40")
        options = self._options(query, {"prefix"} | ({"ca"} if tls else {"db"} if kind == "unix" else set()))
        user_info, at, place = authority.rpartition("@")
        credentials = self._credentials(user_info) if at else None
        shown = f"{scheme.lower()}://{place}{slash}{path}"
        security = Tls(self._authorities(options["ca"]) if "ca" in options else ()) if tls else None
        return self._prefixed(self._server(kind, place, path, options, credentials, security, shown), options)

    def _prefixed(self, server: RedisServer, options: Mapping[str, str]) -> RedisServer:
        prefix = options.get("prefix")
        if prefix is None:
            return server
        if not _APPLICATION.fullmatch(prefix):
            self._wrong(
                "what ?prefix= names is 1 to 64 letters of ASCII, digits, hyphens, dots and underscores, as in"
                " ?prefix=shop"
            )
        if prefix.encode() == server.prefix:
            return server
        mark = "&" if "?" in server.name else "?"
        return replace(server, name=f"{server.name}{mark}prefix={prefix}", prefix=prefix.encode())

    def _server(
        self,
        kind: str,
        place: str,
        path: str,
        options: Mapping[str, str],
        credentials: Credentials | None,
        security: Tls | None,
        shown: str,
    ) -> RedisServer:
        if kind == "unix":
            return self._unix(place, path, options, credentials, shown)
        if kind == "sentinel":
            return self._sentinel(place, path, credentials, security, shown)
        if not place:
            self._wrong("the host is missing, as in redis://localhost")
        host = self._host(place, PORT)
        database = self._database(path, "redis://HOST/1")
        return RedisServer(shown, database, credentials, (host,), tls=security)

    def _unix(
        self, place: str, path: str, options: Mapping[str, str], credentials: Credentials | None, shown: str
    ) -> RedisServer:
        if place or not path:
            self._wrong("the path of the socket is absolute, as in redis+unix:///run/redis/redis.sock")
        database = self._database(options.get("db", ""), "redis+unix:///PATH?db=1")
        if database:
            shown += f"?db={database}"
        return RedisServer(shown, database, credentials, path="/" + unquote(path))

    def _sentinel(
        self, place: str, path: str, credentials: Credentials | None, security: Tls | None, shown: str
    ) -> RedisServer:
        service, _, database = path.partition("/")
        if not place or not service:
            self._wrong("the Sentinels and the service are named as in redis+sentinel://host1,host2:26379/mymaster")
        hosts = tuple(self._host(each, SENTINEL_PORT) for each in place.split(","))
        return RedisServer(
            shown,
            self._database(database, "redis+sentinel://HOST/SERVICE/1"),
            credentials,
            hosts,
            service=unquote(service),
            tls=security,
        )

    def _credentials(self, user_info: str) -> Credentials | None:
        user, colon, password = user_info.partition(":")
        if not colon:
            self._wrong("before the @ comes USER:PASSWORD, or :PASSWORD for the default user")
        if user and not password:
            self._wrong("the password is missing after USER:")
        return Credentials(unquote_to_bytes(user) or None, unquote_to_bytes(password)) if password else None

    def _host(self, text: str, port: int) -> Host:
        match = _HOST.fullmatch(text)
        if match is None:
            # What stands there may be a password whose @ was forgotten.
            self._wrong("the host is a name or an address, an IPv6 address in brackets, and after : comes the port")
        number = int(match[2] or match[4] or port)
        if not 0 < number < 65536:
            self._wrong("the port is a number from 1 to 65535")
        return Host(match[1] or match[3], number)

    def _database(self, text: str, example: str) -> int:
        if not re.fullmatch(r"\d{0,9}", text, re.ASCII):
            self._wrong(f"the database is a number, as in {example}")
        return int(text or 0)

    def _options(self, query: str, allowed: set[str]) -> dict[str, str]:
        options = dict(parse_qsl(query, keep_blank_values=True))
        for name in options:
            if name not in allowed:
                takes = " and ".join(f"?{each}=" for each in sorted(allowed))
                self._wrong(f"there is no option {name!r}; this kind of URL takes only {takes}")
        return options

    def _authorities(self, name: str) -> tuple[x509.Certificate, ...]:
        try:
            return tuple(x509.load_pem_x509_certificates(Path(name).read_bytes()))
        except OSError as error:
            self._wrong(f"?ca= names {name!r}, which cannot be read: {error.strerror}")
        except ValueError:
            self._wrong(f"?ca= names {name!r}, which holds no certificates in PEM format")

    def _wrong(self, what: str) -> NoReturn:
        raise RelayError(f"the relay {_hide(self._url)!r}: {what}")


def _hide(url: str) -> str:
    """As much of a URL that is wrong as cannot be a password: that may be anywhere, and have no @ after it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return scheme.partition(":")[0] + ":…"
    _, at, place = rest.rpartition("@")
    if at:
        return f"{scheme}://***@{place.partition('?')[0]}"
    place = place.partition("?")[0]
    authority = place.partition("/")[0]
    harmless = not authority or all(map(_HOST.fullmatch, authority.split(",")))
    return f"{scheme}://{place}" if harmless else f"{scheme}://…"
