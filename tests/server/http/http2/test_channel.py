"""The connection: requests in and answers out, fairly, and its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from h2 import events
from h2.errors import ErrorCodes
from hyperframe.frame import (
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
)
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.conftest import LoggedFailures
from tests.server.http.http2.conftest import Echo, Later, Serve


def test_get(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    stream = client.request("GET", "/chat/x?since=1", ("cookie", "a=1"), ("cookie", "b=2"))
    assert client.ended(stream)
    assert json.loads(client.body(stream)) == {
        "method": "GET",
        "uri": "/chat/x?since=1",
        "protocol": "HTTP/2",
        "host": "chat.test",
        "cookie": "a=1; b=2",
        "secure": False,
        "body": "",
    }
    head = client.head(stream)
    assert head[b":status"] == b"200"
    assert head[b"server"] == b"twisted_chat"
    assert head[b"x-mixed-case"] == b"kept"
    assert b"connection" not in head


def test_post_in_pieces_and_with_trailers(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, head)
    client.send(stream, b"one ")
    client.send(stream, b"two")
    client.h2.send_headers(stream, [("checksum", "0")], end_stream=True)
    client.exchange()
    assert json.loads(client.body(stream))["body"] == "one two"


def test_head_has_no_body(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    stream = client.request("HEAD", "/")
    assert client.head(stream)[b"content-length"] != b"0"
    assert client.body(stream) == b""
    assert client.ended(stream)


def test_expect_continue(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, [*head, ("expect", "100-continue"), ("content-length", "2")])
    client.exchange()
    (informal,) = client.of(events.InformationalResponseReceived, stream)
    assert dict(informal.headers)[b":status"] == b"100"
    client.send(stream, b"hi", end=True)
    assert json.loads(client.body(stream))["body"] == "hi"


def test_settings_say_what_the_server_takes(serve: Serve, echo: Echo) -> None:
    client = serve(echo, streams=7, header_bytes=5_000).client()
    settings = client.h2.remote_settings
    assert settings.max_concurrent_streams == 7
    assert settings.max_header_list_size == 5_000
    assert settings.enable_connect_protocol == 1


def test_many_requests_at_once_and_one_after_another(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    streams = [client.request("GET", f"/{number}") for number in range(600)]
    for number, stream in enumerate(streams):
        assert json.loads(client.body(stream))["uri"] == f"/{number}"


def test_streams_take_turns(serve: Serve, later: Later) -> None:
    client = serve(later).client(window=1 << 20)
    client.h2.increment_flow_control_window(1 << 20)
    first, second = client.request("GET", "/"), client.request("GET", "/")
    for request in later.requests:
        request.write(b"x" * 100_000)
        request.finish()
    client.exchange()
    order = [event.stream_id for event in client.of(events.DataReceived)]
    assert order[:6] == [first, second] * 3
    assert (len(client.body(first)), len(client.body(second))) == (100_000, 100_000)


def test_one_turn_of_the_reactor_sends_a_bounded_amount(serve: Serve, later: Later) -> None:
    client = serve(later).client(window=1 << 20)
    client.h2.increment_flow_control_window(1 << 20)
    stream = client.request("GET", "/")
    later.requests[0].write(b"x" * 500_000)
    after_one_turn: list[int] = []
    client.clock.callLater(0, lambda: after_one_turn.append(len(client.transport.value())))
    client.clock.advance(0)
    assert 100_000 < after_one_turn[0] <= 128 * 1024 + 16_384 + 1_000
    client.exchange()
    assert len(client.body(stream)) == 500_000


def test_failing_resource_answers_500_and_the_connection_lives(serve: Serve, logged_failures: LoggedFailures) -> None:
    class Broken(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes:
            if request.uri == b"/late":
                request.write(b"half")
            raise ZeroDivisionError

    client = serve(Broken()).client()
    early, late = client.request("GET", "/"), client.request("GET", "/late")
    assert client.head(early)[b":status"] == b"500"
    assert client.error(early) == "internal"
    assert client.reset_code(late) == ErrorCodes.CANCEL
    assert [type(failure) for failure in logged_failures.flush()] == [ZeroDivisionError] * 2
    assert client.goaway_code() is None


def test_body_of_a_request_that_was_reset_in_the_same_read(serve: Serve) -> None:
    class Aborts(Resource):
        isLeaf = True

        def render(self, request: Request) -> int:
            channel: Any = request.channel
            channel.abortConnection()
            return NOT_DONE_YET

    client = serve(Aborts()).client()
    for _ in range(100):
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/"), (":scheme", "http")]
        client.h2.send_headers(stream, [*head, (":authority", "chat.test")])
        client.h2.send_data(stream, b"x" * 16_384)
        client.exchange()
        assert client.reset_code(stream) == ErrorCodes.CANCEL
    # 100 times 16 KiB is more than the connection's window: it was given back.
    assert client.h2.outbound_flow_control_window > 500_000


def test_stream_that_h2_does_not_let_send_is_reset(serve: Serve, later: Later) -> None:
    client = serve(later).client()
    stream = client.request("GET", "/")
    channel: Any = client.switch._receiver
    channel._h2.reset_stream(stream, ErrorCodes.CANCEL)
    later.requests[0].write(b"x")
    client.exchange()
    assert len(later.ends) == 1
    other = client.request("GET", "/")
    later.requests[1].write(b"x")
    channel._h2.reset_stream(other, ErrorCodes.CANCEL)
    client.exchange()
    assert len(later.ends) == 2
    assert client.goaway_code() is None


def test_failure_of_the_library_closes_the_connection(
    serve: Serve, later: Later, monkeypatch: pytest.MonkeyPatch, logged_failures: LoggedFailures
) -> None:
    def receive_data(data: bytes) -> None:
        raise ZeroDivisionError

    client = serve(later).client()
    client.request("GET", "/")
    channel: Any = client.switch._receiver
    monkeypatch.setattr(channel._h2, "receive_data", receive_data)
    client.switch.dataReceived(b"x")
    client.exchange()
    assert client.goaway_code() == ErrorCodes.INTERNAL_ERROR
    assert client.transport.disconnecting
    assert len(later.ends) == 1
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


# The end


def test_shutdown_of_an_idle_connection(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    client.request("GET", "/")
    site.site.shutdown()
    client.exchange()
    assert client.goaway_code() == ErrorCodes.NO_ERROR
    assert client.transport.disconnecting


def test_second_shutdown_changes_nothing(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    client.request("GET", "/")
    site.site.shutdown()
    client.clock.advance(0)
    client.transport.clear()
    site.site.shutdown()
    client.clock.advance(0)
    assert client.transport.value() == b""


def test_shutdown_lets_open_streams_finish(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    first = client.request("GET", "/1")
    finished = site.site.shutdown()
    # Sent before the client read the GOAWAY: it is served all the same.
    crossing = client.h2.get_next_available_stream_id()
    head = [(":method", "GET"), (":path", "/2"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(crossing, head, end_stream=True)
    client.switch.dataReceived(client.h2.data_to_send())
    assert len(later.requests) == 2
    site.clock.advance(0)
    # h2's client forgets its streams on GOAWAY, as h2's server would: look at the frames.
    assert b"draining" in client.transport.value()
    later.requests[0].write(b"one")
    later.requests[0].finish()
    site.clock.advance(0)
    assert b"one" in client.transport.value()
    assert not client.transport.disconnecting
    pong = PingFrame(0, opaque_data=b"draining", flags=["ACK"]).serialize()
    client.switch.dataReceived(pong)
    late = HeadersFrame(9, client.h2.encoder.encode(head))
    late.flags |= {"END_HEADERS", "END_STREAM"}
    client.transport.clear()
    client.switch.dataReceived(late.serialize())
    assert RstStreamFrame(9, ErrorCodes.REFUSED_STREAM).serialize() in client.transport.value()
    assert len(later.requests) == 2
    later.requests[1].finish()
    site.clock.advance(0)
    assert client.transport.disconnecting
    assert first != crossing
    assert not finished.called
    client.lose()
    assert finished.called


def test_client_that_says_goaway_still_gets_its_answers(serve: Serve, later: Later) -> None:
    client = serve(later).client()
    stream = client.request("POST", "/", body=b"hi")
    client.h2.close_connection()
    client.switch.dataReceived(client.h2.data_to_send())
    later.requests[0].write(b"the answer")
    client.clock.advance(0)
    assert b"the answer" in client.transport.value()
    assert not client.transport.disconnecting
    later.requests[0].finish()
    client.clock.advance(0)
    assert client.transport.disconnecting
    assert stream == 1


def test_goaway_does_not_swallow_an_answer_that_is_on_its_way(serve: Serve, later: Later) -> None:
    """A head that is lost after it was compressed would spoil every head after it."""
    client = serve(later).client()
    client.request("GET", "/")
    client.h2.close_connection()
    later.requests[0].write(b"the answer")
    client.switch.dataReceived(client.h2.data_to_send())
    kinds = []
    sent = client.transport.value()
    while sent:
        kinds.append(sent[3])
        sent = sent[9 + int.from_bytes(sent[:3]) :]
    assert kinds == [1, 0]


def test_lost_connection_ends_its_requests_and_calls(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client(window=10)
    client.request("GET", "/1")
    client.request("GET", "/2")
    later.requests[0].write(b"x" * 100)
    later.requests[1].write(b"x" * 100)
    client.lose()
    assert len(later.ends) == 2
    assert site.clock.getDelayedCalls() == []
    assert site.site.connections == set()
