"""A WebSocket that talks to itself."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest


class EchoSocket(WebSocketServerProtocol):
    """Echoes, and writes down what happens to it."""

    tcpNoDelay = True
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []
        self.asked: ConnectionRequest | None = None

    def onConnect(self, request: ConnectionRequest) -> str | None:
        self.asked = request
        if "denied" in request.path:
            raise ConnectionDeny(403, "not you")
        return request.protocols[0] if request.protocols else None

    def onOpen(self) -> None:
        self.seen.append(("open",))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.seen.append(("message", payload))
        self.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.seen.append(("close", wasClean, code))

    def _closeConnection(self, abort: bool = False) -> None:
        if abort and not self.wasClean:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()
