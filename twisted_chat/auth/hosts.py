"""Which hosts the server answers to: keeps out pages that have made its address theirs (DNS rebinding).

Who owns a name can let it lead to a page first, and then to 127.0.0.1 or to a server behind a firewall. The page is of
the origin that it now asks, so neither the browser nor a comparison of ``Origin`` and ``Host`` sees anything foreign.
What gives it away is the name in ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from twisted_chat.core.address import is_address
from twisted_chat.core.errors import ChatError, Reason

EVERY: Final = "*"
_STAR: Final = "*."
_LONGEST: Final = 255
_LABEL: Final = r"[a-z0-9_-]+"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^:]*))(?::[0-9]*)?")
_LOCALHOST: Final = "localhost"


class HostError(ValueError):
    """Not a host to allow; the message is one readable line that says what would be right."""


class Hosts:
    """The hosts that the server answers to: `named` ones, and always localhost and addresses.

    Those are ``example.com``, ``*.example.com`` (one or more labels in place of the star) and ``*`` (every host), all
    of them with any port. Raises `HostError`.

    ``localhost``, names below it, and addresses are nobody's to point elsewhere: a browser that says one of them was
    sent there by its user, or by a page that `Origins` judges.
    """

    def __init__(self, named: Sequence[str] = ()) -> None:
        self._every = EVERY in named
        names = [_parse_named(text) for text in named if text != EVERY]
        self._exact = frozenset({_LOCALHOST, *(name for name in names if not name.startswith(_STAR))})
        self._endings = (f".{_LOCALHOST}", *(name.removeprefix("*") for name in names if name.startswith(_STAR)))

    @property
    def every(self) -> bool:
        """Whether any host will do."""
        return self._every

    def check(self, host: str | None) -> None:
        """Raise `ChatError` (`Reason.HOST_NOT_ALLOWED`) unless a request with this ``Host`` may come.

        Without one it may: browsers always send it.
        """
        if not host or self._every:
            return
        name = _name(host)
        if name is not None and (name in self._exact or self._is_below(name) or is_address(name)):
            return
        if name is None or len(name) > _LONGEST or not _NAME.fullmatch(name):
            # Not repeated: who knows what it is.
            raise ChatError(Reason.HOST_NOT_ALLOWED, "the Host header is not a host like chat.example.com")
        raise ChatError(
            Reason.HOST_NOT_ALLOWED,
            f"this server does not answer to the host {name}; its option --allow-host {name} would allow it",
        )

    def _is_below(self, name: str) -> bool:
        return name.endswith(self._endings) and not name.startswith(".")


def _name(host: str) -> str | None:
    """A ``Host`` without port, brackets and the dot at the end, in lower case."""
    # ASCII first: lower() turns the Kelvin sign into a k.
    match = _HOST.fullmatch(host) if host.isascii() else None
    return None if match is None else (match["name"] or match["ipv6"] or "").lower().removesuffix(".")


def _parse_named(text: str) -> str:
    """A name to allow in lower case, with its star."""
    name = text.lower() if text.isascii() else ""
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    name = name.removesuffix(".")
    if len(name) <= _LONGEST and (_NAME.fullmatch(name.removeprefix(_STAR)) or is_address(name)):
        return name
    raise HostError(f"{text!r} is no host to allow: {_advice(text)}")


def _advice(text: str) -> str:
    if not text.isascii():
        return "write it in ASCII, as browsers send it: 'xn--...'"
    host = re.split(r"[/?#]", text.partition("://")[2] or text)[0].rpartition("@")[2]
    bare = _name(host)
    if bare is not None and bare != text.lower() and _NAME.fullmatch(bare.removeprefix(_STAR)):
        return f"it has no scheme, port or path: {bare!r}"
    if text.startswith(".") and _NAME.fullmatch(text[1:].lower()):
        return f"every host below is '*{text}'"
    if "*" in text:
        return "a star stands for whole labels at the start: '*.example.com'"
    return "it is a name or an address: 'chat.example.com'"
