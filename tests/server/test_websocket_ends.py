"""How room sockets end: by their clients, by us, and when something of ours fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from twisted_chat.auth import SigningKey, TokenKeys, make_token
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Publication

MakeServer = Callable[..., Any]
WALL_CLOCK = 1_795_000_000.0


def test_a_clients_close_is_answered(server: Any) -> None:
    ann = server.connect()
    ann.say(b"\x03\xe8", opcode=8)
    ann.heard()
    assert ann.close_code == 1000
    ann.received()
    assert ann.transport.disconnecting
    assert not ann.transport.aborted, "an abort would be an unclean end to a browser"
    assert not server.connections.open


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_clients_close_code_is_echoed(server: Any, code: int) -> None:
    ann = server.connect()
    ann.say(code.to_bytes(2, "big") + b"bye", opcode=8)
    ann.heard()
    assert (ann.close_code, ann.close_reason) == (code, "bye")


def test_a_client_that_never_answers_our_close_is_aborted(server: Any) -> None:
    ann = server.connect()
    (connection,) = server.connections.open
    connection.close(ChatError(Reason.GOING_AWAY, "retry=1.0"))
    ann.heard()
    assert (ann.close_code, ann.close_reason) == (1001, "going_away: retry=1.0")
    server.clock.advance(6)
    assert ann.transport.aborted
    assert not server.connections.open


def test_what_was_said_before_the_end_arrives_before_it(server: Any) -> None:
    ann = server.connect()
    server.post({"handle": "bob", "message": "last words"})
    (connection,) = server.connections.open
    connection.close(ChatError(Reason.GOING_AWAY, "retry=1.0"))
    opcodes = [opcode for opcode, _ in ann.frames()]
    assert opcodes == [1, 8]


def test_a_token_that_expires_ends_the_connection(make_server: MakeServer, tmp_path: Any) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    key.chmod(0o600)
    server = make_server(tokens=TokenKeys.from_file(key))
    token = make_token(SigningKey.from_file(key), "u1", handle="ann", expires_in=30, now=WALL_CLOCK)
    ann = server.connect(f"/chat/lobby?token={token}&events=ready")
    assert ann.heard()[0]["handle"] == "ann"
    ann.say({"message": "hi"})
    assert ann.messages() == ["hi"]
    server.clock.advance(30)
    ann.heard()
    assert ann.close_code == 1008
    assert ann.close_reason.startswith("token_expired: ")


def test_a_reason_that_is_too_long_for_a_close_frame_is_cut(server: Any) -> None:
    ann = server.connect()
    (connection,) = server.connections.open
    connection.close(ChatError(Reason.GOING_AWAY, "ñ" * 200))
    ann.heard()
    assert len(ann.close_reason.encode()) <= 123
    assert ann.close_reason.endswith("ñ")


def test_every_room_is_gone_when_its_last_member_is(server: Any) -> None:
    sockets = [server.connect("/chat/a"), server.connect("/chat/a"), server.connect("/chat/b")]
    assert set(server.hub.rooms) == {"a", "b"}
    for socket in sockets:
        socket.close()
    assert server.hub.rooms == {}
    assert server.connections.count.total == 0


# When we fail


def test_an_exception_in_a_command_ends_that_connection_and_is_logged(
    server: Any, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    ann, bob = server.connect(), server.connect()
    monkeypatch.setattr(server.hub, "publish", broken)
    ann.say({"handle": "ann", "message": "hi"})
    ann.heard()
    assert ann.close_code == 1011
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    monkeypatch.undo()
    bob.say({"handle": "bob", "message": "hi"})
    assert bob.messages() == ["hi"]


def test_an_exception_while_joining_leaves_no_zombie(
    server: Any, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server.hub, "join", broken)
    ann = server.connect()
    ann.heard()
    assert ann.close_code == 1011
    server.clock.advance(6)
    assert not server.connections.open
    assert logged_failures.flush(ZeroDivisionError)


def test_a_relay_that_refuses_is_said_with_the_key(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> Deferred[Publication]:
        return fail(ChatError(Reason.STORAGE_FULL, "the disk is full"))

    ann = server.connect()
    monkeypatch.setattr(server.relay, "publish", full)
    ann.say({"handle": "ann", "message": "hi", "key": "k"})
    assert ann.heard() == [{"error": {"code": "storage_full", "message": "the disk is full", "key": "k"}}]
    assert server.ask("GET", "/chat/lobby").json["messages"] == []
