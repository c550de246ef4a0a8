"""Consumers that want to be called later, with the same message."""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs, formatEvent

from twisted_chat.consumers import Channel, ConsumeLater, Message
from twisted_chat.consumers.retries import FIRST_MS, MOST, RETRIES
from twisted_chat.testing import Consumers


def test_it_is_called_again_with_the_same_message() -> None:
    seen: list[dict[str, object]] = []

    def impatient(message: Message) -> None:
        seen.append(dict(message.content))
        Channel("other").send({"call": len(seen)})
        if len(seen) < 3:
            raise ConsumeLater

    consumers = Consumers({"mine": impatient})
    consumers.send("mine", {"a": b"x"})
    for _ in range(MOST):
        consumers.advance(1)
    assert seen == [{"a": b"x"}, {"a": b"x", RETRIES: 1}, {"a": b"x", RETRIES: 2}]
    assert [content for channel, content in consumers.posted if channel == "other"] == [{"call": 3}], "as if it raised"


def test_it_is_not_called_for_ever_and_each_time_later() -> None:
    calls: list[int] = []

    def never(message: Message) -> None:
        calls.append(message.get(RETRIES, 0))
        raise ConsumeLater

    consumers = Consumers({"mine": never})
    consumers.send("mine", {})
    with capturedLogs() as logs:
        for number in range(MOST):
            consumers.advance(FIRST_MS * 2**number / 1000 - 0.05)
            assert calls == list(range(number + 1))
            consumers.advance(0.05)
        consumers.advance(1_000_000)
    assert calls == list(range(MOST + 1))
    assert "put off 10 times" in "".join(map(str, map(formatEvent, logs)))


@pytest.mark.parametrize("retries", [-1, "1", None])
def test_who_counts_wrong_is_not_called_again(retries: object) -> None:
    def never(message: Message) -> None:
        raise ConsumeLater

    consumers = Consumers({"mine": never})
    consumers.send("mine", {RETRIES: retries})
    assert not consumers.posted


def test_what_clients_do_is_not_put_off() -> None:
    def never(message: Message) -> None:
        raise ConsumeLater

    consumers = Consumers({"websocket.receive": never})
    client = consumers.connect()
    with capturedLogs() as logs:
        client.send("x")
    assert not consumers.posted
    assert "run in order" in "".join(map(str, map(formatEvent, logs)))
