"""A client of the consumers at the edge, in memory: its handshake, its frames, its end; the consumers are the test."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.conftest import Peer
from tests.server.consumers import HANDSHAKE, Consumers, frame
from twisted_chat.consumers.events import Failed, Instruction, Join, Leave, Say, Unrouted
from twisted_chat.core.errors import ChatError, Reason


def status(peer: Peer) -> int:
    return int(peer.received().split(b" ", 2)[1])


def test_the_handshake_is_held_until_it_is_answered(consumers: Consumers) -> None:
    peer = consumers.ask("/a%20b/%C3%BC?x=%20", "Cookie: a=1\r\nX-Thing: \r\n")
    assert peer.received() == b""
    [event] = consumers.queue.events
    assert event.channel == "websocket.connect"
    assert event.content["path"] == "/a b/ü"
    assert event.content["query_string"] == b"x=%20"
    assert [b"cookie", b"a=1"] in event.content["headers"]
    assert event.content["client"] == ["192.0.2.7", 54321]
    assert event.content["server"] == ["192.0.2.1", 80]
    consumers.tell(Say({"accept": True}))
    assert peer.received().startswith(b"HTTP/1.1 101 ")


def test_a_frame_accepts_too_and_comes_behind(consumers: Consumers) -> None:
    peer = consumers.ask()
    consumers.tell(Say({"text": "hi"}))
    assert peer.received().endswith(b"\r\n\r\n\x81\x02hi")


def test_a_subprotocol_that_was_offered(consumers: Consumers) -> None:
    for chosen, expected in (("b", True), ("c", False)):
        peer = consumers.ask(headers="Sec-WebSocket-Protocol: a, b\r\n")
        consumers.tell(Say({"accept": True, "subprotocol": chosen}))
        assert (b"sec-websocket-protocol: b" in peer.received().lower()) is expected


def test_a_handshake_whose_upgrade_was_dropped_is_told_so(consumers: Consumers) -> None:
    peer = consumers.server.peer()
    peer.send(b"GET /x HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n\r\n")
    assert status(peer) == 426
    assert consumers.queue.events == []
    assert consumers.server.refusals("upgrade_missing") == 1


@pytest.mark.parametrize(
    ("instruction", "expected"), [(Say({"close": True}), 403), (Failed(), 500), (Say({"accept": False}), None)]
)
def test_a_handshake_that_is_refused(consumers: Consumers, instruction: Instruction, expected: int | None) -> None:
    peer = consumers.ask()
    consumers.tell(instruction)
    if expected is None:
        assert peer.received() == b""
        consumers.server.clock.advance(10)
        expected = 503
    assert status(peer) == expected
    assert consumers.queue.channels() == ["connect", "disconnect"]
    assert consumers.queue.events[-1].content["code"] == 1006
    assert not consumers.server.connections.open


def test_a_handshake_that_nobody_answers(consumers: Consumers) -> None:
    peer = consumers.ask()
    consumers.server.clock.advance(10)
    assert status(peer) == 503
    consumers.tell(Say({"accept": True}))
    assert peer.received() == b"", "that came too late"


def test_a_client_that_does_not_wait(consumers: Consumers) -> None:
    peer = consumers.ask()
    peer.close()
    assert consumers.queue.channels() == ["connect", "disconnect"]
    consumers.tell(Say({"accept": True}))
    assert not consumers.server.connections.open


def test_a_handshake_that_is_for_no_consumer_is_for_the_rest_of_the_site(consumers: Consumers) -> None:
    room = consumers.ask("/chat/kitchen")
    consumers.tell(Unrouted())
    assert room.received().startswith(b"HTTP/1.1 101 ")
    assert {c.session.room for c in consumers.server.connections.open} == {"kitchen"}
    nothing = consumers.ask("/nowhere")
    consumers.tell(Unrouted())
    assert status(nothing) == 404
    assert consumers.queue.channels() == ["connect", "connect"], "and nothing more of them is told"
    room.close()


def test_what_the_consumers_do_not_take_is_as_without_them(consumers: Consumers) -> None:
    consumers.paths = ("/ws/",)
    room = consumers.ask("/chat/kitchen")
    assert room.received().startswith(b"HTTP/1.1 101 ")
    assert status(consumers.ask("/nowhere")) == 404
    assert not consumers.queue.events
    room.close()


@pytest.mark.parametrize("path", ["//ws/x", "/ws//x", "/%77s/x", "/ws/%2fx", "/ws/./x", "/ws%2Fx", "/ws/cafe%CC%81"])
def test_another_spelling_of_a_path_does_not_reach_the_consumers(consumers: Consumers, path: str) -> None:
    assert status(consumers.ask(path)) == 404
    assert not consumers.queue.events


def test_only_websockets_are_taken(consumers: Consumers) -> None:
    peer = consumers.server.peer()
    peer.send(b"GET / HTTP/1.1\r\nHost: chat.example\r\n\r\n")
    assert status(peer) == 200
    assert not consumers.queue.events


def test_pages_of_others_do_not_reach_the_consumers(consumers: Consumers) -> None:
    assert status(consumers.ask(headers="Origin: https://elsewhere.example\r\n")) == 403
    assert not consumers.queue.events


def test_a_handshake_that_does_not_hold_does_not_reach_the_consumers(consumers: Consumers) -> None:
    peer = consumers.server.peer()
    handshake = HANDSHAKE.replace("Version: 13", "Version: 12")
    peer.send(f"GET /x HTTP/1.1\r\n{handshake}\r\n".encode())
    assert status(peer) == 426
    assert not consumers.queue.events


def test_frames_become_events(consumers: Consumers) -> None:
    peer = consumers.client()
    peer.send(frame("ü".encode()) + frame(b"\xff", 2))
    _, text, data = consumers.queue.events
    assert (text.content["text"], text.content["order"], text.content["path"]) == ("ü", 1, "/x")
    assert (data.content["bytes"], data.content["order"], data.channel) == (b"\xff", 2, "websocket.receive")


@pytest.mark.parametrize(
    ("end", "code"),
    [(frame(b"\x0f\xa0bye", 8), 4000), (frame(b"", 8), 1005), (None, 1006)],
)
def test_the_end_has_a_code(consumers: Consumers, end: bytes | None, code: int) -> None:
    peer = consumers.client()
    if end is not None:
        peer.send(end)
        peer.received()
    peer.close()
    assert consumers.queue.channels() == ["connect", "disconnect"]
    assert consumers.queue.events[-1].content["code"] == code


def test_a_consumer_ends_it(consumers: Consumers) -> None:
    peer = consumers.client()
    consumers.tell(Say({"text": "bye", "close": 4001}))
    consumers.tell(Say({"text": "never"}))
    assert peer.received() == b"\x81\x03bye\x88\x02\x0f\xa1"
    peer.send(frame(b"ignored") + frame(b"\x0f\xa1", 8))
    peer.received()
    peer.close()
    assert consumers.queue.channels() == ["connect", "disconnect"]
    assert consumers.queue.events[-1].content["code"] == 4001


def test_while_there_is_no_room_nothing_is_read(consumers: Consumers) -> None:
    peer = consumers.client()
    consumers.queue.full = True
    peer.send(frame(b"1"))
    assert peer.transport.producerState == "paused"
    for _ in range(5):
        consumers.server.beat()
    assert peer.transport.connected, "it cannot be heard, so it need not answer"
    consumers.queue.full = False
    consumers.queue.waiting.pop().callback(None)
    consumers.server.clock.advance(0)
    assert peer.transport.producerState == "producing"
    peer.close()


def test_what_was_read_with_it_waits_too(consumers: Consumers) -> None:
    """However much comes in one read, nothing of it is taken after the one that there is no room behind."""
    peer = consumers.client()
    sent = [b"plain", b"another", b"binary", b"", b"not plain", b"halved"]
    frames = [frame(data, 2 if data in {b"binary", b"not plain"} else 1) for data in sent]
    consumers.queue.full = True
    peer.send(b"".join(frames)[:-3])
    peer.send(frames[-1][-3:])
    assert peer.transport.producerState == "paused"
    assert consumers.queue.channels() == ["connect", "receive"]
    consumers.queue.full = False
    consumers.queue.waiting.pop().callback(None)
    consumers.server.clock.advance(0)
    contents = [event.content.get("bytes", event.content.get("text")) for event in consumers.queue.events[1:]]
    assert contents == [data if data in {b"binary", b"not plain"} else data.decode() for data in sent]
    assert peer.transport.producerState == "producing"
    peer.close()


def test_its_end_waits_behind_what_was_read(consumers: Consumers) -> None:
    peer = consumers.client()
    consumers.queue.full = True
    peer.send(frame(b"1") + frame(b"2") + frame(b"\x0f\xa0", 8))
    assert consumers.queue.channels() == ["connect", "receive"]
    consumers.queue.full = False
    consumers.queue.waiting.pop().callback(None)
    peer.received()
    peer.close()
    assert consumers.queue.channels() == ["connect", "receive", "receive", "disconnect"]
    assert consumers.queue.events[-1].content["code"] == 4000


@pytest.mark.parametrize("by", ["consumer", "server"])
def test_one_that_waits_is_ended(consumers: Consumers, by: str) -> None:
    """What it had sent before is not taken any more, but its answer to the close is."""
    peer = consumers.client()
    consumers.queue.full = True
    peer.send(frame(b"1") + frame(b"2"))
    if by == "consumer":
        consumers.tell(Say({"close": True}))
    else:
        [connection] = consumers.server.connections.open
        connection.close(ChatError(Reason.GOING_AWAY, "the server restarts"))
    code = peer.received()[2:4]
    peer.send(frame(code, 8))
    peer.close()
    assert consumers.queue.channels() == ["connect", "receive", "disconnect"]
    assert consumers.queue.events[-1].content["code"] == int.from_bytes(code)


def test_while_too_much_waits_nobody_new_is_let_in(consumers: Consumers) -> None:
    consumers.sockets._kept.bytes = consumers.sockets._kept.limits.bytes_in_all
    assert status(consumers.ask()) == 503
    assert not consumers.server.connections.open
    assert not consumers.queue.events
    consumers.sockets._kept.bytes = 0
    consumers.client().close()


def test_groups(consumers: Consumers) -> None:
    first, second = consumers.client(), consumers.client()
    one, two = consumers.queue.events
    top = consumers.top("g")
    consumers.tell(Join("g", top), one)
    consumers.tell(Join("g", top), one)
    consumers.publish("g", b'{"text":"to one"}')
    consumers.tell(Join("g", top), two)
    consumers.publish("g", b'{"text":"to both"}')
    consumers.tell(Say({"text": "after"}), one)
    assert first.received() == b"\x81\x06to one\x81\x07to both\x81\x05after"
    assert second.received() == b"\x81\x06to one\x81\x07to both", "what was sent since it was added"
    consumers.tell(Leave("g"), one)
    consumers.publish("g", b'{"text":"bye","close":true}')
    assert first.received() == b""
    assert second.received() == b"\x81\x03bye\x88\x02\x03\xe8"
    for peer in (first, second):
        peer.close()
    assert not consumers.groups.rooms


def test_a_group_that_is_joined_before_the_answer(consumers: Consumers) -> None:
    peer = consumers.ask()
    consumers.tell(Join("g", consumers.top("g")))
    consumers.publish("g", b'{"text":"early"}')
    assert not consumers.groups.rooms
    consumers.tell(Say({"accept": True}))
    assert peer.received().endswith(b"\r\n\r\n\x81\x05early")
    peer.close()


def test_the_server_stops(consumers: Consumers) -> None:
    waiting, open_ = consumers.ask("/waiting"), consumers.client()
    for connection in list(consumers.server.connections.open):
        connection.close(ChatError(Reason.GOING_AWAY, "the server restarts"))
    assert status(waiting) == 503
    assert open_.received().startswith(b"\x88")
    open_.close()
    assert sorted(consumers.queue.channels()) == ["connect", "connect", "disconnect", "disconnect"]


@pytest.mark.parametrize("text", ["x" * 65_536, "\N{GRINNING FACE}" * 10_000])
def test_what_waits_until_its_order_is_known_is_bounded_in_bytes(
    consumers: Consumers, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    settled: list[tuple[Any, str]] = []
    monkeypatch.setattr(consumers.sockets, "settle", lambda *member: settled.append(member))
    peer = consumers.client()
    consumers.tell(Join("g", consumers.top("g")))
    size, said = len(text.encode()), 100
    for _ in range(said):
        consumers.tell(Say({"text": text}))
    at_once = peer.received().count(text.encode())
    limit = consumers.server.limits.outbox_bytes
    assert limit < size * (said - at_once) + size < limit + 2 * size
    ((client, group),) = settled
    client.settled(group)
    assert peer.received().count(text.encode()) == said - at_once
    peer.close()
