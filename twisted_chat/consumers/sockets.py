"""The clients of this node that consumers speak to: what they send becomes events, what they are told reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_chat.consumers.delivery import Tell
from twisted_chat.consumers.events import (
    CONNECT,
    DISCONNECT,
    RECEIVE,
    Event,
    Failed,
    Instruction,
    Join,
    Leave,
    Say,
    Settled,
    Unrouted,
)
from twisted_chat.consumers.inlet import Inlet, Kept
from twisted_chat.consumers.names import reply_channel
from twisted_chat.consumers.queue import Queue, QueueLimits
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Position
from twisted_chat.waiting import Signal


class Client(Protocol):
    """One client's connection, from its handshake on."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    def say(self, content: Mapping[str, Any], at: int = 0) -> None:
        """What a consumer sent to its reply channel, `at` which microsecond; 0: in this moment."""

    def join(self, group: str, since: Position) -> None:
        """It is in the group, and is given what was sent to it after that."""

    def leave(self, group: str) -> None:
        """The inverse; no harm if it is not in it."""

    def settled(self, group: str) -> None:
        """All that it was told before it was part of the group has reached it."""

    def unrouted(self) -> None:
        """Its handshake is not for any consumer."""

    def consumer_failed(self) -> None:
        """The consumer of its handshake failed."""

    def pause(self) -> None:
        """Read nothing from it until `resume`."""

    def resume(self) -> None:
        """The inverse."""

    def lost(self) -> None:
        """It was given up: its consumers have been told that it is gone. End it."""


class Sockets:
    """All of them, by the names of their connections."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        queue: Queue,
        tell: Tell,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 - frozen
    ) -> None:
        """`tell` reaches clients of this node in the way in which consumers do."""
        self._reactor: Final = reactor
        self._tell: Final = tell
        self._queue: Final = queue
        self._kept: Final = Kept(limits)
        self._clients: dict[str, tuple[Client, Inlet]] = {}
        self._ending: set[Inlet] = set()
        self._ended: Final = Signal()

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def paused(self) -> int:
        """How many clients are not read from, because the queue is full or cannot be reached."""
        return sum(inlet.paused for _, inlet in self._clients.values())

    @property
    def kept_bytes(self) -> int:
        """What clients have sent that is not in the queue yet."""
        return self._kept.bytes

    def settled(self) -> set[str]:
        """The connections that the queue knows of."""
        return {name for name, (_, inlet) in self._clients.items() if inlet.taken}

    def lost(self, connection: str) -> None:
        """This one was given up."""
        known = self._clients.get(connection)
        if known is not None:
            known[0].lost()

    # What clients do

    def check_room(self) -> None:
        """Raise `ChatError` if so much waits for the queue that nobody new is let in."""
        if self._kept.full:
            raise ChatError(Reason.TRY_AGAIN, "too much waits for the consumers to let anybody new in; try again")

    def connect(self, client: Client, handshake: Mapping[str, Any]) -> None:
        """A client is there, and waits for an answer."""
        inlet = Inlet(
            self._reactor,
            self._queue,
            client.name,
            self._kept,
            pause=client.pause,
            resume=client.resume,
            lost=client.lost,
            empty=self._empty,
        )
        self._clients[client.name] = client, inlet
        self._put(client, inlet, CONNECT, handshake)

    def receive(self, client: Client, frame: Mapping[str, Any]) -> None:
        """It sent ``{"text": …}`` or ``{"bytes": …}``."""
        known = self._clients.get(client.name)
        if known is not None:
            self._put(client, known[1], RECEIVE, {"path": client.path, **frame})

    def disconnect(self, client: Client, code: int) -> None:
        """It is gone, for a reason that a WebSocket close code says."""
        known = self._clients.pop(client.name, None)
        if known is not None:
            self._ending.add(known[1])
            self._put(client, known[1], DISCONNECT, {"path": client.path, "code": code}, last=True)

    def forget(self, client: Client) -> None:
        """It is none of ours any more, and its consumers need not be told."""
        known = self._clients.pop(client.name, None)
        if known is not None:
            known[1].close()

    def settle(self, client: Client, group: str) -> None:
        """Tell it `Settled`, after all that is on its way to it."""

        def lost(_: object) -> None:
            client.settled(group)  # then it has to do without

        self._tell([(client.name, Settled(group))], None).addErrback(lost)

    def idle(self) -> Deferred[None]:
        """Fires when the consumers of all that are gone have been told so, or the queue at least."""
        return self._ended.wait().addCallback(lambda _: self.idle()) if self._ending else succeed(None)

    def close(self) -> None:
        """Give up what could not be put into the queue."""
        for inlet in [*self._ending, *(inlet for _, inlet in self._clients.values())]:
            inlet.close()
        self._clients.clear()

    def _put(
        self, client: Client, inlet: Inlet, channel: str, content: Mapping[str, Any], *, last: bool = False
    ) -> None:
        order = inlet.next
        content = {**content, "reply_channel": reply_channel(client.name), "order": order}
        inlet.put(Event(f"{client.name}.{order}", channel, content), last=last)

    def _empty(self, inlet: Inlet) -> None:
        if inlet in self._ending:
            self._ending.discard(inlet)
            self._ended.fire()

    # What clients are told

    def instruct(self, connection: str, instruction: Instruction, at: int = 0) -> None:
        """Do what a consumer wanted `at` that microsecond, or in this moment; nothing if the client is gone."""
        known = self._clients.get(connection)
        if known is None:
            return
        client = known[0]
        with self._log.failuresHandled("a client could not be told what a consumer wants"):
            match instruction:
                case Say(content):
                    client.say(content, at)
                case Join(group, since):
                    client.join(group, since)
                case Leave(group):
                    client.leave(group)
                case Settled(group):
                    client.settled(group)
                case Unrouted():
                    client.unrouted()
                case Failed():
                    client.consumer_failed()
