"""Messages that their consumer puts off, with `ConsumeLater`."""

from __future__ import annotations

from typing import Final

from twisted_chat.consumers.events import CONNECT, DISCONNECT, RECEIVE, Event, Send
from twisted_chat.consumers.names import DELAY

RETRIES: Final = "__retries__"
"""The key of a message that says how often it was put off; the name is that of Channels."""

MOST: Final = 10
FIRST_MS: Final = 100


def put_off(event: Event) -> Send:
    """What makes it come again. Raises `ValueError`, saying why it may not."""
    if event.channel in {CONNECT, RECEIVE, DISCONNECT}:
        raise ValueError("what clients do is run in order, and cannot be put off")
    retries = event.content.get(RETRIES, 0)
    if not isinstance(retries, int) or not 0 <= retries < MOST:
        raise ValueError(f"it was put off {MOST} times, which is as often as it may")
    content = {**event.content, RETRIES: retries + 1}
    return Send(DELAY, {"channel": event.channel, "content": content, "delay": FIRST_MS * 2**retries})
