"""Histories that are written as clients take them, in memory: their bytes, their bound and their ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import InMemoryServer, Peer, read_answer
from tests.server.http.http2.conftest import Client
from tests.server.http.test_waiting import Client as Holder
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.server.http.waiting import SHARES
from twisted_chat.server.long_answers import PART, PIECE_BYTES

MakeServer = Callable[..., InMemoryServer]
KEPT = 100
TEXT = "\N{GRINNING FACE}" * 4_096
SIZE = KEPT * len(TEXT.encode())
PLENTY = Rate(1_000_000.0, 10_000_000)
LIMITS: dict[str, Any] = {
    "messages_per_address": PLENTY,
    "stored_bytes_per_address": Rate(1e9, 1_000_000_000),
    "requests_per_address": PLENTY,
}


def filled(make_server: MakeServer, answers: int = 10) -> InMemoryServer:
    """A server with a long history, of which one address may have so many answers under way."""
    share = int((answers - 0.5) * SIZE)
    server = make_server(limits=Limits(waiting_bytes=share * SHARES * PART, **LIMITS))
    for _ in range(KEPT):
        assert server.post({"handle": "ann", "message": TEXT}).status == 201
    return server


def request(path: str = f"/chat/lobby?limit={KEPT}", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: chat.example\r\n\r\n".encode()


class Slow(Peer):
    """A client whose transport is full after each write."""

    def __init__(self, server: InMemoryServer, sent: bytes, address: str = "192.0.2.7") -> None:
        super().__init__(server, address)
        server.peers.append(self)
        write = self.transport.write

        def write_and_pause(data: bytes) -> None:
            write(data)
            if self.full and self.transport.producer is not None:
                self.transport.producer.pauseProducing()

        self.full = True
        self.transport.write = write_and_pause  # type: ignore[method-assign]
        self.send(sent)

    def take(self) -> bytes:
        """Take what the transport holds, and what it is given then."""
        producer: Any = self.transport.producer
        producer.resumeProducing()
        return self.received()

    def take_all(self) -> bytes:
        self.full = False
        return self.take()


def unread(server: InMemoryServer, address: str = "192.0.2.7") -> Slow:
    return Slow(server, request(), address)


def waiting(server: InMemoryServer) -> int:
    return server.connections.waiting_bytes.measure()


def test_one_that_reads_gets_all_of_it(make_server: MakeServer) -> None:
    server = filled(make_server)
    answer = server.ask("GET", f"/chat/lobby?limit={KEPT}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body) > SIZE
    assert [message["message"] for message in answer.json["messages"]] == [TEXT] * KEPT
    assert waiting(server) == 0
    head = server.ask("HEAD", f"/chat/lobby?limit={KEPT}")
    assert (head.headers["content-length"], head.body) == (answer.headers["content-length"], b"")


def test_of_an_answer_that_is_not_read_there_is_no_text(make_server: MakeServer) -> None:
    server = filled(make_server)
    peer = Slow(server, request() * 3)
    assert waiting(server) > 0.9 * SIZE
    got = peer.received()
    while got.count(b'"more"') < 3:
        came = peer.take()
        assert 0 < len(came) < 2 * PIECE_BYTES
        got += came
    got += peer.take_all()
    first, second, third = got.split(b"HTTP/1.1 200 OK\r\n")[1:]
    for part in (first, second, third):
        assert len(json.loads(part.partition(b"\r\n\r\n")[2])["messages"]) == KEPT
    assert waiting(server) == 0


def test_an_address_may_have_so_many(make_server: MakeServer) -> None:
    server = filled(make_server, answers=3)
    peers = [unread(server) for _ in range(3)]
    refused = server.ask("GET", f"/chat/lobby?limit={KEPT}")
    assert (refused.status, refused.error) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    assert server.ask("GET", f"/chat/lobby?limit={KEPT}", address="192.0.2.8").status == 200
    assert server.refusals("rate_limited") == 1
    assert server.refusals("stalled") == 0
    peers[0].close()
    assert server.ask("GET", f"/chat/lobby?limit={KEPT}").status == 200
    answer = read_answer(peers[1].take_all())
    assert len(answer.json["messages"]) == KEPT
    peers[2].close()
    assert waiting(server) == 0


def test_all_together_may_have_so_many(make_server: MakeServer) -> None:
    server = filled(make_server, answers=1)
    for number in range(SHARES):
        unread(server, f"192.0.2.{number + 10}")
    refused = server.ask("GET", f"/chat/lobby?limit={KEPT}")
    assert (refused.status, refused.error) == (503, "try_again")
    assert waiting(server) > SHARES * PART * SIZE / 4


def test_one_that_takes_nothing_is_cut(make_server: MakeServer) -> None:
    server = filled(make_server)
    peer = unread(server)
    for _ in range(4):
        server.clock.advance(server.site.limits.idle_timeout - 1)
        peer.take()
    assert not peer.transport.aborted
    server.clock.advance(server.site.limits.idle_timeout + 1)
    assert peer.transport.aborted
    assert server.refusals("stalled") == 1
    assert waiting(server) == 0


def test_one_that_is_given_up_is_cut(make_server: MakeServer) -> None:
    server = filled(make_server, answers=3)
    peers = [unread(server) for _ in range(3)]
    for _ in range(SIZE // 2 // PIECE_BYTES):
        peers[1].take()
    bound = server.connections.waiting_bytes
    others = [Holder(SIZE * 4 // 5, "192.0.2.7") for _ in range(4)]
    for other in others:
        bound.add(other)
    bound.check()
    assert [peer.transport.aborted for peer in peers] == [True, False, True], "those of which most waits"
    assert not any(other.given_up for other in others)
    assert server.refusals("stalled") == 2


@pytest.mark.parametrize("window", [0, 100_000])
def test_over_http2_too(make_server: MakeServer, window: int) -> None:
    server = filled(make_server)
    client = Client(server.site, server.clock, window=window)
    streams = [client.request("GET", f"/chat/lobby?limit={KEPT}") for _ in range(3)]
    assert 3 * (SIZE - window) < waiting(server) < 3.1 * SIZE
    channel: Any = client.switch._channel
    queued = sum(stream.queue.size for stream in channel._streams)
    assert queued < 3 * 2 * PIECE_BYTES
    client.h2.increment_flow_control_window(2**31 - 1 - 65_535)
    client.h2.increment_flow_control_window(2 * SIZE, streams[0])
    client.exchange()
    assert client.ended(streams[0])
    assert len(json.loads(client.body(streams[0]))["messages"]) == KEPT
    client.h2.reset_stream(streams[1])
    client.exchange()
    assert waiting(server) < 1.1 * SIZE
    server.clock.advance(server.site.limits.idle_timeout / 2)
    client.exchange()
    server.clock.advance(server.site.limits.idle_timeout / 2 + 1)
    client.exchange()
    assert client.reset_code(streams[2]) is not None
    assert server.refusals("stalled") == 1
    assert waiting(server) == 0
    client.lose()


def test_over_http2_behind_a_full_transport(make_server: MakeServer) -> None:
    server = filled(make_server)
    client = Client(server.site, server.clock)
    client.exchange()
    producer: Any = client.transport.producer
    producer.pauseProducing()
    client.h2.send_headers(
        1, [(":method", "GET"), (":path", "/chat/lobby"), (":scheme", "https"), (":authority", "a")], end_stream=True
    )
    client.exchange()
    assert waiting(server) > SIZE / 3
    for _ in range(4):
        server.clock.advance(server.site.limits.idle_timeout / 2)
    assert server.refusals("stalled") == 1
    assert waiting(server) < PIECE_BYTES
    client.lose()
