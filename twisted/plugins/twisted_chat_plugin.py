"""`twistd chat`. Strings only: twistd imports this file to list commands, and must not load the server for it."""

from twisted.application.service import ServiceMaker

chat = ServiceMaker(
    "twisted_chat",
    "twisted_chat.service",
    "Realtime rooms: WebSocket, event streams, history and a chat page.",
    "chat",
)
