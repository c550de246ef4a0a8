"""How a room speaks to each kind of connection: the same JSON in WebSocket frames or in server-sent events.

A format turns what happens in a room into the bytes that go on the wire, once for all connections that share it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Position, Publication
from twisted_chat.wire import event_stream, room
from twisted_chat.wire.frames import compressed_frame, text_frame


class Event(Enum):
    """What a client may ask to be told besides messages (``events=presence,typing,ready,heartbeat``)."""

    PRESENCE = "presence"
    TYPING = "typing"
    READY = "ready"
    HEARTBEAT = "heartbeat"


class Format(Protocol):
    """Bytes for one kind of connection."""

    def publication(self, publication: Publication) -> bytes:
        """A message."""

    def event(self, event: bytes) -> bytes:
        """An event, given as the JSON of `wire.room`."""

    def reset(self, position: Position) -> bytes:
        """Something may be missing before `position`."""

    def start(self, position: Position) -> bytes:
        """The connection has everything up to `position` and is live."""

    def error(self, refused: ChatError) -> bytes:
        """Something that the client sent was refused."""


class TextFrames:
    """WebSocket frames."""

    def frame(self, payload: bytes) -> bytes:
        return text_frame(payload)

    def publication(self, publication: Publication) -> bytes:
        return self.frame(room.message(publication))

    def event(self, event: bytes) -> bytes:
        return self.frame(event)

    def reset(self, position: Position) -> bytes:
        return self.frame(room.reset(position))

    def start(self, position: Position) -> bytes:
        return b""  # the page that shows every frame as a row must see none that it did not ask for

    def error(self, refused: ChatError) -> bytes:
        return self.frame(room.error(refused))


class CompressedFrames(TextFrames):
    """The same for members that negotiated compression.

    counted
        called with the bytes of each frame before and after
    """

    def __init__(self, counted: Callable[[int, int], None]) -> None:
        self._counted = counted

    def frame(self, payload: bytes) -> bytes:
        frame = compressed_frame(payload)
        self._counted(len(payload), len(frame))
        return frame


class _EventStream:
    def publication(self, publication: Publication) -> bytes:
        return event_stream.event(room.message(publication), position=str(publication.position).encode())

    def event(self, event: bytes) -> bytes:
        return event_stream.event(event, name=b"event")

    def reset(self, position: Position) -> bytes:
        return event_stream.event(room.reset(position), name=b"event", position=str(position).encode())

    def start(self, position: Position) -> bytes:
        return event_stream.bookmark(str(position).encode())

    def error(self, refused: ChatError) -> bytes:
        return event_stream.event(room.error(refused), name=b"refused")


TEXT_FRAMES: Format = TextFrames()
EVENT_STREAM: Format = _EventStream()
