"""HTTP/1.1 as this server speaks it: bounded in bytes and in time, and with a word for whoever is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.conftest import LoggedFailures
from tests.server.http.writer import Writer
from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.http.uptake import Uptake
from twisted_chat.server.http.waiting import CHECK_SECONDS, WaitingBytes

GET = b"GET / HTTP/1.1\r\nHost: chat.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: chat.test\r\n"


IDLE = HttpLimits().idle_timeout


class Tree(Resource):
    """Answers with what it was asked, but keeps requests for ``/later`` and fails on ``/broken``."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.ends: list[Any] = []

    def render(self, request: Request) -> bytes | int:
        if request.path == b"/broken":
            raise ZeroDivisionError
        if request.path == b"/half":
            request.write(b"half")
            raise ZeroDivisionError
        if request.path == b"/later":
            self.requests.append(request)
            request.notifyFinish().addBoth(self.ends.append)
            return NOT_DONE_YET
        assert request.content is not None
        asked = {
            "uri": request.uri.decode(),
            "host": request.getHeader("host"),
            "body": request.content.read().decode(),
        }
        return json.dumps(asked).encode()


class Connection:
    """The client's view of one connection."""

    def __init__(self, site: ChatSite | None = None, address: str = "192.0.2.7", **limits: Any) -> None:
        self.clock = Clock()
        self.tree = Tree()
        self.refused: list[str] = []
        self.site = site or ChatSite(
            self.tree, reactor=self.clock, limits=HttpLimits(**limits), on_refused=self.refused.append
        )
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", address, 54321), lenient=True)
        self.switch = self.site.buildProtocol(None)
        self.switch.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """What is answered in this turn of the reactor and those that follow at once."""
        self.transport.clear()
        self.switch.dataReceived(data)
        self.clock.advance(0)
        return bytes(self.transport.value())

    def answers(self, data: bytes) -> list[dict[str, Any]]:
        """The bodies of the answers to `data`, which are JSON."""
        answered = self.send(data)
        return [json.loads(part.split(b"\r\n\r\n")[1]) for part in answered.split(b"HTTP/1.1 ")[1:]]

    def lose(self) -> None:
        if self.switch in self.site.connections:
            self.switch.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def connect() -> Iterator[Any]:
    """``connect(**limits)``: a connection that is lost at the end of the test, and must leave no call behind."""
    connections: list[Connection] = []

    def connect(**limits: Any) -> Connection:
        connections.append(Connection(**limits))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.lose()
        assert connection.clock.getDelayedCalls() == []


def refusal(answer: bytes) -> tuple[int, str]:
    """Status and code of a refusal, whose form is checked."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    assert fields[b"connection"] == b"close"
    assert fields[b"server"] == b"twisted_chat"
    assert fields[b"content-type"] == b"application/json"
    assert int(fields[b"content-length"]) == len(body)
    assert body.endswith(b"}\n")
    assert body.count(b"\n") == 1
    said = json.loads(body)["error"]
    assert said["message"]
    return int(status.split()[1]), said["code"]


# Requests


def test_get(connect: Any) -> None:
    answer = connect().send(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Server: twisted_chat\r\n" in answer
    assert b"TwistedWeb" not in answer


def test_pipelined_requests_are_served_one_in_a_turn_and_the_first_at_once(connect: Any) -> None:
    one = connect()
    other = Connection(one.site, address="192.0.2.8")
    one.transport.clear()
    one.switch.dataReceived(GET * 3)
    assert one.transport.value().count(b"HTTP/1.1 200") == 1
    # Another connection is served as it comes meanwhile.
    other.switch.dataReceived(GET)
    assert other.transport.value().count(b"HTTP/1.1 200") == 1
    one.clock.advance(0)
    assert one.transport.value().count(b"HTTP/1.1 200") == 3
    other.lose()


def test_a_connection_that_is_lost_while_its_request_waits_is_forgotten(connect: Any) -> None:
    connection = connect()
    connection.switch.dataReceived(GET * 3)
    assert len(connection.site.turns) == 1
    connection.lose()
    assert len(connection.site.turns) == 0
    connection.clock.advance(0)
    assert connection.refused == []


def test_nothing_more_is_read_while_requests_wait(connect: Any) -> None:
    connection = connect()
    connection.switch.dataReceived(GET * 2_000)
    assert connection.transport.producerState == "paused"
    connection.clock.advance(0)
    assert connection.transport.value().count(b"HTTP/1.1 200") == 2_000
    assert connection.transport.producerState == "producing"


def test_requests_one_after_another_and_pipelined(connect: Any) -> None:
    connection = connect()
    for _ in range(3):
        assert len(connection.answers(GET)) == 1
    assert len(connection.answers(GET * 5)) == 5
    assert not connection.transport.disconnecting


def test_post(connect: Any) -> None:
    connection = connect()
    (fixed,) = connection.answers(POST + b"Content-Length: 5\r\n\r\nhello")
    (chunked,) = connection.answers(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n")
    assert fixed["body"] == chunked["body"] == "hello"


def test_expect_continue(connect: Any) -> None:
    connection = connect()
    expecting = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    assert connection.send(expecting % 2) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"200 OK" in connection.send(b"hi")
    assert refusal(connection.send(expecting % 65_537)) == (413, "body_too_large")


def test_old_client(connect: Any) -> None:
    connection = connect()
    assert b" 200 OK\r\n" in connection.send(b"GET / HTTP/1.0\r\n\r\n")
    assert connection.transport.disconnecting


def test_target_with_a_host_in_it(connect: Any) -> None:
    connection = connect()
    head = b"GET %s HTTP/1.1\r\nHost: other.test\r\n\r\n"
    assert connection.answers(head % b"http://chat.test:81/a?b")[0] | {"body": ""} == {
        "uri": "/a?b",
        "host": "chat.test:81",
        "body": "",
    }
    assert connection.answers(head % b"HTTPS://chat.test")[0]["uri"] == "/"
    assert connection.answers(head % b"http://chat.test?b")[0]["uri"] == "/?b"


def test_failing_resource_answers_500_and_the_connection_lives(connect: Any, logged_failures: LoggedFailures) -> None:
    connection = connect()
    (said,) = connection.answers(GET.replace(b"/ ", b"/broken ", 1))
    assert said["error"]["code"] == "internal"
    assert len(connection.answers(GET)) == 1
    connection.send(GET.replace(b"/ ", b"/half ", 1))
    assert connection.transport.disconnected
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_failure_after_the_client_left_is_only_logged(connect: Any, logged_failures: LoggedFailures) -> None:
    connection = connect()
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    (request,) = connection.tree.requests
    connection.lose()
    request.processingFailed(Failure(ZeroDivisionError()))
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


# Long answers


def test_event_stream_lives_and_ends(connect: Any) -> None:
    connection = connect()
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    (request,) = connection.tree.requests
    for _ in range(50):
        connection.clock.advance(IDLE)
        connection.transport.clear()
        request.write(b"data: 1\n\n")
        assert b"data: 1\n\n" in connection.transport.value()
    request.finish()
    assert connection.tree.ends == [None]
    assert not connection.transport.disconnecting
    assert len(connection.answers(GET)) == 1


def test_client_that_leaves_ends_the_request(connect: Any) -> None:
    connection = connect()
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    connection.lose()
    (end,) = connection.tree.ends
    assert end.check(ConnectionDone)


def test_full_transport_pauses_the_writer_for_as_long_as_it_bears(connect: Any) -> None:
    connection = connect()
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    (request,) = connection.tree.requests
    writer = Writer()
    connection.transport.producer.pauseProducing()
    request.registerProducer(writer, True)
    connection.transport.producer.pauseProducing()
    connection.clock.advance(1_000)
    assert not connection.transport.disconnected
    connection.transport.producer.resumeProducing()
    assert writer.calls == ["pause", "resume"]
    request.unregisterProducer()
    request.finish()
    assert len(connection.answers(GET)) == 1


def test_answers_that_are_not_taken_are_bounded_over_all_connections(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect()
    waiting = WaitingBytes(connection.clock, 250_000)
    monkeypatch.setattr(connection.site, "waiting_bytes", waiting)
    waiting.add(connection.switch)

    def wait_for_client(size: int) -> None:
        """One answer is more than the system takes at once."""
        connection.send(GET.replace(b"/ ", b"/later ", 1))
        request = connection.tree.requests[-1]
        request.setHeader("content-length", b"%d" % size)
        request.write(b"x" * size)
        connection.transport.producer.pauseProducing()
        connection.transport.dataBuffer = b"x" * size  # as a socket's; TLS says in the middle of it that it is full
        request.finish()

    for _ in range(5):  # one after the other is never much
        wait_for_client(100_000)
        assert waiting.measure() == 100_000
        connection.transport.dataBuffer = b""
        connection.transport.producer.resumeProducing()
        assert waiting.measure() == 0
    connection.clock.advance(CHECK_SECONDS)
    assert connection.refused == []
    wait_for_client(250_001)
    connection.clock.advance(CHECK_SECONDS)
    assert connection.transport.disconnected
    assert connection.refused == ["stalled"]


def test_answer_that_is_not_taken_is_cut_off(connect: Any) -> None:
    connection = connect()
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    connection.tree.requests[0].write(b"x" * 100_000)
    for _ in range(3):
        connection.transport.producer.pauseProducing()
        connection.clock.advance(IDLE - 1)
        connection.transport.producer.resumeProducing()
        connection.clock.advance(IDLE - 1)
    assert connection.refused == []
    connection.transport.producer.pauseProducing()
    connection.clock.advance(IDLE)
    assert connection.transport.disconnected
    assert connection.refused == ["stalled"]


def take_now_and_then(connection: Any) -> list[Uptake]:
    """Make the system tell of a client that takes what waits; the list has what it tells next."""
    told = [Uptake(0, pending=True)]
    connection.transport.uptake = lambda: told[0]
    return told


def test_answer_of_which_the_system_of_the_client_takes_something_goes_on(connect: Any) -> None:
    connection = connect()
    told = take_now_and_then(connection)
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    connection.tree.requests[0].write(b"x" * 100_000)
    connection.transport.producer.pauseProducing()
    for number in range(1, 4):
        connection.clock.advance(IDLE - 1)
        told[:] = [Uptake(number, pending=True)]
        connection.clock.advance(1)
    assert not connection.transport.disconnected
    connection.clock.advance(IDLE)
    assert connection.refused == ["stalled"]


def test_last_answer_of_which_the_system_of_the_client_takes_something_goes_on(connect: Any) -> None:
    connection = connect()
    told = take_now_and_then(connection)
    connection.send(GET.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    assert connection.transport.disconnecting
    for number in range(1, 4):
        told[:] = [Uptake(number, pending=True)]
        connection.clock.advance(IDLE)
        assert not connection.transport.disconnected
    connection.clock.advance(IDLE)
    assert connection.transport.disconnected


# Limits


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /" + b"x" * 8_192 + b" HTTP/1.1\r\n", (414, "target_too_long")),
        (b"GET /" + b"x" * 20_000, (414, "target_too_long")),
        (GET[:-2] + b"x: " + b"y" * 16_384 + b"\r\n", (431, "header_too_large")),
        (GET[:-2] + b"x: " + b"y" * 20_000, (431, "header_too_large")),
        (GET[:-2] + b"x: y\r\n" * 101 + b"\r\n", (431, "header_too_large")),
        (GET[:-2] + b"x: y\r\n" + b" folded\r\n" * 2_000 + b"\r\n", (431, "header_too_large")),
        (POST + b"Content-Length: 65537\r\n\r\n", (413, "body_too_large")),
        (POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", (413, "body_too_large")),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n10001\r\n" + b"x" * 65_537, (413, "body_too_large")),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 65_537, (413, "body_too_large")),
    ],
)
def test_too_much(connect: Any, sent: bytes, expected: tuple[int, str]) -> None:
    connection = connect()
    assert refusal(connection.send(sent)) == expected
    assert connection.transport.disconnecting
    assert connection.refused == [expected[1]]
    # Whatever follows is not looked at.
    assert connection.send(b"x" * 100_000 + GET) == b""
    assert connection.refused == [expected[1]]
    connection.clock.advance(5)
    assert connection.transport.disconnected


def test_just_as_much_as_allowed(connect: Any) -> None:
    connection = connect()
    line = b"GET /" + b"x" * (8_192 - 14) + b" HTTP/1.1\r\n"
    assert len(connection.answers(line + b"Host: a\r\n\r\n")) == 1
    fields = b"Host: a\r\nx: " + b"y" * (16_384 - 14) + b"\r\n\r\n"
    assert len(connection.answers(b"GET / HTTP/1.1\r\n" + fields)) == 1
    assert len(connection.answers(GET[:-2] + b"x: y\r\n" * 99 + b"\r\n")) == 1
    whole = POST + b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + b"x" * 65_536 + b"\r\n0\r\n\r\n"
    (answer,) = connection.answers(whole)
    assert len(answer["body"]) == 65_536
    assert connection.refused == []


@pytest.mark.parametrize("coding", [b"identity", b"gzip, chunked", b"xchunked", b"gzip", b"Deflate,chunked"])
def test_unknown_transfer_coding(connect: Any, coding: bytes) -> None:
    connection = connect()
    assert refusal(connection.send(POST + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % coding)) == (
        501,
        "not_implemented",
    )
    assert connection.refused == ["not_implemented"]


@pytest.mark.parametrize("expected", [b"200-ok", b"100-continue, x", b"100-continue\r\nExpect: 100-continue"])
def test_unknown_expectation(connect: Any, expected: bytes) -> None:
    for head in (GET[:-2], POST + b"Content-Length: 2\r\n"):
        answer = connect().send(head + b"Expect: %b\r\n\r\n" % expected)
        assert refusal(answer) == (417, "expectation_failed")


def test_http_1_0_knows_no_expectations(connect: Any) -> None:
    head = b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: x\r\n\r\n"
    connection = connect()
    assert connection.send(head) == b""
    assert b"200 OK" in connection.send(b"hi")


@pytest.mark.parametrize("target", ["/chat/caf\u00e9", "/chat/lobby?handle=caf\u00e9"])
def test_utf8_that_is_not_encoded(connect: Any, target: str) -> None:
    answer = connect().send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert refusal(answer) == (400, "malformed")
    assert b"%C3%A9" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        GET[:-2] + b"x: y\r\n" * 99 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * (16_384 - 14) + b"\r\n\r\n",
    ],
    ids=["no fields", "fields", "bytes"],
)
@pytest.mark.parametrize("last", range(6))
def test_head_in_two_pieces(connect: Any, head: bytes, last: int) -> None:
    connection = connect()
    at = len(head) - last
    answered = connection.send(head[:at]) + connection.send(head[at:])
    assert answered.count(b" 200 OK\r\n") == 1
    assert connection.refused == []


def test_folded_field_is_one(connect: Any) -> None:
    connection = connect()
    connection.send(b"GET /later HTTP/1.1\r\nHost: a\r\nx: a\r\n  b\r\n\tc\r\n\r\n")
    (request,) = connection.tree.requests
    assert request.requestHeaders.getRawHeaders(b"x") == [b"a b c"]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/2.0\r\n",
        b"G@T / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1, 1\r\n\r\nx",
        # What two servers in a row could read as different requests.
        POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n",
        # Lines that end with LF alone, where they are noticed at once and where only a part has come.
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"\r\n", b"\n", 1),
        b"GET / HTTP/1.1\n",
        GET[:-2] + b"x: y\nz: y\r\n\r\n",
        GET[:-2] + b"x: y\n\n",
        # UTF-8 that is not encoded.
        "GET /chat/caf\u00e9 HTTP/1.1\r\nHost: a.example\r\n\r\n".encode(),
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET xchat/lobby HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"OPTIONS ** HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"CONNECT a.example:22 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ],
)
def test_malformed(connect: Any, sent: bytes) -> None:
    connection = connect()
    assert refusal(connection.send(sent + GET)) == (400, "malformed")
    assert connection.transport.disconnecting
    assert connection.refused == ["malformed"]


def test_refusal_after_good_requests(connect: Any) -> None:
    connection = connect()
    answered = connection.send(GET + b"nonsense\r\n" + GET)
    assert answered.count(b"HTTP/1.1 200 OK") == 1
    assert answered.count(b"HTTP/1.1 400 Bad Request") == 1


# Deadlines


def test_head_must_arrive_in_time_however_it_trickles(connect: Any) -> None:
    connection = connect()
    for byte in GET[:-1]:
        connection.send(bytes([byte]))
        connection.clock.advance(0.2)
    connection.transport.clear()
    connection.clock.advance(10 - 0.2 * (len(GET) - 1))
    assert refusal(connection.transport.value()) == (408, "handshake_timeout")
    assert connection.refused == ["handshake_timeout"]


def test_later_heads_have_as_long_from_their_first_line(connect: Any) -> None:
    connection = connect()
    connection.send(GET)
    connection.clock.advance(30)  # so that it is not the idle timeout that ends it
    connection.send(GET[:-2])
    connection.clock.advance(9.9)
    assert not connection.transport.disconnecting
    connection.transport.clear()
    connection.clock.advance(0.2)
    assert refusal(connection.transport.value()) == (408, "handshake_timeout")


def test_body_must_arrive_in_time_however_it_trickles(connect: Any) -> None:
    connection = connect()
    connection.send(POST + b"Content-Length: 1000\r\n\r\n")
    for _ in range(int(IDLE) - 1):
        connection.clock.advance(1)
        assert connection.send(b"x") == b""
    connection.transport.clear()
    connection.clock.advance(1)
    assert refusal(connection.transport.value()) == (408, "body_timeout")
    assert connection.refused == ["body_timeout"]


def test_idle_connection_is_closed_without_a_word(connect: Any) -> None:
    connection = connect()
    connection.send(GET)
    connection.clock.advance(30)
    connection.send(GET)
    connection.transport.clear()
    connection.clock.advance(IDLE - 0.1)
    # Part of a line is no request.
    connection.send(b"GET /")
    assert not connection.transport.disconnecting
    connection.clock.advance(0.2)
    assert connection.transport.disconnecting
    assert connection.transport.value() == b""
    assert connection.refused == []


def test_client_that_does_not_take_its_last_answer_is_cut_off(connect: Any) -> None:
    connection = connect()
    connection.send(GET[:-2] + b"Connection: close\r\n\r\n")
    assert connection.transport.disconnecting
    connection.clock.advance(IDLE - 1)
    assert not connection.transport.disconnected
    connection.clock.advance(1)
    assert connection.transport.disconnected


# Shutdown


def test_shutdown_closes_an_idle_connection(connect: Any) -> None:
    connection = connect()
    connection.send(GET)
    connection.site.shutdown()
    assert connection.transport.disconnecting


def test_shutdown_waits_for_the_answer_under_way(connect: Any) -> None:
    connection = connect()
    connection.send(GET.replace(b"/ ", b"/later ", 1))
    finished = connection.site.shutdown()
    assert not connection.transport.disconnecting
    (request,) = connection.tree.requests
    request.finish()
    assert b"Connection: close\r\n" in connection.transport.value()
    assert connection.transport.disconnecting
    connection.lose()
    assert finished.called


@pytest.mark.parametrize("cut", [3, 20, len(POST) + 5, len(POST) + 22])
def test_shutdown_takes_the_rest_of_a_request(connect: Any, cut: int) -> None:
    whole = POST + b"Content-Length: 5\r\n\r\nhello"
    connection = connect()
    connection.send(whole[:cut])
    connection.site.shutdown()
    answer = connection.send(whole[cut:])
    assert b" 200 OK\r\n" in answer
    assert b"Connection: close\r\n" in answer
    assert connection.transport.disconnecting
