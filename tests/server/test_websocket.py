"""The room socket over HTTP/1.1, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_chat.core.limits import Limits, Rate
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.server.connection import REPLIES_HELD
from twisted_chat.server.http.uptake import Uptake
from twisted_chat.server.websocket import RoomSocket

MakeServer = Callable[..., Any]
WALL_CLOCK = 1_795_000_000.0
ALL_EVENTS = "events=presence,typing,ready"


def names(frames: list[dict[str, Any]]) -> list[str]:
    """What kinds of frames these are."""
    return [frame.get("event") or ("error" if "error" in frame else "message") for frame in frames]


# What the page that we must serve unchanged relies on


def test_a_message_goes_to_everyone_and_its_author(server: Any) -> None:
    ann, bob, elsewhere = server.connect(), server.connect(), server.connect("/chat/elsewhere")
    ann.say({"handle": "ann", "message": "hi"})
    (to_ann,), (to_bob,) = ann.heard(), bob.heard()
    assert to_ann == to_bob
    assert to_ann.keys() == {"id", "timestamp", "handle", "message"}
    assert (to_ann["handle"], to_ann["message"]) == ("ann", "hi")
    assert elsewhere.heard() == []


def test_who_asks_for_nothing_gets_nothing_but_messages(server: Any) -> None:
    quiet = server.connect()
    other = server.connect(f"/chat/lobby?{ALL_EVENTS}&handle=bob")
    other.say({"handle": "bob", "typing": True})
    other.close()
    assert quiet.heard() == []
    quiet.say({"handle": "ann", "message": "hi"})
    assert names(quiet.heard()) == ["message"]


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/chat/lobby/"])
def test_every_way_to_write_the_lobby_is_one_room(server: Any, path: str) -> None:
    one, other = server.connect(path), server.connect("/chat/lobby")
    one.say({"handle": "ann", "message": "hi"})
    assert other.messages() == ["hi"]


def test_the_handshake_is_a_websockets(server: Any) -> None:
    answer = server.connect().answer
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-extensions" not in answer.headers


# Recovery


def test_since_gives_what_was_missed_then_goes_on(server: Any) -> None:
    ann = server.connect()
    ann.say({"handle": "ann", "message": "a"})
    (first,) = ann.heard()
    for text in "bc":
        ann.say({"handle": "ann", "message": text})
    back = server.connect(f"/chat/lobby?since={first['id']}")
    assert back.messages() == ["b", "c"]
    ann.say({"handle": "ann", "message": "d"})
    assert back.messages() == ["d"]


def test_long_absences_come_in_pages(server: Any) -> None:
    ids = [
        server.post({"handle": "ann", "message": str(n)}, address=f"192.0.{n % 250}.9").json["id"] for n in range(950)
    ]
    back = server.connect(f"/chat/lobby?since={ids[0]}")
    assert back.messages() == [str(n) for n in range(1, 950)]


def test_history_gives_the_newest(server: Any) -> None:
    for text in "abc":
        server.post({"handle": "ann", "message": text})
    assert server.connect("/chat/lobby?history=2").messages() == ["b", "c"]
    assert server.connect("/chat/lobby?history=0").messages() == []


def test_what_cannot_be_continued_is_reset_first(make_server: MakeServer) -> None:
    server = make_server(history=HistoryLimits(count=2))
    ids = [server.post({"handle": "ann", "message": text}).json["id"] for text in "abcde"]
    back = server.connect(f"/chat/lobby?since={ids[0]}")
    assert back.heard() == [{"event": "reset", "position": ids[4]}]
    server.post({"handle": "ann", "message": "f"})
    assert back.messages() == ["f"]


def test_ready_says_where_it_is_live_from(server: Any) -> None:
    posted = server.post({"handle": "ann", "message": "a"}).json
    socket = server.connect("/chat/lobby?history=1&events=ready")
    message, ready = socket.heard()
    assert message == posted
    limits = ready.pop("limits")
    assert ready == {"event": "ready", "position": posted["id"], "handle": None, "writable": True}
    assert limits["message_characters"] == Limits().message_characters


def test_a_heartbeat_can_be_seen_by_scripts(server: Any) -> None:
    socket, quiet = server.connect("/chat/lobby?events=heartbeat"), server.connect()
    beat = {"event": "heartbeat", "seconds": server.limits.ping_interval}
    assert socket.heard() == [beat]
    server.beat()
    assert socket.heard() == [beat]
    assert quiet.heard() == []


# Keys


def test_a_key_is_stored_once_and_comes_back(server: Any) -> None:
    ann, bob = server.connect(), server.connect()
    for _ in range(2):
        ann.say({"handle": "ann", "message": "hi", "key": "k"})
    first, again = ann.heard()
    assert first == again
    assert first["key"] == "k"
    assert bob.messages() == ["hi"]


@pytest.fixture
def slow_history(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Callable[[], None]]:
    """``answer = slow_history(server)``: from now on its history answers only when ``answer()`` is called."""

    def slow(server: Any) -> Callable[[], None]:
        waiting: list[Callable[[], None]] = []
        history = server.relay.history

        def later(*question: object) -> Deferred[Any]:
            answer: Deferred[Any] = Deferred()
            waiting.append(lambda: history(*question).chainDeferred(answer))
            return answer

        def answer() -> None:
            while waiting:
                waiting.pop(0)()

        monkeypatch.setattr(server.relay, "history", later)
        return answer

    return slow


def test_the_answer_to_a_repeated_message_does_not_overtake_what_was_missed(server: Any, slow_history: Any) -> None:
    first = server.post({"handle": "ann", "message": "a"}).json
    server.post({"handle": "bob", "message": "b"})
    server.post({"handle": "ann", "message": "c", "key": "k"})
    answer = slow_history(server)
    back = server.connect(f"/chat/lobby?since={first['id']}")
    back.say({"handle": "ann", "message": "c", "key": "k"})
    assert back.heard() == []
    answer()
    assert back.messages() == ["b", "c", "c"]


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_it_does_not_overtake_what_the_relay_delivers_late(
    server: Any, monkeypatch: pytest.MonkeyPatch, lost: bool, empty: bool
) -> None:
    """What is stored is acknowledged by one link to Redis and delivered by another, which may be late or down."""
    if not empty:
        server.post({"handle": "bob", "message": "before"})
    back = server.connect()
    deliver, late = server.relay._deliver, list[tuple[Any, ...]]()
    monkeypatch.setattr(server.relay, "_deliver", lambda *what: late.append(what))
    server.post({"handle": "bob", "message": "a"})
    back.say({"handle": "ann", "message": "b", "key": "k"})
    server.post({"handle": "bob", "message": "c"})
    back.say({"handle": "ann", "message": "b", "key": "k"})
    assert back.heard() == [], "it stands before all of them"
    monkeypatch.setattr(server.relay, "_deliver", deliver)
    if lost:
        server.hub.interrupted()
        server.hub.resumed()
    else:
        for what in late:
            deliver(*what)
    assert back.messages() == ["a", "b", "c"]
    back.say({"handle": "ann", "message": "b", "key": "k"})
    assert back.messages() == ["b"], "now it is a repetition"


def test_only_so_many_answers_wait(make_server: MakeServer, slow_history: Any) -> None:
    fast = Rate(1_000.0, 1_000)
    server = make_server(limits=Limits(messages_per_connection=fast, messages_per_address=fast))
    server.post({"handle": "ann", "message": "a", "key": "k"})
    answer = slow_history(server)
    ann = server.connect("/chat/lobby?history=1")
    for _ in range(REPLIES_HELD + 20):
        ann.say({"handle": "ann", "message": "a", "key": "k"})
    answer()
    assert ann.messages() == ["a"] * (1 + REPLIES_HELD)


# Presence and typing


def test_presence_and_comings_and_goings(server: Any) -> None:
    ann = server.connect("/chat/lobby?events=presence&handle=ann")
    assert ann.heard() == [{"event": "presence", "members": ["ann"]}]
    bob = server.connect("/chat/lobby?events=presence&handle=bob")
    assert bob.heard() == [{"event": "presence", "members": ["ann", "bob"]}]
    assert ann.heard() == [{"event": "join", "handle": "bob"}]
    second = server.connect("/chat/lobby?handle=bob")
    second.close()
    assert ann.heard() == [], "bob is here all the time"
    bob.close()
    assert ann.heard() == [{"event": "leave", "handle": "bob"}]


def test_who_says_something_is_present_under_that_name(server: Any) -> None:
    ann = server.connect("/chat/lobby?events=presence&handle=ann")
    guest = server.connect()
    ann.heard()
    guest.say({"handle": "bob", "message": "hi"})
    assert names(ann.heard()) == ["join", "message"]
    guest.say({"handle": "rob", "message": "me again"})
    assert sorted(names(ann.heard())) == ["join", "leave", "message"]
    guest.close()
    assert ann.heard() == [{"event": "leave", "handle": "rob"}]


def test_typing_is_told_to_those_that_asked_and_kept_nowhere(server: Any) -> None:
    ann, bob = server.connect("/chat/lobby?events=typing"), server.connect()
    bob.say({"handle": "bob", "typing": True})
    assert ann.heard() == [{"event": "typing", "handle": "bob"}]
    assert server.ask("GET", "/chat/lobby").json["messages"] == []


# What is wrong keeps the connection, with a reason


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b'{"message": "a", "message": "b"}', "bad_json"),
        (b"[" * 20_000, "bad_json"),
        ({"message": "hi"}, "bad_handle"),
        ({"handle": "ann"}, "bad_message"),
        ({"handle": "ann", "message": "x" * 4097}, "message_too_long"),
        ({"handle": "ann", "message": "hi", "key": 1}, "bad_key"),
    ],
)
def test_a_wrong_command_is_refused_and_nothing_else_happens(server: Any, sent: Any, code: str) -> None:
    ann, bob = server.connect(), server.connect()
    ann.say(sent)
    (error,) = ann.heard()
    assert error["error"]["code"] == code
    assert error["error"]["message"]
    assert bob.heard() == []
    assert server.refusals(code) == 1
    ann.say({"handle": "ann", "message": "still here"})
    assert bob.messages() == ["still here"]


def test_a_binary_frame_is_refused(server: Any) -> None:
    ann = server.connect()
    ann.say(b"\x00\x01", opcode=2)
    assert ann.heard()[0]["error"]["code"] == "binary_frame"


def test_a_refusal_names_the_message_by_its_key(server: Any) -> None:
    ann = server.connect()
    ann.say({"handle": "ann", "message": "", "key": "k7"})
    assert ann.heard()[0]["error"]["key"] == "k7"


def test_invalid_utf8_ends_the_connection_as_the_protocol_wants(server: Any) -> None:
    ann = server.connect()
    ann.say(b"\xff\xff")
    ann.heard()
    assert ann.close_code == 1007


def test_a_frame_that_is_too_large_ends_the_connection(server: Any) -> None:
    ann = server.connect()
    ann.say(b"x" * (server.limits.frame_bytes + 1))
    ann.heard()
    assert ann.close_code == 1009


def test_an_error_does_not_overtake_messages(server: Any) -> None:
    ann = server.connect()
    ann.say({"handle": "ann", "message": "first"})
    ann.say(b"{")
    assert names(ann.heard()) == ["message", "error"]


# Limits


def test_too_many_messages_are_refused_until_later(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(messages_per_connection=Rate(1.0, 2)))
    ann = server.connect()
    for number in range(3):
        ann.say({"handle": "ann", "message": str(number), "key": str(number)})
    heard = ann.heard()
    assert names(heard) in (["message", "message", "error"], ["message", "error", "message"])
    (error,) = [frame["error"] for frame in heard if "error" in frame]
    assert (error["code"], error["key"]) == ("rate_limited", "2")
    assert "try again in" in error["message"]
    server.clock.advance(1)
    ann.say({"handle": "ann", "message": "2", "key": "2"})
    assert ann.messages() == ["2"]


def test_a_room_that_has_messages_costs_its_members_no_new_one(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(new_rooms_per_address=Rate(0.1, 1)))
    ann, bob = server.connect(), server.connect("/chat/other")
    ann.say({"handle": "ann", "message": "1"})
    ann.say({"handle": "ann", "message": "2"})
    bob.say({"handle": "bob", "message": "3", "key": "k"})
    assert ann.messages() == ["1", "2"]
    (error,) = [frame["error"] for frame in bob.heard() if "error" in frame]
    assert (error["code"], error["key"]) == ("rate_limited", "k")
    server.clock.advance(10)
    bob.say({"handle": "bob", "message": "3", "key": "k"})
    assert bob.messages() == ["3"]


def test_who_does_not_listen_to_refusals_is_sent_away(server: Any) -> None:
    ann = server.connect()
    for _ in range(101):
        ann.say(b"{")
    heard = ann.heard()
    assert len(heard) == 100
    assert ann.close_code == 1013
    assert ann.close_reason.startswith("rate_limited: ")


@pytest.mark.parametrize("way", ["socket", "stream"])
def test_coming_back_for_the_history_has_a_rate(make_server: MakeServer, way: str) -> None:
    server = make_server(limits=Limits(connections_per_address=4))

    def status(query: str = "history=1", headers: str = "", address: str = "192.0.2.7") -> int:
        path = f"/chat/lobby?{query}"
        if way == "socket":
            socket = server.connect(path, headers, address)
            socket.close()
            return int(socket.answer.status)
        stream = server.stream(path, headers, address)
        received = stream.received()
        stream.close()
        return int(received.split()[1])

    welcome = 101 if way == "socket" else 200
    position = server.ask("GET", "/chat/lobby").json["position"]
    assert [status() for _ in range(19)] + [status(f"since={position}")] == [welcome] * 20
    assert (status(), status(f"since={position}")) == (429, 429)
    assert server.refusals("rate_limited") == 2
    assert status("") == welcome, "this costs little"
    assert status(address="198.51.100.1") == welcome
    server.clock.advance(1)
    assert (status(), status()) == (welcome, 429)


def test_connections_have_a_bound_in_all_and_per_address(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(connections=3, connections_per_address=2))
    first, _ = server.connect(), server.stream()
    refused = server.connect().answer
    assert (refused.status, refused.error) == (429, "too_many_from_address")
    server.connect(address="198.51.100.1")
    refused = server.connect(address="203.0.113.9").answer
    assert (refused.status, refused.error) == (503, "too_many_connections")
    assert server.stream(address="203.0.113.9").received().startswith(b"HTTP/1.1 503")
    assert (server.refusals("too_many_from_address"), server.refusals("too_many_connections")) == (1, 2)
    first.close()
    assert server.connect(address="203.0.113.9").answer.status == 101


def test_behind_a_trusted_proxy_clients_are_told_apart(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(connections_per_address=1), trusted_proxies=1)
    assert server.connect(headers="X-Forwarded-For: 198.51.100.1\r\n").answer.status == 101
    assert server.connect(headers="X-Forwarded-For: 198.51.100.2\r\n").answer.status == 101
    forged = server.connect(headers="X-Forwarded-For: 203.0.113.1, 198.51.100.2\r\n")
    assert forged.answer.status == 429, "what the client itself wrote there is not believed"


def test_without_one_that_header_is_not_believed(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(connections_per_address=1))
    server.connect(headers="X-Forwarded-For: 198.51.100.1\r\n")
    assert server.connect(headers="X-Forwarded-For: 198.51.100.2\r\n").answer.status == 429


def test_a_client_that_does_not_read_is_cut_off_with_a_reason(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(outbox_bytes=2000))
    slow, ann = server.connect(), server.connect()
    slow.transport.producer.pauseProducing()
    for number in range(20):
        ann.say({"handle": "ann", "message": f"{number:0200}"})
        ann.received()
    slow.heard()
    assert slow.close_code == 3008
    assert slow.close_reason.startswith("too_slow: ")
    assert server.refusals("too_slow") == 1
    assert server.connections.waiting_bytes.measure() == 0


def test_a_slow_client_recovers_at_its_own_pace(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(outbox_bytes=100_000))
    ids = [
        server.post({"handle": "ann", "message": f"{n:0100}"}, address=f"192.0.{n % 250}.9").json["id"]
        for n in range(900)
    ]
    # A transport that fills up with each write, until the client has read.
    slow = server.connect("/chat/nowhere")
    outbox = slow.transport.producer
    slow.transport.write = lambda data, w=slow.transport.write: (w(data), outbox.pauseProducing())
    (connection,) = server.connections.open
    server.hub.leave(connection._subscriber)
    connection.session.room = "lobby"
    from twisted_chat.core.publication import Position

    server.hub.join(connection._subscriber, Position.parse(ids[0]))
    heard: list[str] = []
    for _ in range(20):
        heard += slow.messages()
        outbox.resumeProducing()
    assert [int(text) for text in heard] == list(range(1, 900))
    assert slow.close_code is None


def test_a_client_that_pings_and_never_reads_costs_nothing(server: Any) -> None:
    ann = server.connect()
    ann.say(b"are you there", opcode=9)
    assert ann.frames() == [(10, b"are you there")]
    ann.transport.producer.pauseProducing()
    for _ in range(1000):
        ann.say(b"x" * 125, opcode=9)
    assert ann.received() == b""


def test_a_silent_client_is_asked_and_then_given_up(server: Any) -> None:
    ann, bob, cat = server.connect(), server.connect(), server.connect()
    server.beat()
    for peer in (ann, bob, cat):
        assert peer.frames() == [(9, b"")]
    bob.say(b"", opcode=10)
    cat.say({"handle": "cat", "message": "no pong, but a sign of life"})
    server.beat(round(server.limits.ping_timeout))
    assert [peer.transport.aborted for peer in (ann, bob, cat)] == [True, False, False]
    assert len(server.connections.open) == 2
    assert server.metrics.registry.get_sample_value("twisted_chat_disconnects_total", {"reason": "ping_timeout"}) == 1.0
    assert server.refusals("ping_timeout") == 1.0


def test_a_client_may_be_given_longer_than_between_two_questions(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(ping_interval=25.0, ping_timeout=30.0))
    ann = server.connect()
    server.beat(25 + 29)
    assert ann.frames() == [(9, b""), (9, b"")]
    assert not ann.transport.aborted
    server.beat(1)
    assert ann.transport.aborted


class Slow:
    """What the system says of a client's connection."""

    def __init__(self, client: Any) -> None:
        self.taken = 0
        self.pending = True
        client.transport.uptake = lambda: Uptake(self.taken, self.pending)


def test_a_client_that_takes_what_a_ping_waits_behind_is_not_given_up(server: Any) -> None:
    ann, bob = server.connect(), server.connect()
    slow, hung = Slow(ann), Slow(bob)
    for _ in range(10):
        server.beat(1)
        slow.taken += 1
        server.beat(round(server.limits.ping_interval) - 1)
    assert hung.pending
    assert bob.transport.aborted
    assert not ann.transport.aborted
    server.beat(round(server.limits.ping_timeout))
    assert ann.transport.aborted


def test_what_the_system_of_a_hung_client_takes_is_no_sign_of_life(server: Any) -> None:
    # Its heartbeats, for which it asked, come just before each ping.
    ann = server.connect("/chat/lobby?events=heartbeat")
    hung = Slow(ann)
    hung.pending = False

    write = ann.transport.write

    def send(data: bytes) -> None:
        hung.pending = True
        write(data)

    ann.transport.write = send
    server.beat()
    assert hung.pending
    hung.taken, hung.pending = hung.taken + 1, False
    server.beat(round(server.limits.ping_timeout))
    assert ann.transport.aborted


def test_a_slow_client_may_be_given_longer_than_between_two_questions(make_server: MakeServer) -> None:
    server = make_server(limits=Limits(ping_interval=25.0, ping_timeout=30.0))
    ann = server.connect()
    slow = Slow(ann)
    for _ in range(5):
        server.beat(25 - 4)
        slow.taken += 1
        server.beat(4)
    assert not ann.transport.aborted
    server.beat(30)
    assert ann.transport.aborted


def test_a_ping_is_not_kept_behind_what_a_slow_client_has_not_read(server: Any) -> None:
    slow = server.connect()
    slow.transport.producer.pauseProducing()
    server.post({"handle": "ann", "message": "waits"})
    server.beat()
    assert slow.frames() == [(9, b"")]
    slow.transport.producer.resumeProducing()
    assert slow.messages() == ["waits"]


def test_nothing_follows_the_answer_to_a_clients_close(server: Any) -> None:
    ann, bob = server.connect(), server.connect()
    ann.say(b"\x03\xe8", opcode=8)
    bob.say({"handle": "bob", "message": "hi"})
    server.beat()
    assert [opcode for opcode, _ in ann.frames()] == [8]


# The factory


def test_the_factory_knows_who_is_where(server: Any) -> None:
    server.connect("/chat/a")
    server.connect("/chat/a")
    server.connect("/chat/b")
    server.stream("/chat/a")
    assert len(server.sockets.members("a")) == 2
    assert all(isinstance(socket, RoomSocket) for socket in server.sockets.members("a"))
    assert server.sockets.members("nowhere") == frozenset()


def test_autobahns_open_defaults_are_closed(server: Any) -> None:
    factory = server.sockets
    assert factory.maxFramePayloadSize == factory.maxMessagePayloadSize == server.limits.frame_bytes
    assert factory.closeHandshakeTimeout > 0
    assert factory.webStatus is False
    assert factory.requireMaskedClientFrames is True
    assert factory.serveFlashSocketPolicy is False


def test_nagle_is_off(server: Any) -> None:
    assert server.connect().transport.noDelay is True


@pytest.mark.parametrize(
    ("offered", "chosen"), [("chat", "chat"), ("superchat, chat", "chat"), ("mqtt", None), ("a, a", None), (",", None)]
)
def test_the_subprotocol_chat_is_accepted_where_it_is_offered(server: Any, offered: str, chosen: str | None) -> None:
    socket = server.connect(headers=f"Sec-WebSocket-Protocol: {offered}\r\n")
    assert socket.answer.status == 101
    assert socket.answer.headers.get("sec-websocket-protocol") == chosen
    server.post({"handle": "ann", "message": "hi"})
    assert socket.messages() == ["hi"]
