"""The WebSocket of a client that consumers speak to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted_chat.consumers.group_member import CONSUMER_FRAMES, ConsumerFrames
from twisted_chat.server.connection import Connection
from twisted_chat.server.websocket import ChatSocket
from twisted_chat.wire.formats import Format


class Receiver(Protocol):
    """What is told of frames, and of the end."""

    def opened(self) -> None: ...
    def frame(self, payload: bytes, *, binary: bool) -> None: ...
    def closed(self, code: int) -> None: ...


ABNORMAL = 1006
"""The code of a connection that ended without a closing handshake (RFC 6455, section 7.1.5)."""

NO_STATUS = 1005
"""The code of a close frame without one."""


class ConsumerSocket(ChatSocket):
    """Frames go to its receiver as they are."""

    format: Format = CONSUMER_FRAMES
    receiver: Receiver
    subprotocol: str | None = None

    @property
    def frames(self) -> ConsumerFrames:
        """Its `format`, which is one of those of consumers."""
        assert isinstance(self.format, ConsumerFrames)
        return self.format

    def adopt(self, connection: Connection, receiver: Receiver) -> None:
        """From now on it is this connection's."""
        self.connection = connection
        self.receiver = receiver

    def choose_subprotocol(self, offered: Sequence[str]) -> str | None:
        """Return the one that the consumer chose when it accepted, before the upgrade."""
        return self.subprotocol if self.subprotocol in offered else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            self.receiver.frame(payload, binary=isBinary)
        except Exception:  # noqa: BLE001 - the last place where it can be told
            self._failed()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        super().onClose(wasClean, code, reason)
        self.receiver.closed(code or (NO_STATUS if wasClean else ABNORMAL))

    def hang_up(self, code: int) -> None:
        """End the connection in good order."""
        self.sendCloseFrame(code, None)

    def _begin(self) -> None:
        self.receiver.opened()
