"""A room's members over HTTP/2: what is refused, counted and closed is the same as on HTTP/1.1, and nobody waits for
another's window."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.errors import ErrorCodes
from websockets.frames import Close, Frame, Opcode

from tests.server.http.http2.conftest import Client, OpenSocket, Socket
from twisted_chat.auth import Origins, SigningKey, TokenKeys, make_token
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.core.session import REFUSALS
from twisted_chat.server.http.http2.pacing import HIGH_WATER
from twisted_chat.server.http.uptake import Uptake

VERSION = ("sec-websocket-version", "13")
QUICK = Rate(1_000.0, 10_000)

MakeServer = Callable[..., Any]
Connect = Callable[..., Client]


@pytest.fixture
def connect(make_client: Connect) -> Iterator[Connect]:
    """``connect(server, window)``: an HTTP/2 connection to a server in memory."""
    clients: list[Client] = []

    def connect(server: Any, window: int | None = None) -> Client:
        client = make_client(server.site, server.clock, window)
        clients.append(client)
        client.exchange()
        return client

    yield connect
    for client in clients:
        if client.switch in client.switch._site.connections:
            client.lose()


def texts(frames: list[Frame]) -> list[str]:
    said = [json.loads(bytes(frame.data)) for frame in frames if frame.opcode is Opcode.TEXT]
    return [fields["message"] for fields in said if "message" in fields]


def channel_of(client: Client) -> Any:
    return client.switch._receiver


# Rates


def test_all_that_is_said_on_one_connection_has_one_rate(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    server = make_server(limits=Limits(messages_per_connection=Rate(1.0, 4)))
    client = connect(server)
    body = json.dumps({"handle": "ann", "message": "hi"}).encode()

    def post(of: Client) -> bytes:
        return of.head(of.request("POST", "/chat/lobby", ("content-type", "application/json"), body=body))[b":status"]

    assert [post(client) for _ in range(2)] == [b"201"] * 2
    sockets = [open_socket(client, "/chat/lobby") for _ in range(3)]
    for socket in sockets:
        socket.say('{"handle": "ann", "message": "hi"}')
    assert server.refusals("rate_limited") == 1
    assert post(client) == b"429"
    assert post(connect(server)) == b"201"


def test_what_is_refused_on_one_connection_is_counted_together(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    server = make_server()
    client = connect(server)
    first, second = open_socket(client, "/chat/lobby"), open_socket(client, "/chat/lobby")
    for _ in range(REFUSALS.burst):
        first.say("{")
    assert first.protocol.close_rcvd is None
    second.say("{")
    second.exchange()
    assert second.protocol.close_rcvd is not None
    assert second.protocol.close_rcvd.code == 1013


def test_requests_beyond_the_rate_of_an_address_wait_and_then_the_connection_ends(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(limits=Limits(requests_per_address=Rate(0.2, 2)))
    client = connect(server)
    streams = [client.request("GET", "/static/chat.css") for _ in range(4)]
    assert [client.head(stream)[b":status"] for stream in streams[:3]] == [b"200", b"200", b"429"]
    assert client.error(streams[2]) == "rate_limited"
    assert not client.ended(streams[3])
    assert server.site.waiting() == 1
    server.clock.advance(5)
    client.exchange()
    assert client.head(streams[3])[b":status"] == b"200"
    for _ in range(2):
        client.request("GET", "/")
    assert server.site.waiting() == 2
    client.request("GET", "/")
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM
    assert server.site.waiting() == 0
    assert server.refusals("rate_limited") == 2


def test_heads_that_are_refused_count_and_then_end_the_connection(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(limits=Limits(requests_per_address=Rate(1.0, 2)))
    client = connect(server)
    for _ in range(2):
        assert client.head(client.request("GET", "/", ("x", "y" * 20_000)))[b":status"] == b"431"
    client.request("GET", "/", ("x", "y" * 20_000))
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM


def test_a_stream_that_is_held_when_it_is_reset_is_forgotten(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(limits=Limits(requests_per_address=Rate(1.0, 1)))
    client = connect(server)
    for _ in range(2):
        client.request("GET", "/")
    held = client.request("GET", "/")
    assert server.site.waiting() == 1
    client.h2.reset_stream(held)
    client.exchange()
    assert server.site.waiting() == 0


# Windows


def test_a_member_whose_window_is_shut_is_bounded_and_sent_away(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    limits = Limits(outbox_bytes=100_000, messages_per_connection=QUICK, messages_per_address=QUICK)
    server = make_server(limits=limits)
    client = connect(server, 2_000)
    slow = open_socket(client, "/chat/lobby")
    ann = server.connect()
    (member,) = [each for each in server.connections.open if each.edge.transport is not ann.transport]
    most = held = 0
    while not server.refusals("too_slow"):
        ann.say({"handle": "ann", "message": "x" * 1_000})
        ann.received()
        client.exchange()
        most, held = max(most, member.waiting_bytes()), max(held, channel_of(client).backlog.size)
        assert server.connections.waiting_bytes.measure() == member.waiting_bytes(), "what waits counts once"
    assert 90_000 < most <= 100_000
    assert HIGH_WATER < held < HIGH_WATER + 2_000
    assert len(client.body(slow.stream)) == 2_000
    # It cannot even be told; its stream is taken from it when it had the time to make room.
    assert client.reset_code(slow.stream) is None
    client.clock.advance(6)
    client.exchange()
    assert client.reset_code(slow.stream) == ErrorCodes.CANCEL
    assert channel_of(client).backlog.size == 0
    assert len(server.connections.open) == 1
    # The connection and what else is on it lives.
    stream = client.request("GET", "/chat/other")
    assert client.ended(stream)


def test_a_member_that_makes_room_in_time_learns_why(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    limits = Limits(outbox_bytes=10_000, messages_per_connection=QUICK, messages_per_address=QUICK)
    server = make_server(limits=limits)
    client = connect(server, 2_000)
    slow = open_socket(client, "/chat/lobby")
    ann = server.connect()
    while not server.refusals("too_slow"):
        ann.say({"handle": "ann", "message": "x" * 1_000})
        ann.received()
    client.h2.increment_flow_control_window(1 << 20, slow.stream)
    client.h2.increment_flow_control_window(1 << 20)
    client.exchange()
    *_, close = slow.exchange()
    assert Close.parse(bytes(close.data)).code == 3008
    slow.exchange()
    assert client.ended(slow.stream)
    assert client.reset_code(slow.stream) is None


def test_one_shut_window_does_not_stall_its_siblings(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    server = make_server(limits=Limits(messages_per_connection=QUICK, messages_per_address=QUICK))
    client = connect(server, 10_000)
    client.h2.increment_flow_control_window(1 << 24)
    stalled, reading = open_socket(client, "/chat/lobby"), open_socket(client, "/chat/lobby")
    events = client.request("GET", "/chat/lobby", ("accept", "text/event-stream"))
    ann = server.connect()
    heard: list[str] = []
    for number in range(300):
        ann.say({"handle": "ann", "message": f"{number:0500}"})
        ann.received()
        client.h2.increment_flow_control_window(1_000, reading.stream)
        client.h2.increment_flow_control_window(1_000, events)
        heard += texts(reading.exchange())
        # At once, not some turns later.
        assert len(heard) == number + 1
        assert client.body(events).count(b"data: ") == number + 1
    assert [int(text) for text in heard] == list(range(300))
    assert client.body(client.request("GET", "/chat/other"))
    assert len(client.body(stalled.stream)) == 10_000


def test_what_waited_arrives_in_order_when_the_window_opens(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    server = make_server(limits=Limits(messages_per_connection=QUICK, messages_per_address=QUICK))
    client = connect(server, 1_000)
    slow = open_socket(client, "/chat/lobby")
    ann = server.connect()
    for number in range(300):
        ann.say({"handle": "ann", "message": f"{number:01000}"})
        ann.received()
    heard = texts(slow.exchange())
    assert len(heard) == 0
    while len(heard) < 300:
        client.h2.increment_flow_control_window(5_000, slow.stream)
        client.h2.increment_flow_control_window(5_000)
        heard += texts(slow.exchange())
    assert [int(text) for text in heard] == list(range(300))


def test_the_connection_s_window_holds_all_and_lets_all_go_on(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    server = make_server(limits=Limits(messages_per_connection=QUICK, messages_per_address=QUICK))
    client = connect(server, 1 << 20)
    sockets = [open_socket(client, "/chat/lobby") for _ in range(5)]
    ann = server.connect()
    for number in range(100):
        ann.say({"handle": "ann", "message": f"{number:01000}"})
        ann.received()
    heard = [texts(socket.exchange()) for socket in sockets]
    assert sum(map(len, heard)) < 65_535 / 1_000
    # None of the five has it all.
    assert max(map(len, heard)) < 20
    client.h2.increment_flow_control_window(1 << 20)
    client.exchange()
    for socket, before in zip(sockets, heard, strict=True):
        assert [int(text) for text in before + texts(socket.exchange())] == list(range(100))


def test_silent_members_live_on(server: Any, connect: Connect, open_socket: OpenSocket) -> None:
    client = connect(server)
    socket = open_socket(client, "/chat/lobby")
    events = client.request("GET", "/chat/lobby", ("accept", "text/event-stream"))
    for _ in range(360):
        server.clock.advance(10)
        socket.exchange()
    server.post({"handle": "ann", "message": "still there?"})
    assert texts(socket.exchange()) == ["still there?"]
    assert b"still there?" in client.body(events)
    assert client.goaway_code() is None


# The same as on HTTP/1.1

Handshake = tuple[str, tuple[tuple[str, str], ...]]

REFUSED: dict[str, Handshake] = {
    "no token": ("/chat/lobby", ()),
    "a wrong token": ("/chat/lobby?token=a.b.c", ()),
    "a foreign origin": ("/chat/lobby", (("origin", "https://evil.example"),)),
    "a bad room": ("/chat/a/../b", ()),
    "no room": ("/nothing", ()),
    "a bad query": ("/chat/lobby?since=what", ()),
}


@pytest.mark.parametrize(("path", "fields"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_are_the_same(
    make_server: MakeServer, connect: Connect, tmp_path: Any, path: str, fields: tuple[tuple[str, str], ...]
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    key.chmod(0o600)
    server = make_server(tokens=TokenKeys.from_file(key), origins=Origins())
    headers = "".join(f"{name}: {value}\r\n" for name, value in fields)
    over_http1 = server.connect(path, headers).answer
    counted = server.refusals(over_http1.error)
    client = connect(server)
    stream = client.connect(path, VERSION, *fields)
    assert over_http1.status >= 400
    assert client.head(stream)[b":status"] == b"%d" % over_http1.status
    assert client.body(stream) == over_http1.body
    assert client.ended(stream)
    assert server.refusals(over_http1.error) == 2 * counted


def test_members_on_one_connection_are_counted_one_by_one(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket
) -> None:
    server = make_server(limits=Limits(connections_per_address=3))
    client = connect(server)
    sockets = [open_socket(client, "/chat/lobby") for _ in range(3)]
    fourth = client.connect("/chat/lobby", VERSION)
    assert client.head(fourth)[b":status"] == b"429"
    value = server.metrics.registry.get_sample_value
    assert value("twisted_chat_connections", {"transport": "websocket"}) == 3
    sockets[0].protocol.send_close(1000)
    sockets[0].exchange()
    assert value("twisted_chat_connections", {"transport": "websocket"}) == 2
    assert open_socket(client, "/chat/lobby").say('{"handle": "ann", "message": "in"}')


def masked(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return bytes([opcode | (0x80 if final else 0)]) + length + b"\0\0\0\0" + payload


PROVOKED = {
    "leaving": (masked(8, b"\x03\xe8bye"), 1000),
    "leaving without a word": (masked(8, b""), 1000),
    "text that is not UTF-8": (masked(1, b"\xff\xfe"), 1007),
    "a message that is too long": (b"\x81\xff" + (10**9).to_bytes(8) + b"\0\0\0\0", 1009),
    "a frame that is not masked": (b"\x81\x02hi", 1002),
    "a reserved opcode": (masked(3, b""), 1002),
    "a reserved bit": (masked(0x41, b"hi"), 1002),
    "a ping in pieces": (masked(9, b"", final=False), 1002),
    "commands that are refused, again and again": (masked(1, b"{}") * 300, 1013),
}


@pytest.mark.parametrize(("sent", "code"), PROVOKED.values(), ids=PROVOKED.keys())
def test_close_codes_are_the_same(
    server: Any, connect: Connect, open_socket: OpenSocket, sent: bytes, code: int
) -> None:
    over_http1 = server.connect()
    over_http1.send(sent)
    over_http1.heard()
    client = connect(server)
    socket = open_socket(client, "/chat/lobby")
    client.send(socket.stream, sent)
    closed = last_close(socket)
    assert over_http1.close_code in (code, None)
    assert (over_http1.close_code or 1000) == (closed.code if closed.code != 1005 else 1000) == code
    if over_http1.close_code is not None:
        assert closed.reason == over_http1.close_reason
    server.clock.advance(6)
    client.exchange()
    # Whoever closed: the stream has ended, and the connection has not.
    assert client.ended(socket.stream) or client.reset_code(socket.stream) is not None
    assert client.goaway_code() is None
    assert server.connections.open == set()


def last_close(socket: Socket) -> Close:
    """The close frame that came; what was sent by hand did not go through the client's own protocol."""
    body = socket.client.body(socket.stream)
    at = 0
    while body[at] & 15 != 8:
        length, head = (body[at + 1], 2) if body[at + 1] < 126 else (int.from_bytes(body[at + 2 : at + 4]), 4)
        at += head + length
    return Close.parse(body[at + 2 : at + 2 + body[at + 1]])


@pytest.mark.parametrize("reason", [Reason.GOING_AWAY, Reason.DISCONNECTED, Reason.TOKEN_EXPIRED, Reason.INTERNAL])
def test_orderly_closes_by_the_server_end_the_stream_cleanly(
    server: Any, connect: Connect, open_socket: OpenSocket, reason: Reason
) -> None:
    client = connect(server)
    socket = open_socket(client, "/chat/lobby")
    (member,) = server.connections.open
    member.close(ChatError(reason, "because"))
    (close,) = socket.exchange()
    assert Close.parse(bytes(close.data)) == Close(reason.close, f"{reason.code}: because")
    socket.exchange()
    assert client.ended(socket.stream)
    server.clock.advance(6)
    client.exchange()
    assert client.reset_code(socket.stream) in (None, ErrorCodes.NO_ERROR)
    assert server.connections.open == set()


def test_a_token_that_expires_ends_the_stream_only(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket, tmp_path: Any
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    key.chmod(0o600)
    server = make_server(tokens=TokenKeys.from_file(key))
    short, long = (
        make_token(SigningKey.from_file(key), "u1", handle="ann", expires_in=seconds, now=server.wall_clock())
        for seconds in (30, 300)
    )
    client = connect(server)
    first = open_socket(client, f"/chat/lobby?token={short}")
    second = open_socket(client, f"/chat/lobby?token={long}")
    server.clock.advance(30)
    *_, close = first.exchange()
    assert Close.parse(bytes(close.data)).code == 1008
    assert texts(second.say('{"message": "on"}')) == ["on"]


# What they send


@pytest.mark.parametrize("opcode", [9, 10])
def test_a_member_that_floods_is_held_back_and_ended_beside_its_siblings(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket, opcode: int
) -> None:
    server = make_server()
    client = connect(server)
    flooding, honest = open_socket(client, "/chat/lobby"), open_socket(client, "/chat/lobby")
    flood = bytes((0x80 | opcode, 0x80, 0, 0, 0, 0))
    sent, began = 0, server.clock.seconds()
    while not server.refusals("rate_limited"):
        room = min(client.h2.local_flow_control_window(flooding.stream), 16_384) // len(flood)
        if room:
            client.send(flooding.stream, flood * room)
            sent += room
        server.clock.advance(0.1)
        client.exchange()
        assert server.clock.seconds() - began < 60
    seconds = server.clock.seconds() - began
    rate, window = server.limits.frames_of_connection, 65_535 // len(flood)
    assert sent <= rate.burst + rate.per_second * seconds + 2 * window, "what it may send ahead is its window"
    assert server.connections.throttled() == 0, "it is not read from any more"
    assert texts(honest.say('{"handle": "ann", "message": "hi"}')) == ["hi"]
    client.clock.advance(6)
    client.exchange()
    assert len(server.connections.open) == 1


# Slow readers


@pytest.mark.parametrize("window", [20, 100_000], ids=["shut", "open"])
def test_a_socket_that_takes_what_its_ping_waits_behind_is_not_given_up(
    make_server: MakeServer, connect: Connect, open_socket: OpenSocket, window: int
) -> None:
    server = make_server()
    client = connect(server, window)
    slow = open_socket(client, "/chat/lobby")
    taken = 0
    transport: Any = client.transport
    transport.uptake = lambda: Uptake(taken, pending=True)
    server.post({"handle": "ann", "message": "x" * 1_000})
    client.exchange()
    assert client.reset_code(slow.stream) is None
    for _ in range(5):
        server.beat(1)
        taken += 1  # also by other streams
        server.beat(round(server.limits.ping_interval) - 1)
        client.exchange()
    # With its window shut the stream itself takes nothing.
    assert server.refusals("ping_timeout") == (window == 20)
    server.beat(round(server.limits.ping_timeout))
    client.exchange()
    assert server.refusals("ping_timeout") == 1
