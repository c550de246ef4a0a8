"""The test double is held to `test_behaviour`; here is what only it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.sync.client import connect

from twisted_chat.consumers import Channel, Message, route
from twisted_chat.testing import Consumers, running_server

APPLICATION = """
from twisted_chat.consumers import route

def echo(message):
    message.reply_channel.send({"text": message["text"]})

channel_routing = [route("websocket.receive", echo)]
"""


def echo(message: Message) -> None:
    message.reply_channel.send({"text": message["text"]})  # type: ignore[union-attr]


def test_what_a_client_knows() -> None:
    def consumer(message: Message) -> None:
        client = message.reply_channel
        assert client is not None
        if message["text"] == "end":
            client.send({"close": 4000})
        elif message["text"] == "post":
            Channel("elsewhere").send({"x": (1, b"2")})
        else:
            client.send({"text": message["text"]})

    consumers = Consumers([route("websocket.receive", consumer, path="/a")])
    client = consumers.connect("/a")
    assert (client.connected, client.accepted, client.close_code) == (True, True, None)
    client.send(json={"a": 1})
    assert client.receive_json() == {"a": 1}
    with pytest.raises(AssertionError, match="nothing was sent"):
        client.receive()
    client.send("post")
    assert consumers.posted == [("elsewhere", {"x": [1, b"2"]})]
    client.send("end")
    assert (client.connected, client.close_code) == (False, 4000)
    with pytest.raises(AssertionError, match="not connected"):
        client.send("more")
    client.disconnect()
    with pytest.raises(LookupError, match="no consumer is for a WebSocket at /b"):
        consumers.connect("/b")


def test_a_server_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    with (
        running_server("application:channel_routing", "--threads", "1", "--compression", directory=tmp_path) as url,
        connect(f"{url}/x", proxy=None) as socket,
    ):
        assert socket.protocol.extensions, "messages are compressed"
        for text in ("hi", "hello " * 1000):
            socket.send(text)
            assert socket.recv(30) == text


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"--routing: application:nothing: ModuleNotFoundError"),
        running_server("application:nothing", directory=tmp_path),
    ):
        pytest.fail("it started")
