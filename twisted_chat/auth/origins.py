"""Whose pages may connect: keeps foreign pages from using a visitor's browser (RFC 6455 section 10.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twisted_chat.core.errors import ChatError, Reason

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LONGEST: Final = 512
_STAR: Final = "://*."
_LABEL: Final = r"[a-z0-9_-]+"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
)
# What WebViews and libraries for devices send where RFC 6454 would have "null": a scheme without a host.
_SCHEME_ONLY: Final = re.compile(r"(?!(?:https?|wss?)://)[a-z][a-z0-9+.-]*://")


class OriginError(ValueError):
    """Not an origin to allow; the message is one readable line that says what would be right."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Scheme, host and port (None: the scheme has no usual one and none was given) as in RFC 6454 section 4."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> _Origin | None:
        # ASCII first: lower() turns the Kelvin sign into a k.
        if len(text) > _LONGEST or not text.isascii():
            return None
        match = _ORIGIN.fullmatch(text.lower())
        if match is None:
            return None
        scheme, host, port = match.group("scheme", "host", "port")
        return cls(scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme))

    def under(self, parent: _Origin) -> bool:
        """Whether its host has one or more labels before the host of `parent`, and all else is the same."""
        return (self.scheme, self.port) == (parent.scheme, parent.port) and self.host.endswith(f".{parent.host}")


class Origins:
    """The origins whose pages may connect: the server's own, and `allowed` ones.

    Those are ``https://example.com`` (with a port where it is not the usual one), ``https://*.example.com`` (one or
    more labels in place of the star), ``null`` (files and sandboxed frames), a scheme alone such as ``file://`` (what
    some WebViews say of files), and ``*`` (every page). Raises `OriginError`.

    The server's own origin has the host and port of the ``Host`` header. Its scheme is not compared: behind a proxy
    that ends TLS a page of ``https://`` reaches us as plain HTTP.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._every = "*" in allowed
        self._hostless = {text.lower() for text in allowed if is_hostless(text)}
        self._exact: set[_Origin] = set()
        self._parents: set[_Origin] = set()
        for text in allowed:
            if text == "*" or is_hostless(text):
                continue
            (self._parents if _STAR in text else self._exact).add(_parse_allowed(text))

    def check(self, origin: str | None, host: str | None) -> None:
        """Raise `ChatError` (`Reason.ORIGIN_NOT_ALLOWED`) unless a request with these headers may come.

        Without an ``Origin`` it may: it comes from no page in a browser.
        """
        if origin is None or self._every or _is_own(origin, host) or self._allows(origin):
            return
        if origin == "null":
            what = "a page without an origin (a file or a sandboxed frame)"
        elif _Origin.parse(origin) is None and not is_hostless(origin):
            # Not repeated: who knows what it is.
            raise ChatError(Reason.ORIGIN_NOT_ALLOWED, "the Origin header is not an origin like https://example.com")
        else:
            what = f"a page of {origin}"
        raise ChatError(
            Reason.ORIGIN_NOT_ALLOWED,
            f"{what} may not connect to this server; its option --allow-origin {origin} would allow it",
        )

    def cors_origin(self, origin: str | None, host: str | None) -> str | None:
        """The ``Access-Control-Allow-Origin`` to answer with (and ``Vary: Origin``, unless ``*``).

        None: there is nothing to allow (no page, or one of our own), or it is not allowed.
        """
        if origin is None or _is_own(origin, host):
            return None
        if self._every:
            return "*"
        return origin if self._allows(origin) else None

    def _allows(self, origin: str) -> bool:
        if is_hostless(origin):
            return origin.lower() in self._hostless
        parsed = _Origin.parse(origin)
        return parsed is not None and (parsed in self._exact or any(parsed.under(parent) for parent in self._parents))


def is_hostless(text: str) -> bool:
    """Whether an origin names no site: ``null``, or a scheme alone."""
    return text == "null" or (
        len(text) <= _LONGEST and text.isascii() and _SCHEME_ONLY.fullmatch(text.lower()) is not None
    )


def _is_own(origin: str, host: str | None) -> bool:
    parsed = _Origin.parse(origin)
    # Under the origin's scheme: then both or neither get its usual port.
    return parsed is not None and host is not None and parsed == _Origin.parse(f"{parsed.scheme}://{host}")


def _parse_allowed(text: str) -> _Origin:
    """The origin that `text` is, without its star."""
    parsed = _Origin.parse(text.replace(_STAR, "://", 1))
    if (
        parsed is not None
        and parsed.scheme not in {"ws", "wss"}
        and (parsed.port or 0) <= 65_535
        and not (_STAR in text and parsed.host.startswith("["))
    ):
        return parsed
    raise OriginError(f"{text!r} is no origin to allow: {_advice(text, parsed)}")


def _advice(text: str, parsed: _Origin | None) -> str:
    if "://" not in text:
        return f"it needs a scheme: 'http://{text}' or 'https://{text}'"
    if not text.isascii():
        return "write the host in ASCII, as browsers send it: 'https://xn--...'"
    scheme, _, rest = text.partition("://")
    if parsed is not None and parsed.scheme in {"ws", "wss"}:
        return f"it is the page's that counts: '{'http' if parsed.scheme == 'ws' else 'https'}://{rest}'"
    authority = re.split(r"[/?#]", rest)[0]
    if authority and authority != rest:
        return f"it has no path: '{scheme}://{authority}'"
    if "@" in authority:
        return f"it has no user: '{scheme}://{authority.rpartition('@')[2]}'"
    if "*" in authority:
        return "a star stands for whole labels at the start: 'https://*.example.com'"
    return "it is a scheme, a host and perhaps a port: 'https://example.com' or 'http://localhost:8080'"
