"""The run of one consumer: what it sends is kept until it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_chat.consumers import codec
from twisted_chat.consumers.events import Effect, Event, Instruction
from twisted_chat.consumers.session import ChannelSession
from twisted_chat.waiting import gather


class Layer(Protocol):
    """What carries out what consumers cause. To be called on the reactor's thread.

    The Deferreds fail with `NotReadyError` when that cannot be done now.
    """

    def carry_out(self, effects: Sequence[Effect], key: str) -> Deferred[None]:
        """All of them, in order. The same `key` again: only what was not done the first time."""

    def add(self, group: str, channel: str) -> Deferred[None]:
        """Make a client's channel a member of a group; it is given what is sent from now on."""

    def discard(self, group: str, channel: str) -> Deferred[None]:
        """The inverse."""

    def tell(self, connection: str, instruction: Instruction, key: str) -> Deferred[None]:
        """Have the node of a connection do something; once for each `key`."""


Wait = Callable[[Callable[[], Deferred[None]]], None]
"""Calls a function on the reactor's thread and waits for what it returns, in the way of the thread that asks."""


class Run:
    """One call of one consumer.

    wait
        how to do something that cannot be put off until it returns; on the reactor's thread it is only begun
    """

    def __init__(self, event: Event, session: bytes | None, layer: Layer) -> None:
        self.event = event
        self.effects: list[Effect] = []
        self.wait: Wait = self.begin
        self.began: list[Deferred[None]] = []
        """What was begun, and has to be waited for."""
        self.began_at = 0.0
        """When its consumer was called, by the clock of the runner."""
        self._layer = layer
        self._session_data = session
        self._session: ChannelSession | None = None
        self._immediate = 0

    def cause(self, effect: Effect, *, immediately: bool) -> None:
        codec.encode(effect.content)  # what cannot be sent fails where it is said
        if not immediately:
            self.effects.append(effect)
            return
        self._immediate += 1
        key = f"{self.event.id}!{self._immediate}"
        self.wait(lambda: self._layer.carry_out([effect], key))

    def add(self, group: str, channel: str) -> None:
        self.wait(lambda: self._layer.add(group, channel))

    def discard(self, group: str, channel: str) -> None:
        self.wait(lambda: self._layer.discard(group, channel))

    def begin(self, what: Callable[[], Deferred[None]]) -> None:
        """For the reactor's own thread, which cannot be held."""
        self.began.append(what())

    async def begun(self) -> None:
        """Waits for all that was begun; raises what one of them failed with."""
        begun, self.began = self.began, []
        await gather(begun)

    @property
    def session(self) -> ChannelSession:
        """What consumers keep for as long as the connection lives."""
        if self._session is None:
            self._session = ChannelSession(self._session_data)
        return self._session

    def changed_session(self) -> bytes | None:
        """The session as it is to be kept; None: as it was."""
        return self._session.changed() if self._session is not None else None


current: ContextVar[Run | None] = ContextVar("the run of a consumer", default=None)


class Outside:
    """Where code sends from that no consumer called, such as a thread that one has started: everything at once."""

    def __init__(self, layer: Layer, wait: Wait, key: Callable[[], str]) -> None:
        self._layer = layer
        self._wait = wait
        self._key = key

    def cause(self, effect: Effect, *, immediately: bool) -> None:
        codec.encode(effect.content)
        self._wait(lambda: self._layer.carry_out([effect], self._key()))

    def add(self, group: str, channel: str) -> None:
        self._wait(lambda: self._layer.add(group, channel))

    def discard(self, group: str, channel: str) -> None:
        self._wait(lambda: self._layer.discard(group, channel))


class Sender(Protocol):
    """What `Channel` and `Group` send through."""

    def cause(self, effect: Effect, *, immediately: bool) -> None: ...
    def add(self, group: str, channel: str) -> None: ...
    def discard(self, group: str, channel: str) -> None: ...


_outside: list[Outside] = []
_elsewhere: list[Sender] = []


def open_elsewhere(sender: Sender) -> None:
    """From now on this is where a process sends in which nothing runs consumers."""
    _elsewhere[:] = [sender]


def open_outside(outside: Outside) -> Callable[[], None]:
    """From now on this is where code of this process sends that no consumer called; returns what ends that."""
    _outside.append(outside)
    return lambda: _outside.remove(outside)


def sender() -> Sender:
    """What whoever asks sends through. Raises `RuntimeError` where nothing can be sent."""
    run = current.get()
    if run is not None:
        return run
    if _outside:
        return _outside[-1]
    if _elsewhere:
        return _elsewhere[-1]
    raise RuntimeError(
        "no consumers run in this process, so nothing can be sent from here before "
        'twisted_chat.consumers.send_through("http://127.0.0.1:8080", API_KEY) has said which server is to do it'
    )


def current_run(what: str) -> Run:
    """The run that is under way. Raises `RuntimeError` outside of one."""
    run = current.get()
    if run is None:
        raise RuntimeError(f"{what} works only within a consumer, while it runs")
    return run
