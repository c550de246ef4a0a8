"""What consumers may rely on, wherever they run: one suite for the test double, the server, and its workers."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.consumers.conftest import RefusedError, Stage


@pytest.fixture
def room() -> str:
    """Of this test alone."""
    return uuid4().hex[:12]


# The handshake


def test_any_answer_accepts(stage: Stage) -> None:
    assert stage.connect("/tool?text").receive() == "this accepts too"


def test_the_message_of_the_handshake(stage: Stage) -> None:
    told = json.loads(stage.connect("/tool/a%20b/?x=1&y", Cookie="sessionid=abc; csrf=1", X_Agent="me").receive())
    assert told["path"] in {"/tool/a b/", "/tool/a%20b/"}, "the double is given it decoded"
    assert told["query"] == "x=1&y"
    assert told["order"] == 0
    assert told["channel"] == "websocket.connect"
    assert told["cookies"] == {"sessionid": "abc", "csrf": "1"}
    assert told["user-agent"] == "me"
    assert told["client"] in {"127.0.0.1", "192.0.2.1"}
    assert told["keys"] == [
        *("client", "headers", "order", "path", "query_string", "reply_channel", "root_path", "scheme", "server"),
    ]


@pytest.mark.parametrize("how", ["refuse", "deny"])
def test_a_consumer_refuses(stage: Stage, how: str) -> None:
    with pytest.raises(RefusedError) as error:
        stage.connect(f"/tool?{how}")
    assert error.value.status == 403


def test_a_consumer_that_fails_accepts_nobody(stage: Stage) -> None:
    with pytest.raises(RefusedError) as error:
        stage.connect("/tool?raise")
    assert error.value.status == 500


def test_where_no_consumer_is_there_is_nothing(stage: Stage) -> None:
    with pytest.raises(RefusedError) as error:
        stage.connect("/nowhere")
    assert error.value.status == 404


def test_without_a_consumer_of_the_handshake_it_is_accepted(stage: Stage) -> None:
    client = stage.connect("/echo")
    client.send("hello")
    assert client.receive() == "hello"


def test_hosts_that_are_not_allowed(stage: Stage) -> None:
    with pytest.raises(RefusedError) as error:
        stage.connect("/guarded", Origin="https://elsewhere.example")
    assert error.value.status == 403


# Sending


def test_text_and_bytes(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send("ü \x00 text")
    assert client.receive() == "ü \x00 text"
    client.send(b"\x00\xff\x01")
    assert client.receive() == b"\x01\xff\x00"


def test_a_consumer_that_raises_sends_nothing_and_the_connection_lives(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    for text in ("raise", "bad text", "bad close", "still here"):
        client.send(text)
    assert client.receive() == "still here"


def test_what_is_sent_immediately_is_sent(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send("raise-now")
    assert client.receive() == "sent at once"


def test_a_consumer_closes(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send("close")
    assert client.receive() == "bye"
    assert client.closed() == 1000


def test_a_consumer_closes_with_a_code(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send("close 4321")
    assert client.closed() == 4321


def test_channels_of_their_own(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send("later word")
    assert {client.receive(), client.receive()} == {"before", "word True"}


def test_channels_of_their_own_for_what_is_of_no_client(stage: Stage, room: str) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send(f"join {room}")
    assert client.receive() == "joined"
    client.send(f"tell {room} something")
    assert client.receive() == "something of None"


def test_what_is_to_be_sent_later(stage: Stage) -> None:
    client = stage.connect("/tool")
    client.receive()
    client.send("delay 60 something")
    client.send("delay-me 50 forme")
    assert {client.receive(), client.receive()} == {"something True", "forme"}


def test_what_a_client_is_told_keeps_its_order(stage: Stage, room: str) -> None:
    client = stage.connect("/tool")
    client.receive()
    for _ in range(5):
        client.send(f"order {room}")
        assert [client.receive() for _ in range(3)] == ["1", "2", "3"]


# Groups and sessions


def test_a_chat(stage: Stage, room: str) -> None:
    watcher = stage.connect(f"/watch/{room}/")
    ann = stage.connect(f"/rooms/{room}/")
    ben = stage.connect(f"/rooms/{room}")
    other = stage.connect(f"/rooms/other-{room}/")
    assert [watcher.receive(), watcher.receive()] == ["came", "came"]
    ann.send("hi")
    assert [ann.receive(), ben.receive()] == ["1: hi", "1: hi"]
    ben.leave(3456)
    assert watcher.receive() == "left with 3456"
    ann.send("alone")
    assert ann.receive() == "2: alone"
    other.send("here")
    assert other.receive() == "1: here", "and nothing of the other room"


def test_many_messages_in_order(stage: Stage, room: str) -> None:
    clients = [stage.connect(f"/rooms/{room}/") for _ in range(3)]
    for number in range(40):
        clients[0].send(str(number))
    for client in clients:
        assert [client.receive() for _ in range(40)] == [f"{number + 1}: {number}" for number in range(40)]


def test_a_group_ends_connections(stage: Stage, room: str) -> None:
    members = [stage.connect("/tool") for _ in range(3)]
    for member in members:
        member.receive()
    for member in members[:2]:
        member.send(f"join {room}")
        assert member.receive() == "joined"
    members[2].send(f"end {room}")
    for member in members[:2]:
        assert member.receive() == "the end"
        assert member.closed() == 3001
    members[2].send("still here")
    assert members[2].receive() == "still here"


# Coroutines, Deferreds, classes


def test_coroutines(stage: Stage) -> None:
    client = stage.connect("/slow")
    for number in range(1, 6):
        client.send("x")
        assert client.receive() == f"{number} x"


def test_deferreds(stage: Stage) -> None:
    client = stage.connect("/deferred")
    client.send("x")
    assert client.receive() == "in the end"


def test_a_class(stage: Stage, room: str) -> None:
    ann = stage.connect(f"/class/{room}/")
    ben = stage.connect(f"/class/{room}/")
    ann.send("one")
    ann.send(b"two")
    for client in (ann, ben):
        assert client.receive() == "1 one"
        assert client.receive() == b"two"
    ann.send("mine")
    assert ann.receive() == f"/class/{room}/ 3"
    ben.send("close")
    assert ben.closed() == 4001
    assert ann.receive() == "gone 4001"


def test_a_class_for_json(stage: Stage) -> None:
    client = stage.connect("/json")
    client.send(json.dumps({"a": [1.5, "ü"]}))
    assert {json.dumps(json.loads(client.receive())) for _ in range(2)} == {
        json.dumps({"you said": {"a": [1.5, "ü"]}}),
        json.dumps([1, None, "ü"]),
    }


def test_streams(stage: Stage, room: str) -> None:
    ann, ben = (stage.connect(f"/streams/{room}/") for _ in range(2))
    for client in (ann, ben):
        assert json.loads(client.receive()) == {"stream": "echo", "payload": {"status": "I just connected!"}}
    ann.send('{"stream": "nobody", "payload": {}}')
    ann.send(json.dumps({"stream": "echo", "payload": {"a": 1}}))
    answer = {"original_message": {"a": 1}, "name": room}
    assert json.loads(ann.receive()) == {"stream": "echo", "payload": answer}
    ann.send(json.dumps({"stream": "others", "payload": {"b": "ü"}}))
    for client in (ann, ben):
        assert json.loads(client.receive()) == {"stream": "others", "payload": {"b": "ü"}}
    ben.leave(3000)
    assert json.loads(ann.receive()) == {"stream": "echo", "payload": {"left": 3000}}
