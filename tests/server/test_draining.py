"""Sending everyone away: spread over a window, told when to come back, waited for, and cut off in the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_chat.server import draining
from twisted_chat.server.draining import GRACE, PACE, RESTART, drain

CLOSE = b"\x88\x82\0\0\0\0\x03\xe9"
"""A client's answer to a closing handshake with 1001."""


def start(server: Any, longest: float) -> list[None]:
    """Drains `server`; the result is not empty when that is over."""
    over: list[None] = []
    Deferred.fromCoroutine(drain(server.connections, server.clock, longest)).addCallback(over.append)
    return over


def test_an_empty_server_is_drained_at_once(server: Any) -> None:
    before = list(server.clock.getDelayedCalls())
    assert start(server, 60.0) == [None]
    assert server.clock.getDelayedCalls() == before


def test_everyone_is_told_when_to_come_back(server: Any) -> None:
    socket, stream = server.connect(), server.stream()
    stream.received()
    over = start(server, 60.0)
    server.clock.advance(PACE * 2)
    socket.heard()
    assert socket.close_code == 1001
    found = re.fullmatch(r"going_away: the server restarts; retry=(\d+\.\d)", socket.close_reason)
    assert found is not None
    assert RESTART <= float(found[1]) <= RESTART + 1.0
    ended = stream.received()
    assert re.search(rb"retry: \d+\n", ended)
    assert ended.endswith(b"0\r\n\r\n"), "the answer is complete"
    assert over == [], "the socket has not answered yet"
    socket.send(CLOSE)
    socket.received()
    assert over == [None]
    assert not socket.transport.aborted


def test_who_leaves_by_itself_is_not_waited_for(server: Any) -> None:
    sockets = [server.connect() for _ in range(3)]
    over = start(server, 60.0)
    for socket in sockets:
        assert over == []
        socket.close()
    assert over == [None]


def test_who_does_not_answer_is_cut_off(make_server: Callable[..., Any]) -> None:
    # Autobahn's own limit for a closing handshake is shorter; a client that takes no bytes gets round it.
    server = make_server()
    sockets = [server.connect(), server.connect()]
    for connection in server.connections.open:
        connection.edge.say_goodbye = lambda _: None
    over = start(server, 60.0)
    server.clock.advance(PACE * 2 + GRACE - 0.01)
    assert over == []
    server.clock.advance(0.02)
    assert over == [None]
    assert all(socket.transport.aborted for socket in sockets)
    assert not server.connections.open


@pytest.mark.parametrize(("count", "longest", "window"), [(50, 60.0, 50 * PACE), (50, 0.05, 0.05), (50, 0.0, 0.0)])
def test_they_are_sent_away_one_after_the_other(server: Any, count: int, longest: float, window: float) -> None:
    sockets = [server.connect() for _ in range(count)]
    start(server, longest)

    def sent_away() -> int:
        for socket in sockets:
            socket.heard()
        return sum(socket.close_code is not None for socket in sockets)

    if window:
        server.clock.advance(window / 2)
        assert count * 0.4 <= sent_away() <= count * 0.6
    server.clock.advance(window / 2)
    assert sent_away() == count


def test_they_come_back_over_as_long_a_time(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "PACE", 0.1)
    sockets = [server.connect() for _ in range(100)]
    start(server, 60.0)
    server.clock.advance(10.0)
    waits = []
    for socket in sockets:
        socket.heard()
        waits.append(float(socket.close_reason.rpartition("=")[2]))
    assert min(waits) >= RESTART
    assert max(waits) <= RESTART + 10.0
    assert max(waits) - min(waits) > 5.0, "not all at once"
