from __future__ import annotations

from twisted.internet.task import Clock

from twisted_chat.server.http.http2.keepalive import KeepAlive
from twisted_chat.server.http.limits import HttpLimits

LIMITS = HttpLimits(idle_timeout=60, ping_interval=30)


class Connection:
    def __init__(self) -> None:
        self.clock = Clock()
        self.open = True
        self.calls: list[str] = []
        self.taking = False
        self.keepalive = KeepAlive(self.clock, LIMITS, self)
        self.keepalive.start()

    def busy(self) -> bool:
        return self.open

    def check_streams(self, now: float) -> None:
        assert now == self.clock.seconds()

    def takes(self) -> bool:
        return self.taking

    def ask(self) -> None:
        self.calls.append("ask")

    def idle(self) -> None:
        self.calls.append("idle")

    def dead(self) -> None:
        self.calls.append("dead")


def test_silent_client_is_asked_and_then_dead() -> None:
    connection = Connection()
    connection.clock.pump([30])
    assert connection.calls == []
    connection.clock.pump([30])
    assert connection.calls == ["ask"]
    connection.clock.pump([30])
    assert connection.calls == ["ask", "dead"]


def test_a_silent_client_is_not_dead_while_it_takes_what_the_question_waits_behind() -> None:
    connection = Connection()
    connection.clock.pump([30, 30])
    connection.taking = True
    connection.clock.pump([30] * 9)
    assert "dead" not in connection.calls
    connection.taking = False
    connection.clock.pump([30, 30])
    assert connection.calls[-1] == "dead"


def test_client_that_answers_is_asked_again_and_again() -> None:
    connection = Connection()
    for _ in range(10):
        connection.clock.advance(30)
        if connection.calls and connection.calls[-1] == "ask":
            connection.keepalive.heard()
    assert set(connection.calls) == {"ask"}


def test_without_streams_it_is_idle_whatever_is_heard() -> None:
    connection = Connection()
    connection.clock.advance(30)
    connection.open = False
    connection.keepalive.last_stream_ended()
    for _ in range(2):
        assert connection.calls == []
        connection.keepalive.heard()
        connection.clock.advance(30)
    assert connection.calls == ["idle"]


def test_stopped_it_looks_no_more() -> None:
    connection = Connection()
    connection.keepalive.stop()
    connection.keepalive.stop()
    assert connection.clock.getDelayedCalls() == []
