"""Requests for a host of the server's, and for others, of every kind."""

from __future__ import annotations

import pytest
from twisted.web.resource import Resource

from tests.server.conftest import InMemoryServer
from twisted_chat.auth import Hosts
from twisted_chat.server.host_resource import HostSite

# What a browser sends for a page whose name was made to lead here.
REBOUND = "Origin: http://chat.example\r\n"


@pytest.fixture
def hosts(server: InMemoryServer) -> HostSite:
    """The server's, with `Hosts` of its own. Its clients ask for chat.example."""
    site = server.site.resource
    assert isinstance(site, Resource)
    server.site.resource = hosts = HostSite(site, Hosts(), server.metrics.refused)
    return hosts


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/chat/lobby", ""),
        ("GET", "/chat/lobby", "Accept: text/event-stream\r\n"),
        ("GET", "/chat/lobby", "Accept: text/html\r\n"),
        ("OPTIONS", "/chat/lobby", ""),
        ("GET", "/", ""),
        ("GET", "/static/chat-client.js", ""),
        ("GET", "/api/nodes", "X-API-Key: x\r\n"),
        ("GET", "/nothing", ""),
        ("GET", "http://chat.example/chat/lobby", ""),
        ("DELETE", "/", ""),
    ],
)
def test_nothing_is_answered_to_another_host(
    server: InMemoryServer, hosts: HostSite, method: str, path: str, headers: str
) -> None:
    answer = server.ask(method, path, REBOUND + headers)
    assert (answer.status, answer.error) == (421, "host_not_allowed")
    assert answer.json["error"]["message"].startswith("this server does not answer to the host chat.example; its")
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    assert server.refusals("host_not_allowed") == 1


def test_nothing_is_stored_and_no_socket_opened(server: InMemoryServer, hosts: HostSite) -> None:
    assert server.post({"handle": "eve", "message": "hi"}, headers=REBOUND).status == 421
    socket = server.connect(headers=REBOUND)
    assert (socket.answer.status, socket.answer.error) == (421, "host_not_allowed")
    assert server.refusals("host_not_allowed") == 2
    hosts.hosts = Hosts(["chat.example"])
    assert server.ask("GET", "/chat/lobby").json["messages"] == []
    assert server.post({"handle": "ann", "message": "hi"}, headers=REBOUND).status == 201
    assert server.connect("/chat/lobby?history=1", headers=REBOUND).messages() == ["hi"]


def test_the_target_of_a_request_counts_before_its_host(server: InMemoryServer, hosts: HostSite) -> None:
    """RFC 9112 section 3.2.2."""
    peer = server.peer()
    peer.send(b"GET http://localhost/chat/lobby HTTP/1.1\r\nHost: chat.example\r\n\r\n")
    assert peer.received().startswith(b"HTTP/1.1 200 ")
    peer.send(b"GET http://chat.example/chat/lobby HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert peer.received().startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
    peer.send(b"GET /chat/lobby HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert peer.received().startswith(b"HTTP/1.1 200 "), "the connection stays"


def test_a_head_is_answered_without_a_body(server: InMemoryServer, hosts: HostSite) -> None:
    answer = server.ask("HEAD", "/chat/lobby")
    assert (answer.status, answer.body) == (421, b"")
