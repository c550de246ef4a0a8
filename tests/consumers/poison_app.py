"""An application one of whose messages takes its worker down."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from twisted_chat.consumers import Message, channel_session, route


def ws_connect(message: Message) -> None:
    if message["query_string"] == b"die":
        _die(message)
    message.reply_channel.send({"accept": True})  # type: ignore[union-attr]  # as people write it


@channel_session
def ws_receive(message: Message) -> None:
    session: Any = message.channel_session
    text = message["text"]
    if text.startswith("die"):
        _die(message)
    if text == "slow":
        time.sleep(1)
    session["seen"] = [*session.get("seen", []), text]
    message.reply_channel.send({"text": " ".join(session["seen"])})  # type: ignore[union-attr]


@channel_session
def ws_disconnect(message: Message) -> None:
    _write_down(f"left after {' '.join(message.channel_session.get('seen', []))}")


def _die(message: Message) -> None:
    """Until there is a file that stands for a mended worker."""
    if os.path.exists(os.environ["POISON_CURED"]):  # noqa: PTH110 - nothing else is imported
        _write_down(f"survived {message.content.get('text', 'connect')}")
        return
    _write_down("died")
    os.kill(os.getpid(), signal.SIGKILL)


def _write_down(text: str) -> None:
    with open(os.environ["POISON_LOG"], "a", encoding="ascii") as log:  # noqa: PTH123 - one write, which appends
        log.write(f"{text}\n")


channel_routing = [
    route("websocket.connect", ws_connect),
    route("websocket.receive", ws_receive),
    route("websocket.disconnect", ws_disconnect),
]
