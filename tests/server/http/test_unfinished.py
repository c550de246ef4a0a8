"""Requests that do not come whole: what may be refused by the head is, and what is held of the others is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from h2 import events
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.conftest import LoggedFailures
from tests.server.http.http2.conftest import Client
from twisted_chat.server.http.fairness import TURN_REQUESTS
from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.request import body_of
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.http.unfinished import REQUEST_BYTES

SMALL = HttpLimits(
    unfinished_bytes=200_000, unfinished_bytes_per_address=120_000, unfinished_bytes_per_connection=80_000
)


class Door(Resource):
    """Takes bodies, but not for ``/closed``; fails at the head of ``/broken``."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    def check_head(self, request: Request) -> bytes | None:
        self.heads.append(request.path)
        if request.path == b"/broken":
            raise ZeroDivisionError
        if request.path != b"/closed":
            return None
        request.setResponseCode(403)
        request.setHeader("access-control-allow-origin", "https://a.example")
        request.setHeader("content-length", "3")
        return b"no\n"

    def render(self, request: Request) -> bytes:
        self.bodies.append(body_of(request))
        return b"yes\n"


class Site:
    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.clock = Clock()
        self.door = Door()
        self.refused: list[str] = []
        self.site = ChatSite(self.door, reactor=self.clock, limits=limits, on_refused=self.refused.append)

    def connect(self, address: str = "192.0.2.1") -> Connection:
        return Connection(self, address)

    @property
    def held(self) -> int:
        return self.site.unfinished.size


class Connection:
    """A client that speaks HTTP/1.1."""

    def __init__(self, site: Site, address: str) -> None:
        self.site = site
        self.transport = StringTransport(lenient=True, peerAddress=IPv4Address("TCP", address, 5))
        self.switch = site.site.buildProtocol(None)
        self.switch.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        self.transport.clear()
        self.switch.dataReceived(data)
        return bytes(self.transport.value())

    def post(self, path: bytes = b"/", length: int = 60_000, *fields: bytes) -> bytes:
        lines = [b"POST %b HTTP/1.1" % path, b"Host: a", b"Content-Length: %d" % length, *fields, b"", b""]
        return self.send(b"\r\n".join(lines))

    def lose(self) -> None:
        self.switch.connectionLost(Failure(ConnectionDone()))


# By the head


def test_what_the_head_decides_needs_no_body() -> None:
    site = Site()
    client = site.connect()
    head, _, body = client.post(b"/closed").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"connection: close" in head.lower()
    assert b"access-control-allow-origin: https://a.example" in head.lower()
    assert body == b"no\n"
    assert site.held == 0
    # The client has time to read that, and what it sends meanwhile is thrown away.
    assert client.transport.disconnecting
    assert client.send(b"x" * 100_000) == b""
    assert site.door.bodies == []
    site.clock.advance(5)
    assert client.transport.disconnected
    client.lose()


def test_no_100_continue_for_what_is_refused() -> None:
    site = Site()
    expects = b"Expect: 100-continue"
    assert site.connect().post(b"/closed", 10, expects).startswith(b"HTTP/1.1 403 ")
    client = site.connect()
    assert client.post(b"/", 2, expects) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b" 200 OK\r\n" in client.send(b"hi")
    assert site.door.bodies == [b"hi"]


def test_a_body_that_comes_with_its_head_needs_no_decision() -> None:
    site = Site()
    client = site.connect()
    assert b" 200 OK\r\n" in client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    assert (site.door.heads, site.door.bodies) == ([], [b"hi"])


def test_the_head_is_looked_at_once_for_each_request() -> None:
    site = Site()
    client = site.connect()
    for _ in range(2):
        client.post(b"/", 3)
        client.send(b"a")
        client.send(b"b")
        assert b" 200 OK\r\n" in client.send(b"c")
    assert (site.door.heads, site.door.bodies) == ([b"/", b"/"], [b"abc", b"abc"])
    assert site.held == 0


def test_a_resource_that_fails_at_the_head_answers_500(logged_failures: LoggedFailures) -> None:
    site = Site()
    answer = site.connect().post(b"/broken")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


# What is held


def test_what_is_held_is_counted_until_the_body_is_whole_or_the_client_gone() -> None:
    site = Site()
    first, second = site.connect(), site.connect()
    first.post(b"/", 10)
    assert REQUEST_BYTES < site.held < 2 * REQUEST_BYTES
    before = site.held
    first.send(b"x" * 9)
    assert before + 9 <= site.held < before + 200
    second.post()
    first.send(b"x")
    second.lose()
    assert site.held == 0


@pytest.mark.parametrize("end", ["refused", "timed out", "malformed"])
def test_nothing_is_held_of_what_is_refused(end: str) -> None:
    site = Site()
    client = site.connect()
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"
    client.send(chunked + b"x" * 50_000)
    assert site.held > 50_000
    if end == "refused":
        client.send(b"x" * 15_535 + b"\r\nff\r\n" + b"x" * 255)
    elif end == "timed out":
        site.clock.advance(site.site.limits.idle_timeout)
    else:
        client.send(b"x" * 15_600)
    assert site.held == 0
    client.lose()
    assert site.held == 0


def test_one_address_has_its_share() -> None:
    site = Site(SMALL)
    first, second, other = site.connect(), site.connect(), site.connect("192.0.2.2")
    first.post()
    first.send(b"x" * 59_000)
    second.post()
    answer = second.send(b"x" * 59_000)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_unfinished"
    assert site.refused == ["too_many_unfinished"]
    other.post()
    assert other.send(b"x" * 59_000) == b""
    # And for what comes whole there is always room.
    whole = site.connect()
    assert b" 200 OK" in whole.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)


def test_all_addresses_have_a_bound_together() -> None:
    site = Site(SMALL)
    clients = [site.connect(f"192.0.2.{number}") for number in range(4)]
    for client in clients:
        client.post()
    answers = [client.send(b"x" * 55_000) for client in clients]
    assert answers[:3] == [b""] * 3
    assert answers[3].startswith(b"HTTP/1.1 503 ")
    clients[0].lose()
    late = site.connect("192.0.2.9")
    late.post()
    assert late.send(b"x" * 55_000) == b""


def test_a_request_that_is_refused_while_it_waits_for_its_turn_is_not_served() -> None:
    site = Site(SMALL)
    for length in (59_000, 40_000):
        other = site.connect()
        other.post()
        other.send(b"x" * length)
    for _ in range(TURN_REQUESTS):  # and with that the turn is full
        site.connect("192.0.2.2").send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    site.door.bodies.clear()
    client = site.connect()
    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + b"y" * 30_000
    assert client.send(whole).startswith(b"HTTP/1.1 429 ")
    assert site.site.waiting() == 0
    site.clock.pump([0.01] * 5)
    assert site.door.bodies == []
    client.lose()


def test_many_fields_and_small_pieces_count_for_what_they_take() -> None:
    site = Site()
    client = site.connect()
    client.post(b"/", 60_000, *(b"x-%d: y" % number for number in range(90)))
    assert site.held > 90 * 200
    before = site.held
    for _ in range(50):
        client.send(b"xx")
    assert site.held - before > 50 * 50


def test_fields_after_a_body_are_few() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    site = Site()
    assert b" 200 OK\r\n" in site.connect().send(head + b"a: b\r\n" * 100 + b"\r\n")
    client = site.connect()
    client.send(head)
    assert client.send(b"a\r\n" * 400).startswith(b"HTTP/1.1 400 ")
    assert site.held == 0


# HTTP/2


class Client2(Client):
    def begin(self, path: str = "/", *fields: tuple[str, str], body: bytes = b"") -> int:
        """Send a request whose body does not end."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":path", path), (":scheme", "https"), (":authority", "a"), *fields]
        self.h2.send_headers(stream, head)
        if body:
            self.h2.send_data(stream, body)
        self.exchange()
        return stream

    def resets(self, stream: int) -> list[int]:
        return [e.error_code for e in self.events if isinstance(e, events.StreamReset) and e.stream_id == stream]


@pytest.fixture
def h2() -> Any:
    made: list[Client2] = []

    def connect(site: Site) -> Client2:
        made.append(Client2(site.site, site.clock))
        made[-1].exchange()
        return made[-1]

    yield connect
    for client in made:
        client.switch.connectionLost(Failure(ConnectionDone()))


def test_http2_decides_by_the_head(h2: Any) -> None:
    site = Site()
    client = h2(site)
    stream = client.begin("/closed", ("expect", "100-continue"), body=b"x" * 1_000)
    assert client.head(stream)[b":status"] == b"403"
    assert client.body(stream) == b"no\n"
    assert not any(isinstance(event, events.InformationalResponseReceived) for event in client.events)
    assert site.held == 0
    # The client may send on, and is told to stop if it goes on for long.
    client.send(stream, b"x" * 16_000)
    assert client.resets(stream) == []
    site.clock.advance(5)
    client.exchange()
    assert client.resets(stream) == [0]
    assert site.door.bodies == []
    taken = client.begin("/", ("expect", "100-continue"))
    assert any(isinstance(event, events.InformationalResponseReceived) for event in client.events)
    client.send(taken, b"hi", end=True)
    assert (client.body(taken), site.door.bodies, site.held) == (b"yes\n", [b"hi"], 0)


def test_http2_streams_share_the_bound_of_their_connection(h2: Any) -> None:
    site = Site(SMALL)
    client = h2(site)
    streams = [client.begin() for _ in range(10)]
    for stream in streams[:2]:
        client.send(stream, b"x" * 15_000)
    assert site.held < 80_000
    client.send(streams[2], b"x" * 15_000)
    assert client.head(streams[2])[b":status"] == b"429"
    assert client.error(streams[2]) == "too_many_unfinished"
    # Its siblings go on, and what ends makes room.
    client.send(streams[0], b"x", end=True)
    assert client.body(streams[0]) == b"yes\n"
    client.send(streams[3], b"x" * 15_000)
    client.h2.reset_stream(streams[1])
    client.exchange()
    client.send(streams[4], b"x" * 15_000)
    for stream in streams[3:]:
        client.send(stream, b"x", end=True)
    assert site.held == 0
    assert len(site.door.bodies) == 8


def test_http2_connection_that_ends_holds_nothing(h2: Any) -> None:
    site = Site()
    client = h2(site)
    for _ in range(20):
        client.begin(body=b"x" * 10_000)
    assert site.held > 200_000
    client.switch.connectionLost(Failure(ConnectionDone()))
    assert site.held == 0


def test_whole_bodies_that_wait_for_their_turn_are_counted_too(h2: Any) -> None:
    site = Site(SMALL)
    client = h2(site)
    for _ in range(TURN_REQUESTS):  # and with that the turn is full
        site.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    streams = [client.h2.get_next_available_stream_id() + 2 * number for number in range(10)]
    most = 0
    for stream in streams:
        client.h2.send_headers(stream, [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "a")])
        client.h2.send_data(stream, b"x" * 6_000)
        client.h2.send_data(stream, b"x" * 6_000, end_stream=True)
        client.switch.dataReceived(client.h2.data_to_send())
        most = max(most, site.held)
    assert 48_000 < most <= 80_000
    for _ in range(50):
        client.exchange()
    statuses = {stream: client.head(stream)[b":status"] for stream in streams}
    assert set(statuses.values()) == {b"200", b"429"}
    assert site.held == 0
