"""Who is present in which room, on all nodes.

Each node keeps a name for itself among the living, and says again and again that it lives. What it knows of its own
members is what counts: whatever did not reach Redis, or may not have, is said again as a whole. The members of a node
that has fallen silent are taken away by the others.

A node that was silent for too long, say because Redis was away, cannot know whether that has begun. It takes a new name
and enters its members under that one; what was under the old name goes away like that of any dead node.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.relay.redis.clock import RedisClock
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.scripts import HEARTBEAT, PRESENCE, Call
from twisted_chat.waiting import gather

BEAT: Final = 5.0
"""Seconds between two signs of life."""
DEAD: Final = 20.0
"""Seconds of silence after which a node counts as dead."""
AT_ONCE: Final = 200
"""Rooms that are put in order at a time."""


class Presence:
    """This node's members, and how Redis is told of them.

    call, execute
        a script, a command; both fail while there is no link
    failed
        is told what Redis has against it
    """

    _log = Logger()

    def __init__(
        self,
        names: Names,
        call: Callable[[Call], Deferred[Any]],
        execute: Callable[..., Deferred[Any]],
        seconds: Callable[[], float],
        clock: RedisClock,
        failed: Callable[[Failure], None],
    ) -> None:
        self.node = _name()
        self._names: Final = names
        self._call = call
        self._execute = execute
        self._seconds = seconds
        self._clock = clock
        self._failed = failed
        self._rooms: dict[str, dict[str, str]] = {}
        self._unsure: dict[str, None] = {}
        """Rooms of which Redis may believe something else."""
        self._former: list[bytes] = []
        """Names that we have given up, and whose rooms are still to be cleared."""
        self._registered = False
        self._up_since: float | None = None
        self._recognised = False
        """Whether we are known to be alive on this link, so that what we say now is not taken away again."""
        self._working = False

    # What the relay is asked for

    def enter(self, room: str, member: str, handle: str) -> None:
        members = self._rooms.setdefault(room, {})
        if members.get(member) != handle:
            members[member] = handle
            # Each time: the others may have taken us for dead and cleared the room, which we learn later.
            self._send(room, self._execute, "SADD", self._names.rooms_key(self.node), _text(room))
            self._send(room, self._call, self._change(self.node, room, [_text(member), b"+" + _text(handle)]))

    def leave(self, room: str, member: str) -> None:
        members = self._rooms.get(room)
        if members is None or members.pop(member, None) is None:
            return
        self._send(room, self._call, self._change(self.node, room, [_text(member), b"-"]))
        if not members:
            del self._rooms[room]
            self._send(room, self._execute, "SREM", self._names.rooms_key(self.node), _text(room))

    async def present(self, room: str) -> tuple[str, ...]:
        """The handles, in the order in which they came."""
        handles = await self._execute("ZRANGE", self._names.handles_key(room), 0, -1)
        return tuple(handle.decode("utf-8", "surrogatepass") for handle in handles)

    # Life

    def up(self) -> None:
        """There is a link."""
        self._up_since = self._seconds()
        self.beat()

    def down(self) -> None:
        """There is none."""
        self._up_since = None
        self._recognised = False

    def beat(self) -> None:
        """Say that we live. To be called every `BEAT` seconds."""
        if self._up_since is not None:
            beat = Call(HEARTBEAT, (self._names.nodes_key,), (self.node, int(DEAD * 1000), int(not self._registered)))
            self._call(beat).addCallback(self._answered, self.node).addErrback(self._failed)

    async def close(self) -> None:
        """All our members are gone."""
        self.down()
        rooms, self._rooms = [*self._rooms, *self._unsure], {}
        for begin in range(0, len(rooms), AT_ONCE):
            await self._put_in_order(self.node, rooms[begin : begin + AT_ONCE])
        await self._execute("DEL", self._names.rooms_key(self.node))
        await self._execute("ZREM", self._names.nodes_key, self.node)

    def _answered(self, reply: tuple[int, list[bytes], list[bytes]], node: bytes) -> None:
        living, dead, (seconds, microseconds) = reply
        self._clock.read(int(seconds) + int(microseconds) / 1e6)
        if node != self.node or self._up_since is None:
            return  # it was asked under another name, or on another link
        if not living:
            self._rename()
            self.beat()
            return
        self._registered = self._recognised = True
        # When Redis was away all seem dead, until they had the time to say that they live.
        patient = self._seconds() - self._up_since >= DEAD
        if not self._working:
            self._working = True
            work = Deferred.fromCoroutine(self._work(dead if patient else []))
            work.addErrback(self._failed).addBoth(self._worked)

    def _rename(self) -> None:
        self._log.info("this node was not heard of for {seconds:g} seconds: it enters its rooms anew", seconds=DEAD)
        # What was said while that was not known may stand behind what the others have cleared.
        self._former.append(self.node)
        self._execute("ZADD", self._names.nodes_key, 0, self.node).addErrback(self._failed)
        self.node, self._registered, self._recognised = _name(), False, False
        self._unsure.update(dict.fromkeys(self._rooms))

    async def _work(self, dead: Iterable[bytes]) -> None:
        while self._unsure:
            await self._settle(list(self._unsure)[:AT_ONCE])
        while self._former:
            await self._bury(self._former[0])
            del self._former[0]
        for node in dead:
            await self._bury(node)

    async def _settle(self, rooms: list[str]) -> None:
        """Say again what may not have been heard."""
        for room in rooms:
            del self._unsure[room]
        try:
            await self._put_in_order(self.node, rooms)
        except BaseException:
            self._unsure.update(dict.fromkeys(rooms))
            raise

    async def _bury(self, node: bytes) -> None:
        """Take away what a dead node has left behind. Others do the same: each begins somewhere else."""
        while names := await self._execute("SRANDMEMBER", self._names.rooms_key(node), AT_ONCE):
            await self._put_in_order(node, [name.decode("utf-8", "surrogatepass") for name in names])
        await self._execute("ZREM", self._names.nodes_key, node)

    async def _put_in_order(self, node: bytes, rooms: list[str]) -> None:
        """Make the members that a node has in these rooms those that we know of: none, if it is another one."""
        asked = []
        for room in rooms:
            members = self._rooms.get(room, {}) if node == self.node else {}
            pairs = [part for member, handle in members.items() for part in (_text(member), b"+" + _text(handle))]
            if members:
                asked.append(self._execute("SADD", self._names.rooms_key(node), _text(room)))
            asked.append(self._call(self._change(node, room, pairs, whole=True)))
            if not members:
                asked.append(self._execute("SREM", self._names.rooms_key(node), _text(room)))
        await gather(asked)

    def _change(self, node: bytes, room: str, pairs: list[bytes], *, whole: bool = False) -> Call:
        names = self._names
        keys = (names.members_key(room, node), names.counts_key(room), names.handles_key(room))
        return Call(PRESENCE, keys, (names.channel(room), int(whole), *pairs))

    def _send(self, room: str, send: Callable[..., Deferred[Any]], *what: Any) -> None:
        if not self._recognised:
            self._unsure[room] = None
        elif room not in self._unsure:
            send(*what).addErrback(self._lost, room)

    def _lost(self, failure: Failure, room: str) -> None:
        self._unsure[room] = None
        self._failed(failure)

    def _worked(self, _: object) -> None:
        self._working = False


def _name() -> bytes:
    return secrets.token_hex(8).encode()


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
