"""Who comes in: the address, origin and identity of a request, checked before anything else is done for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.http import Request
from twisted.web.http_headers import Headers

from twisted_chat.auth import ApiKeys, Origins, TokenKeys, token_from
from twisted_chat.core.budget import Budget
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import AddressRates, Limits, limited_address
from twisted_chat.core.permissions import ANYONE, SERVER, Identity
from twisted_chat.core.session import Allowance, Session
from twisted_chat.server.http.connection import HttpConnection
from twisted_chat.server.http.request import field, joined

_HOP: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<ipv4>[0-9.]+))(?::[0-9]{1,5})?")


class Admission:
    """The rules of one server. `tokens` and `api_keys` are None where none were configured.

    check_room
        raises `ChatError` for a room that nobody may be in; None: there is no such room
    """

    def __init__(
        self,
        *,
        origins: Origins,
        tokens: TokenKeys | None,
        api_keys: ApiKeys | None,
        limits: Limits,
        trusted_proxies: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        check_room: Callable[[str], None] | None = None,
    ) -> None:
        self.limits: Final = limits
        self._check_room: Final = check_room
        self.replace(origins=origins, tokens=tokens, api_keys=api_keys)
        self._trusted_proxies: Final = trusted_proxies
        self._clock: Final = clock
        self.wall_clock: Final = wall_clock
        self._rates: Final = AddressRates(limits.messages_per_address)
        self._budget: Final = Budget(limits)

    def replace(self, *, origins: Origins, tokens: TokenKeys | None, api_keys: ApiKeys | None) -> None:
        """Other rules for whoever comes from now on; who is in stays in until its token expires."""
        self._origins = origins
        self._tokens = tokens
        self._api_keys = api_keys

    def address(self, request: Request) -> str | None:
        """Whom limits count a request under; None behind a unix socket without a proxy that tells."""
        host = self.host(request)
        return None if host is None else limited_address(host)

    @property
    def proxied(self) -> bool:
        """Whether connections are those of proxies, which tell for whom each request is."""
        return self._trusted_proxies > 0

    def is_server(self, request: Request) -> bool:
        """Return whether a request comes with an API key of this server."""
        key = field(request, b"x-api-key") if self._api_keys is not None else None
        if key is None or self._api_keys is None:
            return False
        try:
            self._api_keys.check(key)
        except ChatError:
            return False
        return True

    def host(self, request: Request) -> str | None:
        """The address that a request comes from, as far as that is believed."""
        host: str | None = None
        if self._trusted_proxies:
            forwarded = field(request, b"x-forwarded-for") or ""
            hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
            # What stands further left was written by the client.
            host = _without_port(hops[-min(self._trusted_proxies, len(hops))]) if hops else None
        if host is None:
            peer = request.getClientAddress()
            host = peer.host if isinstance(peer, IPv4Address | IPv6Address) else None
        return host

    def check_origin(self, request: Request) -> None:
        """Raise `ChatError` for a page of another site that was not allowed."""
        origin = field(request, b"origin")
        if origin is not None:
            self._origins.check(origin, field(request, b"host"))

    def allowed_origin(self, headers: Headers) -> str | None:
        """Return what ``Access-Control-Allow-Origin`` says to a request with these fields; None: nothing."""
        origin = joined(headers, b"origin")
        return None if origin is None else self._origins.cors_origin(origin, joined(headers, b"host"))

    def identify(self, request: Request) -> Identity:
        """Who sends this request. Raises `ChatError`."""
        key = field(request, b"x-api-key")
        if key is not None:
            if self._api_keys is None:
                raise ChatError(
                    Reason.API_KEY_INVALID, "this server takes no API keys: it was started without --api-key-file"
                )
            self._api_keys.check(key)
            return SERVER
        if self._tokens is None:
            return ANYONE
        token = token_from(field(request, b"authorization"), _query(request))
        if token is None:
            raise ChatError(
                Reason.TOKEN_REQUIRED, "this room needs a token: send Authorization: Bearer TOKEN, or ?token=TOKEN"
            )
        return self._tokens.verify(token, self.wall_clock())

    def check_api_key(self, request: Request) -> None:
        """Raise `ChatError` unless an API key of this server comes with it."""
        if self._api_keys is None:
            raise ChatError(Reason.NOT_FOUND, "this server has no API: it was started without --api-key-file")
        self._api_keys.check(field(request, b"x-api-key"))

    def check_room(self, room: str) -> None:
        """Raise `ChatError` when nobody may be in this room."""
        if self._check_room is not None:
            self._check_room(room)

    def session(self, request: Request, room: str, handle: str | None = None) -> Session:
        """A session in `room` for the sender of this request. Raises `ChatError`."""
        identity = self.identify(request)
        self.check_room(room)
        return Session(
            identity,
            room,
            address=self.address(request),
            rates=self._rates,
            limits=self.limits,
            now=self._clock(),
            handle=handle,
            allowance=self._allowance(request),
            budget=self._budget,
        )

    def _allowance(self, request: Request) -> Allowance | None:
        """Return that of the connection which `request` came on, so that each request on it does not get its own.

        Behind a proxy a connection is not one client's: what counts there is the address.
        """
        if self._trusted_proxies:
            return None
        connection: HttpConnection = cast("Any", request).channel.connection
        if connection.allowance is None:
            connection.allowance = Allowance(self.limits, self._clock())
        return connection.allowance

    def visitor(self, place: str, address: str | None) -> Session:
        """A session for a client at `address` that others than this judge: the consumers of `place`, a path."""
        return Session(ANYONE, place, address=address, rates=self._rates, limits=self.limits, now=self._clock())


def _without_port(hop: str) -> str:
    """Some proxies name the client's port too, which would make every connection one of another client."""
    match = _HOP.fullmatch(hop)
    return hop if match is None else match["ipv6"] or match["ipv4"]


def _query(request: Request) -> list[tuple[str, str]]:
    args: dict[bytes, list[bytes]] = request.args or {}
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, values in args.items() for value in values]
