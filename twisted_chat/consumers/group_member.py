"""Clients of consumers as members of groups: a group is a room, whose publications are messages of consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted_chat.consumers import codec
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Position, Publication
from twisted_chat.core.session import Session
from twisted_chat.fanout import RoomAudience, Turn
from twisted_chat.subscriber import Outlet, Subscriber
from twisted_chat.wire.formats import Format
from twisted_chat.wire.frames import binary_frame, text_frame

CLOSE: Final = 1000
"""What ``{"close": True}`` closes with."""


def frame_of(content: Mapping[str, Any]) -> bytes:
    """The frame of a message of a consumer; nothing for one that has none."""
    if content.get("text") is not None:
        return text_frame(content["text"].encode("utf-8", "surrogatepass"))
    if content.get("bytes") is not None:
        return binary_frame(content["bytes"])
    return b""


def close_of(content: Mapping[str, Any]) -> int | None:
    """The code that it ends the connection with; None if it does not."""
    close = content.get("close")
    if not close:
        return None
    return CLOSE if close is True else int(close)


class _ConsumerFrames:
    """What consumers send, as they sent it: the client is told nothing that they did not say."""

    def publication(self, publication: Publication) -> bytes:
        return frame_of(codec.decode(publication.data))

    def event(self, event: bytes) -> bytes:
        return b""

    def reset(self, position: Position) -> bytes:
        return b""

    def start(self, position: Position) -> bytes:
        return b""

    def error(self, refused: ChatError) -> bytes:
        return b""


CONSUMER_FRAMES: Format = _ConsumerFrames()


class GroupMember(Subscriber):
    """One client in one group. `session.room` is the group's room.

    hang_up
        ends its connection with a close code
    """

    def __init__(self, name: str, session: Session, outlet: Outlet, hang_up: Callable[[int], None]) -> None:
        super().__init__(name, session, outlet, CONSUMER_FRAMES)
        self.hang_up: Final = hang_up

    def receive(self, publications: Sequence[Publication]) -> None:
        super().receive(publications)
        for publication in publications:
            code = close_of(codec.decode(publication.data))
            if code is not None:
                self.hang_up(code)


class GroupAudience(RoomAudience):
    """The live members of a group: a message to them may end their connections."""

    def __init__(self, turn: Turn, delivered: Callable[[int], None]) -> None:
        super().__init__(turn, delivered)
        self._live: dict[Subscriber, None] = {}

    def add(self, member: Subscriber) -> None:
        super().add(member)
        self._live[member] = None

    def discard(self, member: Subscriber) -> None:
        super().discard(member)
        self._live.pop(member, None)

    def clear(self) -> Iterable[Subscriber]:
        self._live.clear()
        return super().clear()

    def publish(self, publication: Publication) -> None:
        super().publish(publication)
        code = close_of(codec.decode(publication.data)) if b'"close"' in publication.data else None
        if code is not None:
            self.flush()
            for member in list(self._live):
                if isinstance(member, GroupMember):
                    member.hang_up(code)
