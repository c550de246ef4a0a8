"""Descriptions of endpoints taken apart, so that each mistake in one gets an error that says what would be right.

The syntax is that of `twisted.internet.endpoints.serverFromString`: a type and its arguments, with colons between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from twisted.internet.endpoints import quoteStringArgument

MAX_PORT: Final = 65_535
BACKLOG: Final = 4096
"""Connections that the system accepts ahead of us. Twisted's 50 makes a burst wait a second for repeated SYNs."""

CLEAR: Final = ("tcp", "tcp6", "unix", "systemd", "haproxy")
"""The types that carry bytes as they are, so that TLS can go over them."""

# The arguments of each type, in the order in which Twisted takes them without a name.
_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "ssl": (
        "port", "privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain", "dhParameters",
    ),
    "systemd": ("domain", "index", "name"),
    "tls": ("path", "port", "backlog", "interface"),
}  # fmt: skip
_EXAMPLES: Final[Mapping[str, str]] = {
    "tcp": "tcp:8080:interface=127.0.0.1",
    "tcp6": r"tcp6:8080:interface=\:\:1",
    "unix": "unix:/run/twisted-chat.sock:mode=660",
    "ssl": "ssl:443:privateKey=privkey.pem:certKey=cert.pem:extraCertChain=chain.pem",
    "systemd": "systemd:domain=INET6:name=https",
    "haproxy": "haproxy:tcp:8080",
    "tls": "tls:443, tls:DIRECTORY:443 or tls:systemd:domain=INET6:name=https",
}
_COLON: Final = r"(a colon inside of one is written \:)"

Argument = tuple[str | None, str]
"""A name, if it has one, and a value."""


class EndpointError(Exception):
    """A description that nothing can listen on: one line that says what is wrong with it and what would be right."""


@dataclass(frozen=True, slots=True)
class Description:
    """One description, as it was given."""

    text: str

    def error(self, problem: str, kind: str | None = None, *, right: str | None = None) -> EndpointError:
        """The error to raise, with `right` or what is right for that `kind`."""
        right = right or (_EXAMPLES[kind] if kind is not None else ", ".join(_EXAMPLES.values()))
        return EndpointError(f"cannot listen on {self.text!r}: {problem}; right would be {right}")

    def split(self) -> list[Argument]:
        """What is between colons. After a backslash a character means itself."""
        arguments: list[Argument] = []
        name, value = None, ""
        characters = iter(self.text)
        for character in characters:
            if character == ":":
                arguments.append((name, value))
                name, value = None, ""
            elif character == "=" and name is None:
                name, value = value, ""
            elif character == "\\":
                value += next(characters, "")
            else:
                value += character
        return [*arguments, (name, value)]

    def kind(self, arguments: list[Argument]) -> tuple[str, list[Argument]]:
        """The type and the arguments that are left for it. A bare number is a TCP port."""
        name, value = arguments[0] if arguments else (None, "")
        if name is None and is_number(value):
            return "tcp", arguments
        if name is not None or not value:
            raise self.error("a type is missing")
        return value.lower(), arguments[1:]

    def bind(self, kind: str, arguments: list[Argument]) -> dict[str, str]:
        """`arguments` by name, with numbers checked and a backlog that suits a server."""
        names = _ARGUMENTS[kind]
        unnamed = iter(names)
        bound: dict[str, str] = {}
        for given, value in arguments:
            if given is None and not value:
                raise self.error(f"an argument is empty {_COLON}", kind)
            name = next(unnamed, None) if given is None else given
            if name is None:
                raise self.error(f"{value!r} is one argument too many {_COLON}", kind)
            if name not in names:
                raise self.error(f"{kind}: has no {name}=, only {', '.join(f'{each}=' for each in names)}", kind)
            if name in bound:
                raise self.error(f"the {name} is given twice {_COLON}", kind)
            bound[name] = value
        if kind != "tls" and names[0] not in bound:
            raise self.error(f"the {names[0]} is missing", kind)
        if "port" in bound and not (is_number(bound["port"]) and int(bound["port"]) <= MAX_PORT):
            raise self.error(f"{bound['port']!r} is not a port from 0 to {MAX_PORT}", kind)
        if "backlog" in names:
            backlog = bound.setdefault("backlog", str(BACKLOG))
            if not (is_number(backlog) and int(backlog) > 0):
                raise self.error(f"{backlog!r} is not a backlog of 1 or more connections", kind)
        return bound


def for_twisted(kind: str, bound: Mapping[str, str]) -> str:
    """The description that Twisted reads as these arguments."""
    return ":".join((kind, *(f"{name}={quoteStringArgument(value)}" for name, value in bound.items())))


def is_number(text: str) -> bool:
    """Whether it is decimal digits, with no sign, space or foreign digit that int() would take as well."""
    return text.isascii() and text.isdecimal()
