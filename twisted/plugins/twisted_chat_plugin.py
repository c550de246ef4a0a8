"""`twistd chat` and `twistd chat-worker`. Strings only: twistd reads this to list commands, and must load nothing."""

from twisted.application.service import ServiceMaker

chat = ServiceMaker(
    "twisted_chat",
    "twisted_chat.chat",
    "Realtime rooms: WebSocket, event streams, history and a chat page.",
    "chat",
)

worker = ServiceMaker(
    "twisted_chat worker",
    "twisted_chat.worker",
    "Runs the consumers of servers that leave that to workers.",
    "chat-worker",
)
