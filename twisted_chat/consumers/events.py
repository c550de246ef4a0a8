"""What consumers are called for, and what they cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, Final

from twisted_chat.consumers import codec
from twisted_chat.core.publication import Position

CONNECT: Final = "websocket.connect"
RECEIVE: Final = "websocket.receive"
DISCONNECT: Final = "websocket.disconnect"

EVENT_BYTES: Final = 128
"""What an event takes beside its name and its content, with its place in a queue."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a consumer is to be called for.

    id
        unlike that of any other event; what it causes is known by it
    """

    id: str
    channel: str
    content: Mapping[str, Any]
    _kept: int = field(default=0, init=False, repr=False, compare=False)

    def kept_bytes(self) -> int:
        """How much memory it takes, about, as long as nobody changes its content."""
        if not self._kept:  # it is asked for on the way into a queue, and there
            object.__setattr__(self, "_kept", EVENT_BYTES + getsizeof(self.id) + kept_bytes(self.content))
        return self._kept

    def encode(self) -> bytes:
        """As it stands in a queue. Raises `TypeError` for a content that cannot be carried."""
        return codec.encode([self.id, self.channel, self.content])

    def encode_id(self) -> bytes:
        """What `encode` begins with, and that of no other event."""
        return codec.encode([self.id])[:-1] + b","

    @classmethod
    def decode(cls, data: bytes) -> Event:
        return cls(*codec.decode(data))


def kept_bytes(value: Any) -> int:
    """How much memory a content takes, about."""
    size = getsizeof(value)
    if isinstance(value, dict):
        parts: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    else:
        return size
    for part in parts:
        # Most are text, and this is asked for every event.
        size += getsizeof(part) if isinstance(part, str) else kept_bytes(part)
    return size


# What a consumer causes


@dataclass(frozen=True, slots=True)
class Send:
    """A message for a channel: that of a client, or one that consumers listen to."""

    channel: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SendGroup:
    """A message for all members of a group."""

    group: str
    content: Mapping[str, Any]


Effect = Send | SendGroup


# What a node is told about one of its clients


@dataclass(frozen=True, slots=True)
class Say:
    """A message of a consumer for the client: ``accept``, ``text``, ``bytes``, ``close``."""

    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Join:
    """It is a member of the group from this position of the group's room on."""

    group: str
    since: Position


@dataclass(frozen=True, slots=True)
class Leave:
    """It is no member of the group any more."""

    group: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Whatever it was told before it had all of the group is there now: a node says that to itself, to find out."""

    group: str


@dataclass(frozen=True, slots=True)
class Unrouted:
    """No consumer is for this client."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The consumer that was to answer the handshake failed, so there will be no answer."""


Instruction = Say | Join | Leave | Settled | Unrouted | Failed


def encode_instructions(instructions: list[tuple[str, Instruction]]) -> bytes:
    """What a node is told about its connections, by name."""
    return codec.encode([[name, *_fields(instruction)] for name, instruction in instructions])


def decode_instructions(data: bytes) -> list[tuple[str, Instruction]]:
    """The inverse; what a later version has to say besides is left out."""
    found = []
    for name, kind, *fields in codec.decode(data):
        instruction = _instruction(kind, fields)
        if instruction is not None:
            found.append((name, instruction))
    return found


def _fields(instruction: Instruction) -> list[Any]:
    match instruction:
        case Say(content):
            return ["say", content]
        case Join(group, since):
            return ["join", group, str(since)]
        case Leave(group):
            return ["leave", group]
        case Settled(group):
            return ["settled", group]
        case Unrouted():
            return ["unrouted"]
        case Failed():
            return ["failed"]


def _instruction(kind: str, fields: list[Any]) -> Instruction | None:
    match kind, fields:
        case "say", [dict(content)]:
            return Say(content)
        case "join", [str(group), str(since)]:
            position = Position.parse(since)
            return Join(group, position) if position is not None else None
        case "leave", [str(group)]:
            return Leave(group)
        case "settled", [str(group)]:
            return Settled(group)
        case "unrouted", []:
            return Unrouted()
        case "failed", []:
            return Failed()
    return None
