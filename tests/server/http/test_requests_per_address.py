"""The rate of requests of one address, over HTTP/1.1: what counts, what does not, and what becomes of more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twisted_chat.auth import ApiKeys
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.server.http.switch import PREFACE

MakeServer = Callable[..., Any]
API_KEY = "k" * 40
ADDRESS, OTHER = "192.0.2.7", "198.51.100.1"
GET = b"GET /static/chat.css HTTP/1.1\r\nHost: chat.example\r\n\r\n"
SOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
def api_keys(tmp_path: Path) -> ApiKeys:
    (tmp_path / "keys").write_text(API_KEY + "\n")
    (tmp_path / "keys").chmod(0o600)
    return ApiKeys.from_file(tmp_path / "keys")


def limited(make_server: MakeServer, per_second: float = 1.0, burst: int = 2, **fields: Any) -> Any:
    return make_server(limits=Limits(requests_per_address=Rate(per_second, burst)), **fields)


ASKED = {
    "the page": ("GET", "/", ""),
    "a file": ("HEAD", "/static/chat.css", ""),
    "nothing that is there": ("GET", "/nothing", ""),
    "a room that is none": ("GET", "/chat/" + "x" * 1_000, ""),
    "a method that is none": ("BREW", "/chat/lobby", ""),
    "the history": ("GET", "/chat/lobby", ""),
    "an event stream": ("GET", "/chat/lobby", "Accept: text/event-stream\r\n"),
    "a WebSocket": ("GET", "/chat/lobby", SOCKET),
    "a WebSocket with a bad handshake": ("GET", "/chat/lobby", SOCKET.replace("dGhl", "")),
    "a post that is none": ("POST", "/chat/lobby", ""),
    "a wrong key": ("GET", "/chat/lobby", "X-API-Key: wrong\r\n"),
    "what is no HTTP": ("GET", "no path", ""),
    "two hosts": ("GET", "/", "Host: another.example\r\n"),
}


@pytest.mark.parametrize(("method", "path", "headers"), ASKED.values(), ids=ASKED.keys())
def test_whatever_is_asked_counts(make_server: MakeServer, method: str, path: str, headers: str) -> None:
    server = limited(make_server)
    for _ in range(2):
        assert server.ask(method, path, headers).status != 429
    refused = server.ask("GET", "/static/chat.css")
    assert (refused.status, refused.error) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert server.ask("GET", "/static/chat.css", address=OTHER).status == 200
    server.clock.advance(1)
    assert server.ask("GET", "/static/chat.css").status == 200
    assert server.refusals("rate_limited") == 1


BARREN = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost:",
    "half a preface": PREFACE[:10],
    "a preface and SETTINGS": PREFACE + bytes(3) + b"\x04" + bytes(5),
    "TLS": b"\x16\x03\x01",
}


@pytest.mark.parametrize("first", BARREN.values(), ids=BARREN.keys())
def test_a_connection_on_which_nothing_is_asked_counts(make_server: MakeServer, first: bytes) -> None:
    server = limited(make_server)
    for _ in range(2):
        peer = server.peer()
        peer.send(first)
        peer.close()
    assert server.ask("GET", "/").status == 429


def test_what_is_answered_by_its_head_counts(make_server: MakeServer) -> None:
    server = limited(make_server)
    head = b"POST /chat/lobby HTTP/1.1\r\nHost: chat.example\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
    for _ in range(2):
        peer = server.peer()
        peer.send(head)
        assert peer.received().startswith(b"HTTP/1.1 415")
    late = server.peer()
    late.send(head)
    assert late.received() == b""
    late.send(b"wrong, too")
    assert late.received().startswith(b"HTTP/1.1 429")


def test_requests_with_a_key_of_the_server_do_not_count(make_server: MakeServer, api_keys: ApiKeys) -> None:
    server = limited(make_server, api_keys=api_keys)
    key = f"X-API-Key: {API_KEY}\r\n"
    for _ in range(10):
        assert server.post({"handle": "ann", "message": "hi"}, headers=key).status == 201
    for _ in range(2):
        assert server.ask("GET", "/chat/lobby", "X-API-Key: wrong\r\n").status == 401
    assert server.ask("GET", "/chat/lobby", "X-API-Key: wrong\r\n").status == 429
    assert server.post({"handle": "ann", "message": "hi"}, headers=key).status == 201


def test_behind_a_proxy_each_client_has_its_rate_and_holds_nobody_up(make_server: MakeServer) -> None:
    server = limited(make_server, trusted_proxies=1)

    def ask(address: str) -> int:
        status: int = server.ask("GET", "/", f"X-Forwarded-For: {address}\r\n").status
        return status

    assert [ask(ADDRESS) for _ in range(12)] == [200] * 2 + [429] * 10
    assert [ask(OTHER) for _ in range(3)] == [200] * 2 + [429]


def test_a_client_that_does_not_listen_to_refusals_has_to_wait(make_server: MakeServer) -> None:
    server = limited(make_server)
    peer = server.peer()
    peer.send(GET * 3)
    answers = peer.received()
    assert (answers.count(b"HTTP/1.1 200"), answers.count(b"HTTP/1.1 429")) == (2, 1)
    peer.send(GET * 1_000)
    assert peer.received() == b""
    assert server.site.waiting() == 1
    assert peer.transport.producerState == "paused"
    for _ in range(2):
        server.clock.advance(1)
        assert peer.received().count(b"HTTP/1.1 200") == 1
    peer.close()
    assert server.site.waiting() == 0


def test_new_connections_of_an_address_that_asked_too_much_are_not_read_from(make_server: MakeServer) -> None:
    server = limited(make_server)
    for _ in range(2):
        server.ask("GET", "/")
    late = server.peer()
    assert late.transport.producerState == "paused"
    assert server.site.waiting() == 1
    server.clock.advance(1)
    assert late.transport.producerState == "producing"
    assert server.site.waiting() == 0
    server.clock.advance(2)
    late.send(GET)
    assert late.received().startswith(b"HTTP/1.1 200")


def test_a_connection_that_waits_in_vain_is_closed_in_time(make_server: MakeServer) -> None:
    server = limited(make_server, per_second=0.01)
    for _ in range(2):
        server.ask("GET", "/")
    late = server.peer()
    server.clock.advance(server.site.limits.handshake_timeout)
    assert late.transport.aborted
    assert server.refusals("handshake_timeout") == 1
    assert server.site.waiting() == 0


def test_more_than_may_wait_is_cut_off(make_server: MakeServer) -> None:
    server = limited(make_server, per_second=0.1, burst=1)
    peers = [server.peer() for _ in range(4)]
    for peer in peers:
        peer.send(GET)
    assert [peer.received()[:12] for peer in peers] == [b"HTTP/1.1 200", b"HTTP/1.1 429", b"", b"HTTP/1.1 429"]
    assert peers[3].transport.disconnecting or not peers[3].transport.connected
    # There is no room for one more either.
    assert server.peer().transport.aborted
    assert server.refusals("rate_limited") == 3
