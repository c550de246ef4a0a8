"""What a process knows that is one of several: its number, its sockets, and how it speaks with the supervisor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.config import Config
from twisted_chat.life import LifeSigns
from twisted_chat.processes.messages import Lines, Message, decode, encode

SIGN_SECONDS: Final = 2.0
"""Seconds between two signs of life of a process."""

VARIABLE: Final = "CHAT_PROCESS"
"""Where in the environment a process finds what it is. A relay may have a password, and only its user sees that."""

TO_SUPERVISOR: Final = 3
FROM_SUPERVISOR: Final = 4
SIGNS: Final = 5
FIRST_SOCKET: Final = 6
"""Descriptors that a process is started with."""


@dataclass(frozen=True, slots=True)
class Process:
    """One of several.

    number
        from 1 on
    port, relay
        of the configuration of the supervisor: all processes have the same, whatever a file says when one begins again
    """

    number: int
    port: tuple[str, ...]
    relay: tuple[str, ...]

    @property
    def descriptors(self) -> range:
        """The sockets, in the order of the ports."""
        return range(FIRST_SOCKET, FIRST_SOCKET + len(self.port))

    def variable(self) -> str:
        """As text, for the environment."""
        return json.dumps({"number": self.number, "port": self.port, "relay": self.relay})

    def configured(self, config: Config) -> Config:
        """What holds in this process."""
        return replace(config, port=self.port, relay=self.relay)

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> Process | None:
        """Takes it out of `environ`. None in a process that is alone."""
        text = environ.pop(VARIABLE, None)
        if text is None:
            return None
        said = json.loads(text)
        return cls(said["number"], tuple(said["port"]), tuple(said["relay"]))


def life_signs(reactor: Any) -> LifeSigns:
    """Return what tells the supervisor that this process lives, by a pipe of its own: a thread writes to it."""
    return LifeSigns(reactor, SIGN_SECONDS, _give_sign)


def _give_sign() -> None:
    with suppress(OSError):  # the supervisor is gone, which the link learns too
        os.write(SIGNS, b".")


class Served(Protocol):
    """What the supervisor may ask for."""

    def report(self) -> Deferred[Message]:
        """How it is."""

    def reload(self) -> None:
        """Read again what can change."""

    def hurry(self) -> None:
        """Stop without waiting for clients."""


class Link(TwistedProtocol):
    """The supervisor, as a process sees it. It is told what a service manager is told, too."""

    _log = Logger()

    def __init__(self, reactor: Any, connect: Callable[[Link], object] | None = None) -> None:
        self._reactor: Final = reactor
        self._connect: Final = connect or self._by_pipes
        self._lines: Final = Lines()
        self._orders: dict[str, Callable[[], Any]] = {}
        self._stopping = False
        self._reloading = False

    def serve(self, served: Served) -> None:
        """Begin to take orders."""
        self._orders = {
            "report": served.report,
            "reload": served.reload,
            "stop": self._stop,
            "hurry": served.hurry,
        }
        self._connect(self)
        self._say("started")

    def _by_pipes(self, protocol: Link) -> object:
        from twisted.internet.stdio import StandardIO

        return StandardIO(protocol, FROM_SUPERVISOR, TO_SUPERVISOR, self._reactor)  # type: ignore[call-arg]  # that of Windows takes fewer

    # Said to it

    def ready(self, status: str) -> None:
        """Clients are served; or it is done reloading, which the answer to that order says."""
        if not self._reloading:
            self._say("ready")
        self._reloading = False

    def stopping(self, within: float = 0.0) -> None:
        """The ports are about to be closed."""
        self._stopping = True
        self._say("stopping")

    def reloading(self) -> None:
        """It gave that order."""
        self._reloading = True

    def failed(self, message: str) -> None:
        """The server cannot start."""
        self._say("failed", message=message)

    def _say(self, what: str, **more: str) -> None:
        self._write({"say": what, **more})

    def _write(self, message: Message) -> None:
        if self.transport is not None:
            self.transport.write(encode(message))

    # Said by it

    def dataReceived(self, data: bytes) -> None:
        for line in self._lines.add(data):
            self._obey(decode(line))

    def _obey(self, order: Message) -> None:
        act = self._orders[order["do"]]
        done = maybeDeferred(act)
        done.addErrback(self._failed, order["do"])
        done.addCallback(lambda answer: self._write({"order": order["order"], **(answer or {})}))

    def _failed(self, failure: Failure, what: str) -> None:
        self._log.failure("what the supervisor asked for went wrong: {what}", failure, what=what)

    def _stop(self) -> None:
        self._stopping = True
        with suppress(ReactorNotRunning):  # a signal was faster
            self._reactor.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        if not self._stopping:
            self._log.warn("the process that started this one is gone; this one stops too")
            self._stop()
