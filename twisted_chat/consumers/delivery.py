"""How what consumers cause reaches those that it is for: clients on any node, groups, and other consumers.

A group is a room, and so is a node: what a node is to tell its clients is published there. So both have what rooms
have: one order, nothing twice, and what was missed while a link was lost is read from a short history. Everything that
an event causes is published under keys that are made of the event's name: a second run of the event, by a worker that
took it over from one that died, repeats nothing that the first one did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from twisted_chat.consumers import codec
from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import (
    Effect,
    Event,
    Instruction,
    Join,
    Leave,
    Say,
    Send,
    SendGroup,
    encode_instructions,
)
from twisted_chat.consumers.names import DELAY, connection_of, group_room, node_of, node_room
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Newest
from twisted_chat.relay.interface import HistoryLimits, Relay
from twisted_chat.waiting import gathered

GROUP_HISTORY: Final = HistoryLimits(count=1_000, age=120.0, keys=30.0)
"""What is kept of a group, and of what a node is to do: for whoever missed it while a link was lost. Keys are for the
second run of an event whose worker died, which begins after `redis.worker.DEAD` seconds."""

Tell = Callable[[list[tuple[str, Instruction]], str | None], Deferred[None]]
Post = Callable[[Event, str | None], Deferred[None]]
Delay = Callable[[Event, float], Deferred[None]]


class Delivery:
    """See `run.Layer`.

    relay
        of groups, and of nodes where there are several
    tell
        reaches clients by the names of their connections
    post
        puts an event into the queue, behind those of the connection that is named, or of none
    delay
        puts an event into the queue after so many seconds
    again
        whether an event may be run again, so that what it causes has to be known by its key
    """

    def __init__(self, relay: Relay, tell: Tell, post: Post, delay: Delay, *, again: bool = True) -> None:
        self._again: Final = again
        self._relay: Final = relay
        self._tell: Final = tell
        self._post: Final = post
        self._delay: Final = delay

    def carry_out(self, effects: Sequence[Effect], key: str) -> Deferred[None]:
        # Each is begun before anything is waited for, so that they are done in order and take one round trip.
        begun: list[Deferred[None]] = []
        said: list[tuple[str, Instruction]] = []
        for number, effect in enumerate(effects):
            match effect:
                case Send(channel, content) if connection := connection_of(channel):
                    said.append((connection, Say(content)))
                    continue
            begun += self._said(said, f"{key}/{number}")
            said = []
            match effect:
                case Send(channel, content) if channel == DELAY:
                    begun.append(self._delay(Event(f"{key}/{number}", channel, content), content["delay"] / 1000))
                case Send(channel, content):
                    begun.append(self._post_to(channel, content, f"{key}/{number}"))
                case SendGroup(group, content):
                    begun.append(self._publish(group_room(group), codec.encode(content), f"{key}/{number}"))
        begun += self._said(said, f"{key}/{len(effects)}")
        return gathered(begun)

    def add(self, group: str, channel: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._add(group, channel))

    async def _add(self, group: str, channel: str) -> None:
        connection = connection_of(channel)
        assert connection is not None
        # From here on, wherever the node hears of it: it may subscribe to the group only then.
        history = await self._ready(self._relay.history(group_room(group), Newest(0)))
        await self._tell([(connection, Join(group, history.top))], None)

    def discard(self, group: str, channel: str) -> Deferred[None]:
        connection = connection_of(channel)
        assert connection is not None
        return self._tell([(connection, Leave(group))], None)

    def tell(self, connection: str, instruction: Instruction, key: str) -> Deferred[None]:
        return self._tell([(connection, instruction)], key)

    def _said(self, said: list[tuple[str, Instruction]], key: str) -> list[Deferred[None]]:
        return [self._tell(said, key)] if said else []

    def _post_to(self, channel: str, content: Mapping[str, Any], key: str) -> Deferred[None]:
        reply = content.get("reply_channel")
        connection = connection_of(reply) if isinstance(reply, str) else None
        return self._post(Event(key, channel, content), connection)

    def _publish(self, room: str, data: bytes, key: str | None) -> Deferred[None]:
        return self._ready(self._relay.publish(room, data, key if self._again else None)).addCallback(lambda _: None)

    @staticmethod
    def _ready(answer: Deferred[Any]) -> Deferred[Any]:
        return answer.addErrback(_not_ready)


def tell_nodes(relay: Relay) -> Tell:
    """Reaches clients on any node."""

    def tell(instructions: list[tuple[str, Instruction]], key: str | None) -> Deferred[None]:
        by_node: dict[str, list[tuple[str, Instruction]]] = {}
        for connection, instruction in instructions:
            by_node.setdefault(node_of(connection), []).append((connection, instruction))
        begun = [
            relay.publish(node_room(node), encode_instructions(some), key).addCallbacks(_done, _not_ready)
            for node, some in by_node.items()
        ]
        return gathered(begun)

    return tell


def tell_here(instruct: Callable[[str, Instruction], None]) -> Tell:
    """Reaches the clients of this process, where there is no other."""

    def tell(instructions: list[tuple[str, Instruction]], _: str | None) -> Deferred[None]:
        for connection, instruction in instructions:
            instruct(connection, instruction)
        return succeed(None)

    return tell


def _done(_: object) -> None:
    """It was."""


def _not_ready(failure: Any) -> None:
    failure.trap(ChatError)
    raise NotReadyError(str(failure.value)) from failure.value
