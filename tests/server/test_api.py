"""The API for operators: who may use it, what it takes, what it does to clients of this server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tests.server.conftest import read_answer
from twisted_chat.auth import ApiKeys, Origins, SigningKey, TokenKeys, make_token
from twisted_chat.consumers import codec
from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Effect, Instruction, Send
from twisted_chat.consumers.names import group_room
from twisted_chat.consumers.queue import Aside
from twisted_chat.control import Control
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.nodes import Nodes
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.server import static_files
from twisted_chat.server.admission import Admission
from twisted_chat.server.api import Api, Consumers
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.site import site_resource

KEY = "an-api-key-of-this-server"
WITH_KEY = f"X-API-Key: {KEY}\r\n"
WALL_CLOCK = 1_795_000_000.0

MakeApi = Callable[..., Any]


def with_api(server: Any, consumers: Consumers | None) -> tuple[Control, Nodes]:
    """Give a server in memory the API, and what it needs."""
    history = HistoryLimits(count=12)
    control = Control(server.hub, server.relay, server.connections, server.clock, server.wall_clock, history)
    nodes = Nodes(server.relay, server.clock, "here-1", lambda: {"members": server.hub.member_count()})
    server.admission = Admission(
        origins=Origins(),
        tokens=server.tokens,
        api_keys=server.api_keys,
        limits=server.limits,
        trusted_proxies=0,
        clock=server.clock.seconds,
        wall_clock=server.wall_clock,
        check_room=control.check,
    )
    static = static_files.load()
    rooms = RoomResource(server.admission, server.connections, server.sockets, static["chat.html"])
    api = Api(server.admission, control, nodes, server.metrics, consumers)
    server.site = ChatSite(site_resource(rooms, static, api), reactor=server.clock)
    control.start()
    nodes.start()
    return control, nodes


@pytest.fixture
def make_api(make_server: Callable[..., Any]) -> Iterator[MakeApi]:
    """Makes servers with the API, with the fields of the server in memory."""
    made: list[tuple[Control, Nodes]] = []

    def make(consumers: Consumers | None = None, **fields: Any) -> Any:
        server = make_server(**fields)
        made.append(with_api(server, consumers))
        return server

    yield make
    for control, nodes in made:
        nodes.stop()
        control.stop()


@pytest.fixture
def server(make_api: MakeApi) -> Any:
    """An open server with an API key."""
    return make_api(api_keys=ApiKeys([KEY]))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef0123456789abcdef")
    path.chmod(0o600)
    return path


@pytest.fixture
def closed(make_api: MakeApi, key_file: Path) -> Any:
    """One whose clients need tokens."""
    return make_api(api_keys=ApiKeys([KEY]), tokens=TokenKeys.from_file(key_file))


def order(server: Any, name: str, **fields: Any) -> Any:
    return server.post(fields, f"/api/{name}", WITH_KEY)


@pytest.fixture
def token(key_file: Path) -> Callable[[str], str]:
    """A token for a user."""
    return lambda user: make_token(SigningKey.from_file(key_file), user, expires_in=3_600, now=WALL_CLOCK)


# Who may


@pytest.mark.parametrize("path", ["/api", "/api/nodes", "/api/nowhere"])
def test_without_api_keys_there_is_no_api(make_api: MakeApi, path: str) -> None:
    answer = make_api().ask("GET", path, WITH_KEY)
    assert (answer.status, answer.error) == (404, "not_found")
    assert "--api-key-file" in answer.json["error"]["message"]


@pytest.mark.parametrize("headers", ["", "X-API-Key: another-key-altogether\r\n", "Authorization: Bearer x\r\n"])
@pytest.mark.parametrize("path", ["/api/nodes", "/api/refused", "/api/nowhere"])
def test_who_has_no_key_learns_nothing(server: Any, path: str, headers: str) -> None:
    answer = server.ask("GET", path, headers)
    assert (answer.status, answer.error) == (401, "api_key_invalid")
    assert server.refusals("api_key_invalid") == 1


def test_who_has_no_key_orders_nothing(server: Any) -> None:
    answer = server.post({"room": "lobby"}, "/api/refuse")
    assert (answer.status, answer.error) == (401, "api_key_invalid")
    assert server.ask("GET", "/chat/lobby").status == 200


def test_pages_of_other_sites_are_refused(server: Any) -> None:
    answer = server.ask("GET", "/api/nodes", f"{WITH_KEY}Origin: https://elsewhere.example\r\n")
    assert (answer.status, answer.error) == (403, "origin_not_allowed")


# What there is


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nowhere", "/api/nodes/x"])
def test_what_there_is_not(server: Any, path: str) -> None:
    answer = server.ask("GET", path, WITH_KEY)
    assert (answer.status, answer.error) == (404, "not_found")
    assert "admit, disconnect, drop, nodes, refuse, refused, replay, send, set-aside" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/api//nodes", "//api/nodes", "/%61pi/nodes", "/api/node%73", "/api%2Fnodes", "/api/%ff"]
)
def test_a_path_has_one_spelling(server: Any, path: str) -> None:
    for answer in (server.ask("GET", path, WITH_KEY), server.ask("POST", path, WITH_KEY)):
        assert (answer.status, answer.error) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "name", "allowed"),
    [("POST", "nodes", "GET, HEAD"), ("DELETE", "refused", "GET, HEAD"), ("GET", "refuse", "POST")],
)
def test_other_methods_are_told_which_there_are(server: Any, method: str, name: str, allowed: str) -> None:
    answer = server.ask(method, f"/api/{name}", WITH_KEY)
    assert (answer.status, answer.error) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_nodes(server: Any) -> None:
    server.connect()
    server.clock.advance(10)
    answer = server.ask("GET", "/api/nodes", WITH_KEY)
    assert (answer.status, answer.json) == (200, {"nodes": [{"name": "here-1", "members": 1}]})
    assert answer.headers["cache-control"] == "no-store"
    assert server.ask("HEAD", "/api/nodes", WITH_KEY).body == b""


# Disconnecting


def test_a_user_is_disconnected(closed: Any, token: Callable[[str], str]) -> None:
    clients = [closed.connect(f"/chat/{room}?token={token(user)}") for room, user in (("a", "u1"), ("b", "u1"))]
    stream = closed.stream(f"/chat/lobby?token={token('u1')}")
    other = closed.connect(f"/chat/lobby?token={token('u2')}")
    answer = order(closed, "disconnect", user="u1", reason="please read the rules")
    assert answer.status == 200
    assert set(answer.json) == {"id"}
    for client in clients:
        assert client.heard() == []
        assert (client.close_code, client.close_reason) == (1008, "disconnected: please read the rules")
    assert b'"code":"disconnected","message":"please read the rules"' in stream.received()
    assert other.heard() == []
    assert (other.close_code, closed.hub.member_count()) == (None, 1)
    again = closed.connect(f"/chat/a?token={token('u1')}")
    assert (again.answer.status, again.heard(), again.close_code) == (101, [], None)


def test_who_is_anonymous_is_no_user(server: Any) -> None:
    client = server.connect("/chat/lobby?handle=None")
    assert order(server, "disconnect", user="None").status == 200
    assert (client.heard(), client.close_code) == ([], None)


# Refusing


def test_a_refused_room(server: Any) -> None:
    client, other = server.connect("/chat/team"), server.connect("/chat/lobby")
    answer = order(server, "refuse", room="/team/")
    assert (answer.status, answer.json["room"], answer.json["until"]) == (200, "team", None)
    assert client.heard() == []
    assert (client.close_code, client.close_reason) == (1008, "room_refused: this room is closed")
    assert (other.heard(), other.close_code) == ([], None)

    for refused in (
        server.connect("/chat/team").answer,
        server.ask("GET", "/chat/team"),
        server.ask("GET", "/chat/team", "Accept: text/event-stream\r\n"),
        server.post({"handle": "ann", "message": "hi"}, "/chat/team"),
        server.post({"handle": "ann", "message": "hi"}, "/chat/team", WITH_KEY),
    ):
        assert (refused.status, refused.error) == (403, "room_refused")
    assert server.ask("GET", "/chat/lobby").status == 200
    assert server.ask("GET", "/api/refused", WITH_KEY).json == {"refused": [{"room": "team", "until": None}]}

    assert order(server, "admit", room="team").status == 200
    assert server.ask("GET", "/api/refused", WITH_KEY).json == {"refused": []}
    assert server.post({"handle": "ann", "message": "hi"}, "/chat/team").status == 201


def test_the_page_of_a_refused_room_can_say_so(server: Any) -> None:
    order(server, "refuse", room="team")
    assert server.ask("GET", "/chat/team", "Accept: text/html\r\n").status == 200


def test_for_some_time(server: Any) -> None:
    until = WALL_CLOCK + server.clock.seconds() + 60
    assert order(server, "refuse", room="team", seconds=60).json["until"] == until
    message = server.ask("GET", "/chat/team").json["error"]["message"]
    assert message == "this room is closed until 2026-11-18T11:07:40Z"
    server.clock.advance(60)
    assert server.ask("GET", "/chat/team").status == 200


def test_one_too_many(server: Any) -> None:
    answers = [order(server, "refuse", room=f"room{number}") for number in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 400]
    assert "3 rooms are refused, and that is the most" in answers[-1].json["error"]["message"]


# Sending to groups and channels of consumers


class Layer:
    """Notes what is sent to channels: under which key, where, and what."""

    def __init__(self) -> None:
        self.full = False
        self.carried: list[tuple[str, str, Any]] = []

    def carry_out(self, effects: Sequence[Effect], key: str) -> Deferred[None]:
        if self.full:
            return fail(NotReadyError("too many"))
        for effect in effects:
            assert isinstance(effect, Send)
            self.carried.append((key, effect.channel, effect.content))
        return succeed(None)

    def add(self, group: str, channel: str) -> Deferred[None]:
        raise NotImplementedError

    def discard(self, group: str, channel: str) -> Deferred[None]:
        raise NotImplementedError

    def tell(self, connection: str, instruction: Instruction, key: str) -> Deferred[None]:
        raise NotImplementedError


class Groups:
    """A server whose consumers have groups and channels, and what these were sent."""

    def __init__(self, make_api: MakeApi) -> None:
        clock = Clock()
        self._relay = MemoryRelay(clock, HistoryLimits(count=10), wall_clock=clock.seconds)
        self.groups = Hub(self._relay, clock, Metrics())
        self.layer = Layer()
        self.aside: Aside | None = None
        self._relay.start(self.groups)
        self.server = make_api(consumers=self, api_keys=ApiKeys([KEY]))

    def sent(self, group: str) -> list[Any]:
        found: list[Any] = []
        self._relay.history(group_room(group), Newest(10)).addCallback(
            lambda history: found.extend(codec.decode(each.data) for each in history.publications)
        )
        return found


@pytest.fixture
def groups(make_api: MakeApi) -> Groups:
    return Groups(make_api)


def test_a_group_is_sent_to(groups: Groups) -> None:
    answer = order(groups.server, "send", group="chat-lobby", text="¡hola!")
    assert (answer.status, set(answer.json)) == (200, {"id"})
    assert order(groups.server, "send", group="chat-lobby", text="", close=4001).status == 200
    assert order(groups.server, "send", group="chat-kitchen", close=True, text=None).status == 200
    assert groups.sent("chat-lobby") == [{"text": "¡hola!"}, {"text": "", "close": 4001}]
    assert groups.sent("chat-kitchen") == [{"close": True}]
    order(groups.server, "send", group="chat-kitchen", bytes={"\0bytes": "AP8="})
    assert groups.sent("chat-kitchen")[1:] == [{"bytes": b"\x00\xff"}]


def test_a_group_is_sent_the_same_once(groups: Groups) -> None:
    answers = [order(groups.server, "send", group="chat-lobby", text="hi", key="k1").json["id"] for _ in range(2)]
    assert answers[0] == answers[1]
    order(groups.server, "send", group="chat-lobby", text="hi", key="k2")
    assert groups.sent("chat-lobby") == [{"text": "hi"}, {"text": "hi"}]


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"group": None, "text": "hi"}, "bad_request", '"group": None is no name of a group'),
        ({"text": "hi"}, "bad_request", '"group" or "channel"'),
        ({"group": "g", "channel": "c", "text": "hi", "content": {}}, "bad_request", '"group" or "channel"'),
        ({"group": "g", "bytes": "AP8="}, "bad_request", "give bytes"),
        ({"channel": "c"}, "bad_request", '"content" is a JSON object'),
        ({"channel": "c", "content": "text"}, "bad_request", '"content" is a JSON object'),
        ({"channel": "c", "content": {"\0bytes": "AP8="}}, "bad_request", "is a JSON object"),
        ({"channel": "c", "content": {"x": {"\0bytes": "AAA"}}}, "bad_request", "padding"),
        ({"channel": "c", "content": {"x": {"\0bytes": 7}}}, "bad_request", "not 'int'"),
        ({"channel": "no spaces", "content": {}}, "bad_request", "letters, digits"),
        ({"channel": "websocket.send!a", "content": {"text": 7}}, "bad_request", "give text"),
        ({"channel": "asgi.delay", "content": {"channel": "c", "content": {}}}, "bad_request", "give milliseconds"),
        ({"group": "no spaces", "text": "hi"}, "bad_request", "letters, digits"),
        ({"group": "g"}, "bad_request", "say what to send"),
        ({"group": "g", "close": False}, "bad_request", "say what to send"),
        ({"group": "g", "text": {"handle": "ann"}}, "bad_request", "give text"),
        ({"group": "g", "close": 1006}, "bad_request", "3000 to 4999"),
        ({"group": "g", "text": "hi", "key": 7}, "bad_request", '"key" is text'),
        ({"group": "g", "text": "hi", "key": ""}, "bad_key", "a key may not be empty"),
    ],
)
def test_what_a_group_cannot_be_sent(groups: Groups, fields: dict[str, Any], code: str, said: str) -> None:
    answer = order(groups.server, "send", **fields)
    assert (answer.status, answer.error) == (400, code)
    assert said in answer.json["error"]["message"]
    assert groups.sent("g") == []
    assert groups.layer.carried == []


def test_a_channel_is_sent_to(groups: Groups) -> None:
    answer = order(groups.server, "send", channel="mine", content={"a": [1, {"\0bytes": "AP8="}], "text": 7})
    assert (answer.status, answer.json) == (200, {"channel": "mine"})
    later = {"channel": "mine", "delay": 10, "content": {}}
    for key in ("k1", "k1", "k2", None):
        order(groups.server, "send", channel="asgi.delay", content=later, key=key)
    keys, channels, contents = zip(*groups.layer.carried, strict=True)
    assert channels == ("mine", *["asgi.delay"] * 4)
    assert contents[0] == {"a": [1, b"\x00\xff"], "text": 7}
    assert contents[1] == later
    assert keys[1] == keys[2]
    assert len(set(keys)) == 4
    assert all(re.fullmatch("api-[0-9a-f]{32}", key) for key in keys)


def test_a_channel_that_cannot_be_sent_to_now(groups: Groups) -> None:
    groups.layer.full = True
    answer = order(groups.server, "send", channel="mine", content={})
    assert (answer.status, answer.error) == (503, "try_again")


def test_without_consumers_there_are_no_groups(server: Any) -> None:
    answer = order(server, "send", group="chat-lobby", text="hi")
    assert (answer.status, answer.error) == (404, "not_found")
    assert "--routing" in answer.json["error"]["message"]


# What is no order


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("disconnect", {}, "bad_request"),
        ("disconnect", {"user": 7}, "bad_request"),
        ("disconnect", {"user": ""}, "bad_request"),
        ("disconnect", {"user": "u" * 129}, "bad_request"),
        ("disconnect", {"user": "u\n1"}, "bad_request"),
        ("disconnect", {"user": "u1", "reason": "r" * 101}, "bad_request"),
        ("disconnect", {"user": "u1", "reason": 7}, "bad_request"),
        ("refuse", {}, "bad_request"),
        ("refuse", {"room": ""}, "bad_request"),
        ("refuse", {"room": "a//b"}, "bad_room"),
        ("refuse", {"room": "\x00control"}, "bad_room"),
        ("refuse", {"room": "a", "seconds": 0}, "bad_request"),
        ("refuse", {"room": "a", "seconds": -1}, "bad_request"),
        ("refuse", {"room": "a", "seconds": True}, "bad_request"),
        ("refuse", {"room": "a", "seconds": "60"}, "bad_request"),
        ("refuse", {"room": "a", "seconds": 1e12}, "bad_request"),
        ("refuse", b'{"room": "a", "seconds": NaN}', "bad_json"),
        ("refuse", b'{"room": "a", "room": "b"}', "bad_json"),
        ("refuse", b'\xef\xbb\xbf{"room": "a"}', "bad_json"),
        ("admit", {"room": None}, "bad_request"),
        ("admit", [], "bad_json"),
        ("admit", b"{", "bad_json"),
        ("admit", b"\xff\xfe{", "bad_json"),
        ("admit", b"[" * 60_000, "bad_json"),
    ],
)
def test_what_is_wrong_is_said(server: Any, name: str, fields: object, code: str) -> None:
    answer = server.post(fields, f"/api/{name}", WITH_KEY)
    assert (answer.status, answer.error) == (400, code)
    assert server.ask("GET", "/api/refused", WITH_KEY).json == {"refused": []}


def test_no_form_of_another_site_can_post_here(server: Any) -> None:
    answer = server.ask("POST", "/api/admit", f"{WITH_KEY}Content-Type: text/plain\r\n", b'{"room": "a"}')
    assert (answer.status, answer.error) == (415, "unsupported_media_type")


# When the relay does not work


def test_what_is_not_stored_is_not_acknowledged(server: Any) -> None:
    server.relay.stop()
    for answer in (order(server, "refuse", room="team"), server.ask("GET", "/api/nodes", WITH_KEY)):
        assert (answer.status, answer.error) == (503, "try_again")


def test_what_fails_unexpectedly_is_logged(server: Any, monkeypatch: pytest.MonkeyPatch, logged_failures: Any) -> None:
    monkeypatch.setattr(server.relay, "publish", lambda *_: 1 / 0)
    answer = order(server, "admit", room="team")
    assert (answer.status, answer.error) == (500, "internal")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_whoever_has_gone_is_not_answered(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: Deferred[Any] = Deferred()
    monkeypatch.setattr(server.relay, "publish", lambda *_: stored)
    client = server.stream()
    client.received()
    client.close()
    client = type(client)(server)
    head = f"POST /api/admit HTTP/1.1\r\nHost: chat.example\r\n{WITH_KEY}Content-Type: application/json\r\n"
    client.send(f'{head}Content-Length: 13\r\n\r\n{{"room": "a"}}'.encode())
    assert client.received() == b""
    client.close()
    stored.errback(ChatError(Reason.TRY_AGAIN, "later"))
    assert client.received() == b""
    assert server.refusals("try_again") == 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/refuse", "", 401),
        ("POST", "/api/nothing", WITH_KEY, 404),
        ("PUT", "/api/refuse", WITH_KEY, 405),
        ("POST", "/api/refuse", WITH_KEY, 415),
        ("POST", "/api/refuse", f"{WITH_KEY}Content-Type: application/json\r\nContent-Encoding: br\r\n", 415),
        ("POST", "/api/refuse", f"{WITH_KEY}Content-Type: application/json\r\n", None),
    ],
)
def test_an_order_is_refused_by_its_head(server: Any, method: str, path: str, headers: str, status: int | None) -> None:
    peer = server.peer()
    peer.send(f"{method} {path} HTTP/1.1\r\nHost: chat.example\r\nContent-Length: 99\r\n{headers}\r\n".encode())
    received = peer.received()
    assert (read_answer(received).status if received else None) == status


# Events that were set aside


class Events:
    """Those that there are, by their names, and what became of others; or Redis does not answer."""

    def __init__(self) -> None:
        self.there = ["1795332600000-0", "1795332600000-1", "1795332600002-0"]
        self.replayed: list[str] = []
        self.answers = True

    async def all(self) -> list[dict[str, Any]]:
        self._answer()
        return [{"id": name} for name in self.there]

    async def replay(self, name: str) -> bool:
        if not await self.drop(name):
            return False
        self.replayed.append(name)
        return True

    async def drop(self, name: str) -> bool:
        self._answer()
        if name not in self.there:
            return False
        self.there.remove(name)
        return True

    def _answer(self) -> None:
        if not self.answers:
            raise NotReadyError("it does not answer")


def ask(server: Any, name: str) -> Any:
    return server.ask("GET", f"/api/{name}", WITH_KEY)


def refused(answer: Any) -> tuple[int, str]:
    return answer.status, answer.error


@pytest.fixture
def events(groups: Groups) -> Events:
    groups.aside = events = Events()
    return events


def test_what_was_set_aside_is_listed_run_again_and_dropped(groups: Groups, events: Events) -> None:
    first, second, third = events.there
    assert ask(groups.server, "set-aside").json == {"events": [{"id": first}, {"id": second}, {"id": third}]}
    assert order(groups.server, "replay", id=first).json == {"id": first}
    assert order(groups.server, "drop", id=third).json == {"id": third}
    assert (events.there, events.replayed) == ([second], [first])
    for name in (first, third, "1-0"):
        for what in ("replay", "drop"):
            assert refused(order(groups.server, what, id=name)) == (404, "not_found")


NO_NAMES = [None, 7, "", "-", "+", "1795332600000", "(1-0", "1-0 ", "x" * 50, ["1-0"], 20 * "9" + "-0"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_of_an_event(groups: Groups, events: Events, name: object) -> None:
    for what in ("replay", "drop"):
        assert refused(order(groups.server, what, id=name)) == (400, "bad_request")


def test_what_was_set_aside_while_redis_does_not_answer(groups: Groups, events: Events) -> None:
    events.answers = False
    assert refused(ask(groups.server, "set-aside")) == (503, "try_again")
    assert refused(order(groups.server, "replay", id="1-0")) == (503, "try_again")
    assert refused(order(groups.server, "drop", id="1-0")) == (503, "try_again")


def test_without_workers_nothing_is_set_aside(server: Any, groups: Groups) -> None:
    for each in (server, groups.server):
        assert refused(ask(each, "set-aside")) == (404, "not_found")
        assert refused(order(each, "replay", id="1-0")) == (404, "not_found")
