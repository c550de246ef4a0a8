"""The life of a connection, whatever its wire: what ends it, and that it ends once."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import fail

from twisted_chat.auth import SigningKey, TokenKeys, make_token
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits
from twisted_chat.core.publication import Position, Publication
from twisted_chat.server.connection import EXPIRY_CHECK_SECONDS, REPLIES_HELD, REPLIES_HELD_BYTES
from twisted_chat.server.http.waiting import CHECK_SECONDS

WALL_CLOCK = 1_795_000_000.0


def only(server: Any) -> Any:
    """The one connection that there is."""
    (connection,) = server.connections.open
    return connection


def metric(server: Any, name: str, **labels: str) -> float:
    value: float = server.metrics.registry.get_sample_value(f"twisted_chat_{name}", labels)
    return value


def test_a_connection_is_closed_once(server: Any) -> None:
    socket = server.connect()
    connection = only(server)
    connection.close(ChatError(Reason.TRY_AGAIN, "first"))
    connection.close(ChatError(Reason.INTERNAL, "second"))
    connection.refuse(ChatError(Reason.BAD_JSON, "third"))
    assert socket.heard() == []
    assert (socket.close_code, socket.close_reason) == (1013, "try_again: first")
    assert not server.hub.rooms, "it is no member any more"
    assert server.refusals("bad_json") == 0.0


def test_a_connection_ends_once(server: Any) -> None:
    socket = server.connect()
    connection = only(server)
    socket.close()
    connection.ended("again")
    assert server.connections.count.total == 0
    assert metric(server, "disconnects_total", reason="connection_lost") == 1.0


def test_why_it_ended_is_why_we_ended_it(server: Any) -> None:
    socket = server.connect()
    only(server).close(ChatError(Reason.TOO_SLOW, "too much waits"))
    socket.close()
    assert metric(server, "disconnects_total", reason="too_slow") == 1.0


@pytest.mark.parametrize(
    ("frame", "close", "reason"),
    [
        ((b"x" * 60_000, 1), 1009, "message_too_long"),
        ((b"\xff", 1), 1007, "protocol_error"),
        ((b"", 3), 1002, "protocol_error"),
    ],
)
def test_frames_that_are_wrong_are_counted_and_not_taken_for_a_farewell(
    server: Any, frame: tuple[bytes, int], close: int, reason: str
) -> None:
    socket = server.connect()
    socket.say(*frame)
    assert socket.heard() == []
    assert socket.close_code == close
    assert not server.hub.rooms, "it is no member any more"
    socket.say(close.to_bytes(2, "big"), 8)
    socket.received()
    assert not server.connections.open
    assert metric(server, "disconnects_total", reason=reason) == 1.0
    assert server.refusals(reason) == 1.0


def test_all_ends_are_counted_and_told(server: Any) -> None:
    empty: list[int] = []
    one, other = server.connect(), server.stream()
    server.connections.on_empty = lambda: empty.append(1)
    one.close()
    assert empty == []
    other.close()
    assert empty == [1]


def test_names_are_unique_among_nodes(server: Any) -> None:
    names = {server.connections.name() for _ in range(100)}
    assert len(names) == 100
    (node,) = {name.rpartition("-")[0] for name in names}
    assert len(node) == 16


def test_what_waits_for_slow_clients_is_measured(server: Any) -> None:
    one, other = server.connect(), server.connect()
    for socket in (one, other):
        socket.transport.producer.pauseProducing()
    server.post({"handle": "ann", "message": "hi"})
    server.clock.advance(0)
    assert server.connections.waiting_bytes.measure() > 2 * len("hi")
    for socket in (one, other):
        socket.transport.producer.resumeProducing()
    assert server.connections.waiting_bytes.measure() == 0


@pytest.mark.parametrize("transport", ["connect", "stream"])
def test_what_a_transport_holds_is_measured_too_and_the_largest_sent_away(
    make_server: Callable[..., Any], transport: str
) -> None:
    server = make_server(limits=Limits(waiting_bytes=4_000))
    clients = [getattr(server, transport)(address=f"192.0.2.{number}") for number in range(4)]
    for number, client in enumerate(clients):
        client.transport.dataBuffer = b"x" * (900 + 50 * number)  # as a socket's
        client.transport.producer.pauseProducing()
    assert server.connections.waiting_bytes.measure() == 3_900
    clients[0].transport.dataBuffer += b"x" * 50
    clients[0].transport.producer.pauseProducing()
    server.clock.advance(CHECK_SECONDS)
    staying = {connection.address for connection in server.connections.open if connection._reason is None}
    assert staying == {"192.0.2.0", "192.0.2.1", "192.0.2.2"}, "one address had more than its share"
    assert server.refusals("too_slow") == 1.0


@pytest.mark.parametrize("transport", ["connect", "stream"])
def test_one_that_is_sent_away_and_does_not_go_is_cut_off(make_server: Callable[..., Any], transport: str) -> None:
    server = make_server(limits=Limits(waiting_bytes=4_000))
    client = getattr(server, transport)()
    connection = only(server)
    client.transport.dataBuffer = b"x" * 2_000
    assert connection.give_up() == 2_000
    server.clock.advance(0)
    if transport == "connect":
        assert not client.transport.aborted, "it may be reading"
        assert connection.give_up() == 2_000
    server.clock.advance(0)
    assert client.transport.aborted
    assert server.refusals("too_slow") == 1.0


@pytest.mark.parametrize("transport", ["connect", "stream"])
def test_one_that_takes_nothing_for_long_is_sent_away(make_server: Callable[..., Any], transport: str) -> None:
    server = make_server(limits=Limits(ping_interval=100.0, ping_timeout=1_000.0))
    moving, still = (getattr(server, transport)() for _ in range(2))
    for client in (moving, still):
        client.transport.dataBuffer = b"x" * 2_000
        client.transport.producer.pauseProducing()
    for beat in range(5):
        for connection in list(server.connections.open):
            connection.beat()
        server.clock.advance(0)
        assert server.refusals("too_slow") == (1.0 if beat >= 3 else 0.0)
        moving.transport.dataBuffer = moving.transport.dataBuffer[1:]


def test_answers_to_what_was_said_twice_wait_for_history_within_bounds(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.connect()
    connection = only(server)
    monkeypatch.setattr(server.hub, "repeat", lambda *_: False)  # it still catches up
    for _ in range(2 * REPLIES_HELD):
        connection._repeat(Publication(Position("e", 1, 1), 0, b"x" * 8_192))
    assert sum(len(each.data) for each in connection._held) == REPLIES_HELD_BYTES


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(secrets.token_hex(32))
    (tmp_path / "key").chmod(0o600)
    return tmp_path / "key"


def test_who_leaves_before_its_token_expires_leaves_nothing_behind(make_server: Callable[..., Any], key: Path) -> None:
    server = make_server(tokens=TokenKeys.from_file(key))
    token = make_token(SigningKey.from_file(key), "u1", now=WALL_CLOCK, expires_in=60)
    before = len(server.clock.getDelayedCalls())
    socket = server.connect(f"/chat/lobby?token={token}")
    socket.close()
    server.clock.advance(0)
    assert len(server.clock.getDelayedCalls()) == before


@pytest.mark.parametrize("transport", ["socket", "stream"])
def test_a_token_that_expired_meanwhile_ends_it_at_once(
    make_server: Callable[..., Any], key: Path, transport: str
) -> None:
    server = make_server(tokens=TokenKeys.from_file(key))
    token = make_token(SigningKey.from_file(key), "u1", now=WALL_CLOCK, expires_in=60)
    path = f"/chat/lobby?token={token}"
    client = server.connect(path) if transport == "socket" else server.stream(path)
    server.clock.advance(59)
    assert server.connections.open
    server.clock.advance(2)
    assert b"token_expired" in client.received()
    client.close()
    assert metric(server, "disconnects_total", reason="token_expired") == 1.0


def test_a_token_expires_by_the_wall_clock_when_that_is_set(make_server: Callable[..., Any], key: Path) -> None:
    server = make_server(tokens=TokenKeys.from_file(key))
    token = make_token(SigningKey.from_file(key), "u1", now=WALL_CLOCK, expires_in=600)
    client = server.connect(f"/chat/lobby?token={token}")
    server.clock_step = -3_600.0
    server.clock.advance(700)
    assert server.connections.open, "it has 59 minutes left, as for whoever comes now"
    server.clock_step = 0.0
    server.clock.advance(EXPIRY_CHECK_SECONDS)
    assert b"token_expired" in client.received()
    client.close()


def test_a_user_is_disconnected_though_the_clock_was_set_back(make_server: Callable[..., Any], key: Path) -> None:
    server = make_server(tokens=TokenKeys.from_file(key))
    token = make_token(SigningKey.from_file(key), "u1", now=WALL_CLOCK, expires_in=600)
    client = server.connect(f"/chat/lobby?token={token}")
    server.clock.advance(10)
    server.connections.close_user("u1", 10.5, ChatError(Reason.DISCONNECTED, "older ones"))
    assert server.connections.open
    server.connections.close_user("u1", 9.5, ChatError(Reason.DISCONNECTED, "this one"))
    assert b"disconnected" in client.received()
    client.close()


# Mistakes of ours


def test_a_failure_to_publish_is_told_and_logged(
    server: Any, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    socket = server.connect()
    monkeypatch.setattr(server.relay, "publish", lambda *_: fail(ZeroDivisionError("of ours")))
    socket.say({"handle": "ann", "message": "hi", "key": "k1"})
    (told,) = socket.heard()
    assert told["error"] == {"code": "internal", "message": "the server failed on this message", "key": "k1"}
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert server.connections.open, "and the connection lives"


def test_a_failure_to_tell_who_is_there(server: Any, monkeypatch: pytest.MonkeyPatch, logged_failures: Any) -> None:
    monkeypatch.setattr(server.relay, "present", lambda *_: fail(ZeroDivisionError("of ours")))
    server.connect("/chat/lobby?events=presence")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    monkeypatch.setattr(server.relay, "present", lambda *_: fail(ChatError(Reason.TRY_AGAIN, "busy")))
    socket = server.connect("/chat/lobby?events=presence")
    assert socket.heard() == []
    assert len(server.connections.open) == 2
