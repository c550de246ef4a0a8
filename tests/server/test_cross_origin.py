"""Pages of allowed sites can read every answer about a room, whoever gives it; pages of others can read none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.web.resource import Resource

from tests.server.conftest import read_answer
from tests.server.consumers import HANDSHAKE, Consumers
from tests.server.http.http2.conftest import Client
from twisted_chat.auth import Hosts, Origins
from twisted_chat.consumers.events import Say
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.server.host_resource import HostSite

SITE = "https://www.example.com"
JSON = ("content-type", "application/json")
BODY = b'{"handle": "ann", "message": "hi"}'
MakeServer = Callable[..., Any]
Fields = tuple[tuple[str, str], ...]
Ask = Callable[..., tuple[int, dict[str, str]]]


def http1(
    server: Any, method: str, path: str, *fields: tuple[str, str], body: bytes = b""
) -> tuple[int, dict[str, str]]:
    answer = server.ask(method, path, "".join(f"{name}: {value}\r\n" for name, value in fields), body)
    return answer.status, answer.headers


def http2(
    server: Any, method: str, path: str, *fields: tuple[str, str], body: bytes = b""
) -> tuple[int, dict[str, str]]:
    client = Client(server.site, server.clock)
    client.exchange()
    if len(body) > 65_535:  # more than its window lets it send
        stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "chat.test")]
        client.h2.send_headers(stream, [*pseudo, ("content-length", str(len(body))), *fields])
        client.exchange()
    else:
        stream = client.request(method, path, *fields, body=body or None)
    head = client.head(stream)
    client.lose()
    return int(head[b":status"]), {name.decode(): value.decode() for name, value in head.items()}


VERSIONS = pytest.mark.parametrize("ask", [http1, http2])


def readable(headers: dict[str, str], origin: str = SITE) -> bool:
    """Whether a browser gives an answer to a page of `origin`, with ``Retry-After``, also where it sent credentials."""
    return (
        headers.get("access-control-allow-origin") == origin
        and headers.get("access-control-allow-credentials") == "true"
        and "retry-after" in headers.get("access-control-expose-headers", "")
        and "origin" in headers["vary"]
    )


REFUSALS = pytest.mark.parametrize(
    ("status", "method", "path", "fields", "body"),
    [
        (400, "GET", "/chat/%FF", (), b""),
        (400, "GET", "/chat//lobby", (), b""),
        (400, "GET", f"/chat/{'x' * 1_000}", (), b""),
        (400, "GET", "/chat/lobby?limit=many", (), b""),
        (400, "POST", "/chat/lobby", (JSON,), b"{"),
        (405, "PUT", "/chat/lobby", (JSON,), BODY),
        (406, "GET", "/chat/lobby", (("accept", "image/png"),), b""),
        (413, "POST", "/chat/lobby", (JSON,), b"x" * 70_000),
        (415, "POST", "/chat/lobby", (("content-type", "text/plain"),), BODY),
        (417, "POST", "/chat/lobby", (JSON, ("expect", "200-ok")), BODY),
        (431, "GET", "/chat/lobby", (("x-large", "x" * 20_000),), b""),
        (431, "GET", "/chat/lobby", tuple((f"x-{number}", "") for number in range(101)), b""),
    ],
)


@VERSIONS
@REFUSALS
def test_refusals_can_be_read_by_pages_of_allowed_sites_alone(
    make_server: MakeServer, ask: Ask, status: int, method: str, path: str, fields: Fields, body: bytes
) -> None:
    server = make_server(origins=Origins([SITE]))
    found, headers = ask(server, method, path, ("origin", SITE), *fields, body=body)
    assert found == status
    assert readable(headers)
    for other in ("https://evil.example", f"{SITE}.evil.example", "null"):
        found, headers = ask(server, method, path, ("origin", other), *fields, body=body)
        assert found in {status, 403}
        assert not any(name.startswith("access-control-") for name in headers)
    found, headers = ask(server, method, path, *fields, body=body)
    assert found == status
    assert not any(name.startswith("access-control-") for name in headers)


@VERSIONS
def test_nothing_else_is_for_pages_of_other_sites(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(origins=Origins([SITE]))
    for path in ("/", "/chatter", "/api/nodes", "/nothing"):
        _, headers = ask(server, "POST", path, ("origin", SITE), JSON, body=b"x" * 70_000)
        assert not any(name.startswith("access-control-") for name in headers)


def test_an_origin_that_is_cut_off_with_its_head_is_none(make_server: MakeServer) -> None:
    server = make_server(origins=Origins([SITE]))
    peer = server.peer()
    start = f"GET /chat/lobby HTTP/1.1\r\nHost: chat.example\r\nX: {'x' * 16_384}\r\nOrigin: {SITE}"
    peer.send(f"{start}.evil.example"[: len(start) + 3].encode())
    answer = read_answer(peer.received())
    assert answer.status == 431
    assert "access-control-allow-origin" not in answer.headers


@VERSIONS
def test_a_body_that_does_not_come(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(origins=Origins([SITE]))
    head = {"origin": SITE, "content-type": "application/json", "content-length": "100"}
    wait = server.site.limits.idle_timeout + server.site.limits.ping_interval
    if ask is http1:
        peer = server.peer()
        fields = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        peer.send(f"POST /chat/lobby HTTP/1.1\r\nHost: chat.example\r\n{fields}\r\n{{".encode())
        server.clock.advance(wait)
        answer = read_answer(peer.received())
        status, headers = answer.status, answer.headers
    else:
        client = Client(server.site, server.clock)
        client.exchange()
        stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":path", "/chat/lobby"), (":scheme", "https"), (":authority", "chat.test")]
        client.h2.send_headers(stream, [*pseudo, *head.items()])
        client.send(stream, b"{")
        for _ in range(4):
            client.clock.advance(wait / 4)
            client.exchange()
        found = client.head(stream)
        client.lose()
        status, headers = int(found[b":status"]), {name.decode(): value.decode() for name, value in found.items()}
    assert status == 408
    assert readable(headers)


@VERSIONS
def test_a_rate_and_when_to_try_again(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(
        origins=Origins([SITE]), limits=Limits(requests_per_address=Rate(1.0, 10), messages_per_address=Rate(1.0, 2))
    )
    preflight = (("origin", SITE), ("access-control-request-method", "POST"))
    answers = [ask(server, "POST", "/chat/lobby", ("origin", SITE), JSON, body=BODY) for _ in range(10)]
    assert [status for status, _ in answers] == [201] * 2 + [429] * 8, "messages"
    assert all(readable(headers) for _, headers in answers)
    status, headers = ask(server, "OPTIONS", "/chat/lobby", *preflight)
    assert status == 204, "the page could not read another answer"
    assert readable(headers)
    assert server.refusals("rate_limited") == 8


@VERSIONS
def test_requests_beyond_their_rate(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(origins=Origins([SITE]), limits=Limits(requests_per_address=Rate(1.0, 10)))
    statuses = []
    for _ in range(11):
        status, headers = ask(server, "GET", "/chat/lobby", ("origin", SITE))
        statuses.append(status)
        assert readable(headers)
    assert statuses == [200] * 10 + [429]
    assert headers["retry-after"]


@VERSIONS
def test_a_host_that_is_not_ours(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(origins=Origins([SITE]))
    site = server.site.resource
    assert isinstance(site, Resource)
    server.site.resource = HostSite(site, Hosts(), server.metrics.refused)
    status, headers = ask(server, "GET", "/chat/lobby", ("origin", SITE))
    assert status == 421
    assert readable(headers)


@VERSIONS
def test_a_failure_of_ours(
    make_server: MakeServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    server = make_server(origins=Origins([SITE]))
    monkeypatch.setattr(server.hub, "history", broken)
    monkeypatch.setattr(server.admission, "identify", broken)
    status, headers = ask(server, "GET", "/chat/lobby", ("origin", SITE))
    assert status == 500
    assert readable(headers)
    assert logged_failures.flush(ZeroDivisionError)


@VERSIONS
@pytest.mark.parametrize("path", ["/chat/lobby", "/chat/%FF", "/chat//lobby"])
def test_a_preflight_is_answered_whatever_the_room_is(make_server: MakeServer, ask: Ask, path: str) -> None:
    server = make_server(origins=Origins([SITE]))
    asking = (("access-control-request-method", "POST"), ("access-control-request-headers", "content-type"))
    status, headers = ask(server, "OPTIONS", path, ("origin", SITE), *asking)
    assert status == 204
    assert readable(headers)
    assert "POST" in headers["access-control-allow-methods"]
    assert "content-type" in headers["access-control-allow-headers"]
    status, headers = ask(server, "OPTIONS", path, ("origin", "https://evil.example"), *asking)
    assert status == 403
    assert not any(name.startswith("access-control-") for name in headers)


@VERSIONS
@pytest.mark.parametrize(
    ("allowed", "origin", "answered"), [("*", SITE, "*"), ("null", "null", "null"), ("file://", "file://", "file://")]
)
def test_credentials_are_for_sites_that_are_named(
    make_server: MakeServer, ask: Ask, allowed: str, origin: str, answered: str
) -> None:
    server = make_server(origins=Origins([allowed]))
    for method, path in (("GET", "/chat/lobby"), ("GET", "/chat/%FF"), ("OPTIONS", "/chat/lobby")):
        _, headers = ask(server, method, path, ("origin", origin), ("access-control-request-method", "POST"))
        assert headers["access-control-allow-origin"] == answered
        assert "access-control-allow-credentials" not in headers


@VERSIONS
def test_a_page_of_the_servers_own_needs_none(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(origins=Origins(["*"]))
    host = "chat.example" if ask is http1 else "chat.test"
    status, headers = ask(server, "POST", "/chat/lobby", ("origin", f"https://{host}"), JSON, body=b"x" * 70_000)
    assert status == 413
    assert "access-control-allow-origin" not in headers


def allow(server: Any) -> None:
    server.admission.replace(origins=Origins([SITE]), tokens=None, api_keys=None)


@pytest.mark.parametrize(
    ("status", "headers"),
    [(403, ""), (400, "Sec-WebSocket-Key: short\r\n"), (426, "Sec-WebSocket-Version: 12\r\n")],
)
def test_handshakes_that_consumers_refuse(consumers: Consumers, status: int, headers: str) -> None:
    allow(consumers.server)
    handshake = HANDSHAKE
    for field in filter(None, headers.split("\r\n")):
        name = field.partition(":")[0]
        handshake = "".join(line for line in handshake.splitlines(keepends=True) if not line.startswith(name))
    for origin in (SITE, "https://evil.example"):
        peer = consumers.server.peer()
        peer.send(f"GET /chat/lobby HTTP/1.1\r\n{handshake}{headers}Origin: {origin}\r\n\r\n".encode())
        if consumers.queue.events:
            consumers.tell(Say({"close": True}))
            consumers.queue.events.clear()
        answer = read_answer(peer.received())
        assert answer.status in ({status} if origin == SITE else {status, 403})
        assert readable(answer.headers) == (origin == SITE)


@VERSIONS
def test_a_handshake_whose_upgrade_was_dropped(make_server: MakeServer, ask: Ask) -> None:
    server = make_server(origins=Origins([SITE]))
    status, headers = ask(server, "GET", "/chat/lobby", ("origin", SITE), ("sec-websocket-version", "13"))
    assert status == 426
    assert readable(headers)


def test_what_is_stored_can_be_read(make_server: MakeServer) -> None:
    server = make_server(origins=Origins([SITE]))
    answer = server.post(json.loads(BODY), headers=f"Origin: {SITE}\r\n")
    assert answer.status == 201
    assert readable(answer.headers)
