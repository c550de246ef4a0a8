"""Clients of consumers as members of groups: a group is a room, whose publications are messages of consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted_chat.consumers import codec
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Position, Publication
from twisted_chat.core.session import Session
from twisted_chat.direct import Outlet
from twisted_chat.fanout import Delivered, RoomAudience, Turn
from twisted_chat.subscriber import Subscriber
from twisted_chat.wire.frames import binary_frame, compressed_frame, text_frame

CLOSE: Final = 1000
"""What ``{"close": True}`` closes with."""


def has_frame(content: Mapping[str, Any]) -> bool:
    """Whether a message of a consumer has something that the client is to read."""
    return content.get("text") is not None or content.get("bytes") is not None


def close_of(content: Mapping[str, Any]) -> int | None:
    """The code that it ends the connection with; None if it does not."""
    close = content.get("close")
    if not close:
        return None
    return CLOSE if close is True else int(close)


class ConsumerFrames:
    """What consumers send, as they sent it: the client is told nothing that they did not say."""

    def text(self, payload: bytes) -> bytes:
        return text_frame(payload)

    def message(self, content: Mapping[str, Any]) -> bytes:
        """The frame of a message of a consumer; nothing for one that has none."""
        if content.get("text") is not None:
            return self.text(content["text"].encode("utf-8", "surrogatepass"))
        if content.get("bytes") is not None:
            return binary_frame(content["bytes"])
        return b""

    def publication(self, publication: Publication) -> bytes:
        return self.message(codec.decode(publication.data))

    def event(self, event: bytes) -> bytes:
        return b""

    def reset(self, position: Position) -> bytes:
        return b""

    def start(self, position: Position) -> bytes:
        return b""

    def error(self, refused: ChatError) -> bytes:
        return b""


class CompressedConsumerFrames(ConsumerFrames):
    """The same for clients that negotiated compression; see `wire.formats.CompressedFrames`."""

    def __init__(self, counted: Callable[[int, int], None]) -> None:
        self._counted: Final = counted

    def text(self, payload: bytes) -> bytes:
        frame = compressed_frame(payload)
        self._counted(len(payload), len(frame))
        return frame


CONSUMER_FRAMES: Final = ConsumerFrames()


class GroupMember(Subscriber):
    """One client in one group. `session.room` is the group's room.

    say
        is given what was sent to the group while the client was not settled, and at which microsecond
    hang_up
        ends its connection with a close code
    live
        it has what was sent before; to be answered with `GroupAudience.settle` when all else has reached the client
    """

    def __init__(
        self,
        name: str,
        session: Session,
        outlet: Outlet,
        form: ConsumerFrames,
        *,
        say: Callable[[Mapping[str, Any], int], None],
        hang_up: Callable[[int], None],
        live: Callable[[], None],
    ) -> None:
        super().__init__(name, session, outlet, form, on_live=live)
        self.hang_up: Final = hang_up
        self._say: Final = say
        self._audience: GroupAudience | None = None

    def receive(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            self._say(codec.decode(publication.data), publication.position.tag)

    def added(self, audience: GroupAudience) -> None:
        self._audience = audience

    def settled(self) -> None:
        """From now on it is written to with all others."""
        if self._audience is not None:
            self._audience.settle(self)


class GroupAudience(RoomAudience):
    """The live members of a group. A message to them may end their connections.

    What a client is told beside the group may still be on its way when it becomes live; until it is there, the client
    is given each message on its own, and puts them in order.
    """

    def __init__(self, turn: Turn, delivered: Delivered) -> None:
        super().__init__(turn, delivered)
        self._settled: dict[GroupMember, None] = {}
        self._unsettled: dict[GroupMember, None] = {}

    def add(self, member: Subscriber) -> None:
        assert isinstance(member, GroupMember)
        self._unsettled[member] = None
        member.added(self)

    def settle(self, member: GroupMember) -> None:
        """Nothing is on its way to it any more."""
        if member in self._unsettled:
            del self._unsettled[member]
            self._settled[member] = None
            super().add(member)

    def discard(self, member: Subscriber) -> None:
        assert isinstance(member, GroupMember)
        if self._unsettled.pop(member, self) is self:
            self._settled.pop(member, None)
            super().discard(member)

    def clear(self) -> Iterable[Subscriber]:
        unsettled, self._unsettled = self._unsettled, {}
        self._settled.clear()
        return [*super().clear(), *unsettled]

    def publish(self, publication: Publication) -> None:
        for member in list(self._unsettled):
            member.receive((publication,))
        super().publish(publication)
        code = close_of(codec.decode(publication.data)) if b'"close"' in publication.data else None
        if code is not None:
            self.flush()
            for member in list(self._settled):
                member.hang_up(code)
