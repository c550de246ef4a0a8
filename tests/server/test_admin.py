"""What machines ask, over HTTP in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Site

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.metrics import Metrics
from twisted_chat.relay.interface import Trouble, Troubles
from twisted_chat.server.admin import DRAINING, FRESH, PROBE_TIMEOUT, STARTING, Obstacle, Readiness, admin_resource


class LoggedFailures(Protocol):
    def flush(self, *kinds: type[BaseException]) -> list[BaseException]: ...


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Connection:
    """A client of the site."""

    def __init__(self, site: Site) -> None:
        self.transport = StringTransport()
        self.channel: HTTPChannel = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, method: str, path: str) -> None:
        self.channel.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())

    def response(self) -> Response | None:
        """The answer, once it is there."""
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        if not head:
            return None
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Response(int(first.split()[1]), headers, body)

    def lost(self) -> None:
        self.channel.connectionLost(Failure(ConnectionLost()))


@dataclass
class Relay:
    """A relay that answers when it is told to."""

    asked: list[Deferred[Troubles]] = field(default_factory=list)
    cancelled: int = 0

    def ready(self) -> Deferred[Troubles]:
        self.asked.append(Deferred(self._cancel))
        return self.asked[-1]

    def _cancel(self, _: Deferred[Troubles]) -> None:
        self.cancelled += 1


class Server:
    def __init__(self) -> None:
        self.clock = Clock()
        self.relay = Relay()
        self.metrics = Metrics()
        self.readiness = Readiness(self.clock, self.relay.ready, self.metrics.ready)
        # The site's own idle timers are none of this clock's business.
        self.site = Site(admin_resource(self.metrics, self.readiness), timeout=None)

    def connect(self) -> Connection:
        return Connection(self.site)

    def asking(self, path: str, method: str = "GET") -> Connection:
        connection = self.connect()
        connection.send(method, path)
        return connection

    def get(self, path: str, method: str = "GET") -> Response:
        response = self.asking(path, method).response()
        assert response is not None
        return response

    @property
    def ready(self) -> bool:
        return b"twisted_chat_ready 1.0" in self.metrics.render()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    assert server.clock.getDelayedCalls() == []


def test_healthz(server: Server) -> None:
    response = server.get("/healthz")
    assert (response.status, response.body) == (200, b"ok\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert server.relay.asked == []


def test_the_root_lists_the_pages(server: Server) -> None:
    server.readiness.draining()
    response = server.get("/")
    assert response.status == 200
    paths = [line.split()[0] for line in response.body.decode().splitlines()]
    assert [(path, server.get(path).status) for path in paths] == [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/readyz/full", 503),
        ("/metrics", 200),
    ]


def test_ready_when_started_and_the_relay_answers(server: Server) -> None:
    server.readiness.started()
    connection = server.asking("/readyz")
    assert connection.response() is None
    server.relay.asked[0].callback(())

    response = connection.response()
    assert response is not None
    assert response.status == 200
    assert response.json == {"ready": True, "state": "ready", "obstacles": []}
    assert server.ready


def test_a_part_that_does_not_work(server: Server) -> None:
    server.readiness.started()
    connection, full = server.asking("/readyz"), server.asking("/readyz/full")
    server.relay.asked[0].callback((Trouble("rooms", "some rooms do not work"),))
    for asked, status in ((connection, 200), (full, 503)):
        response = asked.response()
        assert response is not None
        assert response.status == status
        assert response.json == {
            "ready": True,
            "state": "partial",
            "obstacles": [{"code": "rooms", "message": "some rooms do not work"}],
        }
    assert server.ready
    assert b"twisted_chat_ready_in_part 1.0" in server.metrics.render()
    server.clock.advance(FRESH)
    whole = server.asking("/readyz/full")
    server.relay.asked[1].callback(())
    response = whole.response()
    assert response is not None
    assert response.status == 200
    assert b"twisted_chat_ready_in_part 0.0" in server.metrics.render()


def test_a_part_that_does_not_work_is_nothing_before_the_start_is_done(server: Server) -> None:
    connection = server.asking("/readyz")
    server.relay.asked[0].callback((Trouble("writing", "full"),))
    response = connection.response()
    assert response is not None
    assert (response.status, response.json["state"]) == (503, "not_ready")
    assert [each["code"] for each in response.json["obstacles"]] == ["starting", "writing"]


def test_not_ready_before_the_start_is_done(server: Server) -> None:
    connection = server.asking("/readyz")
    server.relay.asked[0].errback(ChatError(Reason.TRY_AGAIN, "Redis at h:6379 refuses connections"))
    response = connection.response()
    assert response is not None
    assert response.status == 503
    assert response.json == {
        "ready": False,
        "state": "not_ready",
        "obstacles": [
            {"code": "starting", "message": STARTING.message},
            {"code": "relay", "message": "Redis at h:6379 refuses connections"},
        ],
    }


def test_others_than_servers_have_their_own_words() -> None:
    starting, draining = Obstacle("starting", "not yet"), Obstacle("draining", "no more")
    readiness = Readiness(Clock(), lambda: succeed(()), lambda _, __: None, starting=starting, draining=draining)
    assert results(readiness.check()) == [(starting,)]
    readiness.draining()
    assert results(readiness.check()) == [(draining,)]


def test_the_end_of_the_start_is_seen_at_once() -> None:
    announced: list[tuple[bool, bool]] = []
    readiness = Readiness(Clock(), lambda: succeed(()), lambda *verdict: announced.append(verdict))
    assert results(readiness.check()) == [(STARTING,)]
    readiness.started()
    assert results(readiness.check()) == [()]
    assert announced == [(False, False), (True, False)]


def test_a_relay_that_does_not_answer(server: Server) -> None:
    server.readiness.started()
    connection = server.asking("/readyz")
    server.clock.advance(PROBE_TIMEOUT - 0.1)
    assert connection.response() is None
    server.clock.advance(0.1)

    response = connection.response()
    assert response is not None
    assert response.status == 503
    assert response.json["obstacles"] == [{"code": "relay", "message": "the relay did not answer within 2 seconds"}]
    assert server.relay.cancelled == 1
    assert not server.ready


def test_one_probe_for_everyone(server: Server) -> None:
    server.readiness.started()
    connections = [server.asking("/readyz") for _ in range(5)]
    assert len(server.relay.asked) == 1
    server.relay.asked[0].callback(())
    responses = [connection.response() for connection in connections]
    assert [response.status for response in responses if response] == [200] * 5

    server.clock.advance(FRESH - 0.1)
    assert server.get("/readyz").status == 200
    assert len(server.relay.asked) == 1

    server.clock.advance(0.1)
    again = server.asking("/readyz")
    assert len(server.relay.asked) == 2
    server.relay.asked[1].errback(ChatError(Reason.TRY_AGAIN, "gone"))
    response = again.response()
    assert response is not None
    assert response.status == 503
    assert not server.ready


def test_a_clock_set_back_does_not_keep_an_answer(server: Server) -> None:
    server.readiness.started()
    server.clock.advance(100.0)
    server.asking("/readyz")
    server.relay.asked[0].callback(())
    server.clock.rightNow = 50.0
    server.asking("/readyz")
    assert len(server.relay.asked) == 2
    server.relay.asked[1].callback(())


def test_a_probe_may_be_a_coroutine() -> None:
    async def probe() -> Troubles:
        return await asked

    asked: Deferred[Troubles] = Deferred()
    announced: list[tuple[bool, bool]] = []
    readiness = Readiness(Clock(), probe, lambda *verdict: announced.append(verdict))
    readiness.started()
    found = results(readiness.check())
    assert found == []
    asked.callback(())
    assert found == [()]
    assert announced == [(True, False)]


def test_a_probe_that_breaks_is_logged(logged_failures: LoggedFailures) -> None:
    announced: list[tuple[bool, bool]] = []
    for probe in (lambda: fail(ZeroDivisionError("broken")), lambda: 1 / 0):
        readiness = Readiness(Clock(), probe, lambda *verdict: announced.append(verdict))  # type: ignore[arg-type]  # 1 / 0 never returns
        readiness.started()
        ((obstacle,),) = results(readiness.check())
        assert obstacle == Obstacle("relay", "asking the relay went wrong; the log says how")
    assert announced == [(False, False), (False, False)]
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_draining_is_not_ready_and_asks_nobody(server: Server) -> None:
    server.readiness.started()
    waiting = server.asking("/readyz")
    server.readiness.draining()
    late = server.asking("/readyz")

    for connection in (waiting, late):
        response = connection.response()
        assert response is not None
        assert response.status == 503
        assert response.json["obstacles"] == [{"code": "draining", "message": DRAINING.message}]
    assert len(server.relay.asked) == server.relay.cancelled == 1
    assert not server.ready
    assert server.get("/healthz").status == 200


def test_a_client_that_goes_away_takes_no_other_with_it(server: Server) -> None:
    server.readiness.started()
    gone, stays = server.asking("/readyz"), server.asking("/readyz")
    gone.lost()
    assert server.relay.cancelled == 0
    server.relay.asked[0].callback(())
    assert gone.response() is None
    response = stays.response()
    assert response is not None
    assert response.status == 200


def test_metrics_with_the_readiness_of_now(server: Server) -> None:
    server.readiness.started()
    server.metrics.connected("websocket")
    connection = server.asking("/metrics")
    server.relay.asked[0].callback(())
    response = connection.response()
    assert response is not None
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'twisted_chat_connections{transport="websocket"} 1.0\n' in response.body
    assert b"twisted_chat_ready 1.0\n" in response.body


def test_metrics_come_although_the_relay_does_not(server: Server) -> None:
    connection = server.asking("/metrics")
    server.clock.advance(PROBE_TIMEOUT)
    response = connection.response()
    assert response is not None
    assert response.status == 200
    assert b"twisted_chat_ready 0.0\n" in response.body


def test_head_is_get_without_the_body(server: Server) -> None:
    server.readiness.draining()
    for path in ("/", "/healthz", "/readyz", "/nothing"):
        get, head = server.get(path), server.get(path, "HEAD")
        assert head.body == b""
        assert head.status == get.status
        assert head.headers["content-length"] == str(len(get.body))
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "/healthz/x", "/metrics/x", "/readyz/..", "//healthz"])
def test_other_paths_are_not_found(server: Server, path: str) -> None:
    response = server.get(path)
    assert response.status == 404
    assert response.json["error"]["code"] == "not_found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics"])
def test_only_get_and_head(server: Server, path: str, method: str) -> None:
    response = server.get(path, method)
    assert response.status == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert response.json["error"]["code"] == "method_not_allowed"
    assert server.relay.asked == []


def test_a_page_that_breaks_is_a_500(
    server: Server, logged_failures: LoggedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> bytes:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(server.metrics, "render", broken)
    server.readiness.draining()
    response = server.get("/metrics")
    assert response.status == 500
    assert response.json["error"]["code"] == "internal"
    assert b"secret" not in response.body
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def results(deferred: Deferred[tuple[Obstacle, ...]]) -> list[tuple[Obstacle, ...]]:
    """What it fired with, as soon as it has."""
    found: list[tuple[Obstacle, ...]] = []
    deferred.addCallback(found.append)
    return found
