"""Who is served in a turn of the reactor, and who waits for the next one."""

from __future__ import annotations

from functools import partial

import pytest
from twisted.internet.task import Clock

from tests.conftest import LoggedFailures
from twisted_chat.server.http.connection import HttpConnection
from twisted_chat.server.http.fairness import TURN_REQUESTS, TURN_SECONDS, FairTurns
from twisted_chat.server.http.rotation import Work


class Requests:
    """Asks for turns, and notes who was served."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = FairTurns(self.clock)
        self.served: list[str] = []
        self.seconds = 0.0
        """What each request takes."""
        self._connections: dict[str, HttpConnection] = {}

    def read(self, name: str) -> None:
        """Something came on this connection."""
        self._connections.setdefault(name, HttpConnection()).fresh = True

    def request(self, name: str) -> Work | None:
        """One of the connection `name`, whose first letter is its address."""
        run = partial(self._serve, name)
        return self.turns.take(self._connections[name], name[0], run)

    def _serve(self, name: str) -> None:
        self.served.append(name)
        self.clock.rightNow += self.seconds

    def turn(self) -> list[str]:
        """Who is served in the next turn of the reactor."""
        self.served.clear()
        calls = self.clock.getDelayedCalls()
        for call in calls:
            self.clock.calls.remove(call)  # type: ignore[arg-type]
            call.called = 1  # type: ignore[attr-defined]
            call.func()  # type: ignore[attr-defined]
        return list(self.served)


@pytest.fixture
def requests() -> Requests:
    return Requests()


def test_the_first_request_of_a_connection_does_not_wait(requests: Requests) -> None:
    for name in ("a1", "a2", "b1"):
        requests.read(name)
        assert requests.request(name) is None
    assert requests.served == ["a1", "a2", "b1"]
    assert requests.clock.getDelayedCalls() == []


def test_further_ones_of_the_same_read_wait_and_take_turns_with_others(requests: Requests) -> None:
    requests.read("a1")
    requests.read("b1")
    for name in ("a1", "a1", "a1", "b1", "b1"):
        requests.request(name)
    assert requests.served == ["a1", "b1"]
    assert len(requests.turns) == 3
    assert requests.turn() == ["a1", "b1", "a1"]
    assert len(requests.turns) == 0


def test_what_came_meanwhile_does_not_overtake_what_waits_of_its_address(requests: Requests) -> None:
    requests.read("a1")
    requests.request("a1")
    requests.request("a1")
    requests.read("a2")
    requests.request("a2")
    requests.read("b1")
    requests.request("b1")
    assert requests.served == ["a1", "b1"]
    assert requests.turn() == ["a1", "a2"]


def test_a_turn_serves_so_many_connections_at_once_and_the_next_one_again(requests: Requests) -> None:
    for turn in range(2):
        for number in range(TURN_REQUESTS + 1):
            requests.read(f"{chr(200 + number)}{turn}")
            requests.request(f"{chr(200 + number)}{turn}")
        assert len(requests.served) == TURN_REQUESTS
        assert len(requests.turn()) == 1
        requests.served.clear()


def test_requests_here_and_there_need_no_call_each(requests: Requests) -> None:
    scheduled = 0
    for number in range(10 * TURN_REQUESTS):
        requests.read("a1")
        assert requests.request("a1") is None, number
        scheduled += len(requests.clock.getDelayedCalls())
        requests.turn()
    assert scheduled <= 20


def test_a_turn_takes_a_bounded_time(requests: Requests) -> None:
    requests.read("a1")
    for _ in range(100):
        requests.request("a1")
    requests.seconds = TURN_SECONDS / 4
    assert len(requests.turn()) == 4
    requests.seconds = 10.0
    assert len(requests.turn()) == 1
    requests.seconds = 0.0
    assert len(requests.turn()) == TURN_REQUESTS


def test_a_clock_that_is_set_back_does_not_make_a_turn_long(requests: Requests) -> None:
    requests.read("a1")
    for _ in range(100):
        requests.request("a1")
    requests.seconds = -3600.0
    assert len(requests.turn()) == TURN_REQUESTS


def test_forgotten_work_is_not_done(requests: Requests) -> None:
    requests.read("a1")
    waiting = [requests.request("a1") for _ in range(3)]
    assert waiting[0] is None
    assert waiting[1] is not None
    requests.turns.forget(waiting[1])
    requests.turns.forget(waiting[1])
    assert requests.turn() == ["a1"]
    assert requests.turn() == []


def test_what_fails_does_not_keep_others_from_their_turn(requests: Requests, logged_failures: LoggedFailures) -> None:
    connection = HttpConnection()
    requests.turns.later(connection, "x", lambda: 1 // 0)  # type: ignore[arg-type]
    requests.read("a1")
    requests.request("a1")
    requests.request("a1")
    assert requests.turn() == ["a1"]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
