"""What a request on HTTP/2 may be, and how long things may take."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from h2 import events
from h2.errors import ErrorCodes

from tests.server.http.http2.conftest import Client, Echo, Later, Serve
from twisted_chat.server.http.http2.channel import FRAMES_AT_ONCE, HEADS_AT_ONCE, HEADS_IN_TURN
from twisted_chat.server.http.uptake import Uptake


def start(client: Client) -> int:
    """Begin a GET, of which nothing is passed on yet."""
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        stream, [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "chat.test")], end_stream=True
    )
    return stream


def test_body_over_the_limit_by_its_length(serve: Serve, echo: Echo) -> None:
    site = serve(echo, body_bytes=100)
    client = site.client()
    stream = client.request("POST", "/", ("content-length", "101"), body=b"x" * 101)
    assert client.head(stream)[b":status"] == b"413"
    assert client.error(stream) == "body_too_large"
    assert client.ended(stream)
    assert site.refused == ["body_too_large"]
    assert json.loads(client.body(client.request("POST", "/", body=b"x" * 100)))["body"] == "x" * 100


def test_body_over_the_limit_that_did_not_say_so(serve: Serve, echo: Echo) -> None:
    site = serve(echo, body_bytes=100)
    client = site.client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, head)
    client.send(stream, b"x" * 60)
    assert client.events[-1].__class__ is not events.ResponseReceived
    client.send(stream, b"x" * 60)
    assert client.head(stream)[b":status"] == b"413"
    assert client.error(stream) == "body_too_large"
    # A client that reads the answer only after its upload is not cut off.
    for _ in range(20):
        client.send(stream, b"x" * 10_000)
    client.send(stream, b"", end=True)
    assert client.reset_code(stream) is None
    assert site.refused == ["body_too_large"]


def test_refused_client_that_does_not_end_its_half_is_reset(serve: Serve, echo: Echo) -> None:
    client = serve(echo, body_bytes=100).client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, [*head, ("content-length", "1000")])
    client.exchange()
    assert client.ended(stream)
    client.clock.advance(4.9)
    client.exchange()
    assert client.reset_code(stream) is None
    client.clock.advance(0.2)
    client.exchange()
    assert client.reset_code(stream) == ErrorCodes.NO_ERROR


def test_head_over_the_limit(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    large = client.request("GET", "/", ("x", "y" * 20_000))
    many = client.request("GET", "/", *[(f"x{number}", "y") for number in range(101)])
    assert client.head(large)[b":status"] == client.head(many)[b":status"] == b"431"
    assert client.error(large) == client.error(many) == "header_too_large"
    assert client.ended(large)
    assert client.ended(many)
    assert site.refused == ["header_too_large"] * 2
    assert client.goaway_code() is None


def test_head_far_over_the_limit_ends_the_connection(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    client.request("GET", "/", ("x", "y" * 70_000))
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM
    assert client.transport.disconnecting
    assert site.refused == ["h2_abuse"]


def test_malformed_request_gets_400(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    stream = client.request("GET", "no-slash")
    assert client.head(stream)[b":status"] == b"400"
    assert client.error(stream) == "malformed"
    assert site.refused == ["malformed"]


def test_length_of_a_body_that_is_not_there_gets_400(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    stream = client.request("POST", "/", ("content-length", "1"))
    assert client.head(stream)[b":status"] == b"400"
    assert client.error(stream) == "malformed"
    assert client.body(client.request("POST", "/", ("content-length", "0")))


def test_refusal_of_head_has_no_body(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    stream = client.request("HEAD", "no-slash")
    assert client.head(stream)[b":status"] == b"400"
    assert client.body(stream) == b""
    assert client.ended(stream)


def test_conflicting_lengths_end_the_connection(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    client.request("POST", "/", ("content-length", "2"), ("content-length", "3"), body=b"hi")
    assert client.goaway_code() == ErrorCodes.PROTOCOL_ERROR
    assert site.refused == ["malformed"]


def test_streams_of_one_read_are_served_in_turns_and_the_first_at_once(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client, other = site.client(), site.client()
    channel: Any = other.switch._receiver
    channel.connection.address = "192.0.2.8"
    streams = [start(client) for _ in range(3)]
    client.switch.dataReceived(client.h2.data_to_send())
    assert len(site.site.turns) == 2
    stream = start(other)
    other.switch.dataReceived(other.h2.data_to_send())
    assert len(site.site.turns) == 2
    other.exchange()
    assert other.ended(stream)
    client.exchange()
    assert all(client.ended(stream) for stream in streams)


def test_many_heads_in_one_read_are_read_in_turns(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    streams = [start(client) for _ in range(200)]
    client.switch.dataReceived(client.h2.data_to_send())
    # All but the one that was served, and what is still to be read.
    assert len(site.site.turns) == HEADS_AT_ONCE
    assert client.transport.producerState == "paused"
    client.exchange()
    assert client.transport.producerState == "producing"
    assert all(client.ended(stream) for stream in streams)
    assert site.refused == []


def test_many_small_frames_in_one_read_are_read_in_turns(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, head)
    for _ in range(20 * FRAMES_AT_ONCE):
        client.h2.send_data(stream, b"x")
    client.h2.end_stream(stream)
    client.switch.dataReceived(client.h2.data_to_send())
    assert client.transport.producerState == "paused"
    assert len(site.site.turns) == 1, "what is still to be read"
    client.exchange()
    assert client.transport.producerState == "producing"
    assert json.loads(client.body(stream))["body"] == "x" * 20 * FRAMES_AT_ONCE
    assert site.refused == []


def test_while_others_wait_fewer_heads_are_read(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    first, second = site.client(), site.client()
    for client in (first, second):
        for _ in range(200):
            start(client)
        client.switch.dataReceived(client.h2.data_to_send())
    assert len(site.site.turns) == HEADS_AT_ONCE + HEADS_IN_TURN + 1
    second.lose()
    assert len(site.site.turns) == HEADS_AT_ONCE
    first.lose()
    assert len(site.site.turns) == 0
    site.clock.advance(0)


def test_a_stream_that_is_reset_while_it_waits_is_not_served(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    first, second = start(client), start(client)
    client.switch.dataReceived(client.h2.data_to_send())
    client.h2.reset_stream(second)
    client.exchange()
    assert len(later.requests) == 1
    assert not client.ended(first)


def test_more_streams_than_allowed_are_refused(serve: Serve, later: Later) -> None:
    """A client that did not know the limit yet, or counts otherwise, can ask again; nobody else is hurt."""
    site = serve(later, streams=3)
    client = site.client()
    client.h2.remote_settings.max_concurrent_streams = 10
    client.h2.remote_settings.acknowledge()
    first = [client.request("GET", "/") for _ in range(3)]
    fourth = client.request("GET", "/")
    assert client.reset_code(fourth) == ErrorCodes.REFUSED_STREAM
    assert site.refused == ["too_many_streams"]
    later.requests[0].finish()
    client.exchange()
    assert client.ended(first[0])
    again = client.request("GET", "/")
    assert client.reset_code(again) is None
    assert len(later.requests) == 4


# Deadlines


def test_idle_connection_is_closed(serve: Serve, echo: Echo) -> None:
    site = serve(echo, idle_timeout=60, ping_interval=30)
    client = site.client()
    client.clock.advance(30)
    client.request("GET", "/")
    client.clock.pump([30, 30])
    client.exchange()
    assert client.goaway_code() == ErrorCodes.NO_ERROR
    assert client.transport.disconnecting
    assert site.refused == []
    # As long as one is registered neither TCP nor TLS closes.
    assert client.transport.producer is None
    client.clock.advance(5)
    assert client.transport.disconnected


def test_pings_of_a_client_do_not_keep_an_idle_connection(serve: Serve, echo: Echo) -> None:
    client = serve(echo, idle_timeout=60, ping_interval=30).client()
    for _ in range(8):
        client.clock.advance(10)
        client.h2.ping(b"12345678")
        client.exchange()
        if client.goaway_code() is not None:
            break
    assert client.goaway_code() == ErrorCodes.NO_ERROR


def test_client_without_settings_is_closed(serve: Serve, echo: Echo) -> None:
    site = serve(echo, handshake_timeout=10)
    client = site.client()
    late = type(client)(site.site, site.clock)
    site.clients.append(late)
    late.switch.dataReceived(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    site.clock.advance(9.9)
    assert not late.transport.disconnecting
    site.clock.advance(0.2)
    assert late.transport.disconnecting
    assert site.refused == ["handshake_timeout"]
    assert not client.transport.disconnecting


def test_silent_stream_lives_as_long_as_the_client_answers_pings(serve: Serve, later: Later) -> None:
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client()
    stream = client.request("GET", "/")
    later.requests[0].write(b": hello\n\n")
    for _ in range(100):
        client.clock.advance(30)
        client.exchange()
    pings = client.of(events.PingReceived)
    assert 40 <= len(pings) <= 60
    later.requests[0].write(b"data: still here\n\n")
    client.exchange()
    assert client.body(stream).endswith(b"data: still here\n\n")
    assert site.refused == []


def test_dead_client_is_cut_off(serve: Serve, later: Later) -> None:
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client()
    client.request("GET", "/")
    client.clock.pump([30] * 3)
    assert client.transport.disconnected
    assert site.refused == ["ping_timeout"]
    client.lose()
    assert len(later.ends) == 1


def test_body_that_does_not_come_is_refused(serve: Serve, echo: Echo) -> None:
    site = serve(echo, idle_timeout=60, ping_interval=30)
    client = site.client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, head)
    for _ in range(6):
        client.send(stream, b"x")
        client.clock.advance(10)
    client.exchange()
    assert client.head(stream)[b":status"] == b"408"
    assert client.error(stream) == "body_timeout"
    assert site.refused == ["body_timeout"]


def test_answer_that_is_not_taken_is_reset(serve: Serve, later: Later) -> None:
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client(window=10)
    stream = client.request("GET", "/")
    later.requests[0].write(b"x" * 100)
    later.requests[0].finish()
    client.exchange()
    for _ in range(3):
        client.clock.advance(30)
        client.exchange()
    assert client.body(stream) == b"x" * 10
    assert client.reset_code(stream) == ErrorCodes.CANCEL
    assert site.refused == ["stalled"]


@pytest.mark.parametrize(("window", "reset"), [(10, True), (20_000, False)], ids=["shut", "open"])
def test_what_the_connection_takes_is_progress_of_a_stream_whose_window_is_open(
    serve: Serve, later: Later, window: int, *, reset: bool
) -> None:
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client(window=window)
    transport: Any = client.transport
    client.request("GET", "/")
    if not reset:
        transport.producer.pauseProducing()  # it is full
    later.requests[0].write(b"x" * 15_000)
    later.requests[0].finish()
    for taken in range(6):
        transport.uptake = partial(Uptake, taken, pending=True)
        client.clock.advance(30)
    assert site.refused == (["stalled"] if reset else [])


def test_slow_client_that_makes_progress_is_not_reset(serve: Serve, later: Later) -> None:
    site = serve(later, idle_timeout=60, ping_interval=30)
    client = site.client(window=10)
    stream = client.request("GET", "/")
    later.requests[0].write(b"x" * 100)
    later.requests[0].finish()
    client.exchange()
    for _ in range(9):
        client.clock.advance(45)
        client.h2.increment_flow_control_window(10, stream)
        client.exchange()
    assert client.body(stream) == b"x" * 100
    assert client.ended(stream)
    assert site.refused == []
