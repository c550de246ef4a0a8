"""What clients do wrong fills no log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from twisted_chat.consumers import JsonWebsocketConsumer, Message
from twisted_chat.consumers.complaints import EVERY
from twisted_chat.consumers.delivery import Delivery
from twisted_chat.consumers.events import RECEIVE, Event
from twisted_chat.consumers.routing import Router
from twisted_chat.consumers.runner import Outcome, Runner
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.testing import Consumers


class NoThreads:
    """What would run in one runs here."""

    def call(self, function: Callable[[], Any]) -> Deferred[Any]:
        return maybeDeferred(function)

    def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        begin()


class Numbers(JsonWebsocketConsumer):
    async def receive(self, content: object = None, **kwargs: object) -> None:  # type: ignore[override]  # as in Channels
        self.send(content)


def test_bad_frames_make_one_line_without_a_traceback() -> None:
    clock = Clock()
    runner = Runner(Router([Numbers.as_route()]), NoThreads(), clock=clock.seconds)
    # Nothing is sent, so nothing carries it.
    unused: Any = fail
    layer = Delivery(MemoryRelay(clock, HistoryLimits()), unused, unused, unused)

    def send(**content: object) -> None:
        event = Event("a-1.1", RECEIVE, {"reply_channel": "websocket.send!a-1", **content})
        outcomes: list[Outcome] = []
        Deferred.fromCoroutine(runner.run(event, None, layer)).addCallback(outcomes.append)
        assert [outcome.result for outcome in outcomes] == ["bad_frame"]
        assert not outcomes[0].effects

    with capturedLogs() as logged:
        send(text="my secret")
        send(bytes=b"\x00")
        send(text="[" * 100_000)
    [line] = logged
    assert line["log_level"] is LogLevel.warn
    assert line.get("log_failure") is None
    said = formatEvent(line)
    assert "event a-1.1 is dropped, and 0 others" in said
    assert "this consumer takes JSON, and what came is none: Expecting value" in said
    assert "secret" not in said

    clock.advance(EVERY)
    with capturedLogs() as logged:
        send(bytes=b"\x00")
        send(bytes=b"\x00")
    [line] = logged
    said = "2 others since the last line like this: this consumer takes JSON in text frames, and a binary frame came"
    assert said in formatEvent(line)


def test_an_application_may_answer_what_is_no_json() -> None:
    class Kind(Numbers):
        def raw_receive(self, message: Message, **kwargs: object) -> object:
            try:
                return super().raw_receive(message, **kwargs)
            except ValueError:
                self.close(4400)
                return succeed(None)

    client = Consumers([Kind.as_route()]).connect()
    client.send("1")
    assert client.receive_json() == 1
    client.send("{")
    assert client.close_code == 4400
