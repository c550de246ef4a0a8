"""What the connection bears from a bad client."""

from __future__ import annotations

import json

import pytest
from h2 import events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.server.http.http2.conftest import Echo, Later, Serve


def test_what_is_owed_to_a_client_that_does_not_read_is_bounded(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    client.request("GET", "/")
    assert client.transport.producer is not None
    client.transport.producer.pauseProducing()
    # Slow enough for every other bound.
    pings = PingFrame(0, opaque_data=b"12345678").serialize() * 50
    for _ in range(500):
        client.switch.dataReceived(pings)
        client.clock.advance(1)
        if client.transport.disconnected:
            break
    assert client.transport.disconnected
    assert 120_000 < len(client.transport.value()) <= 128 * 1024
    assert site.refused == ["h2_abuse"]


@pytest.mark.parametrize(
    "frame", [PingFrame(0), SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 70_000}), DataFrame(1)]
)
def test_flood_of_frames_that_carry_nothing_is_bounded(serve: Serve, frame: Frame, later: Later) -> None:
    site = serve(later)
    client = site.client()
    client.connect("/", ("sec-websocket-version", "13"))
    for _ in range(20):
        client.switch.dataReceived(frame.serialize() * 100)
    client.exchange()
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM
    assert site.refused == ["h2_abuse"]


def test_pings_now_and_then_are_answered(serve: Serve, later: Later) -> None:
    site = serve(later, idle_timeout=1_000)
    client = site.client()
    for _ in range(1_500):
        client.clock.advance(0.05)
        client.h2.ping(b"12345678")
        client.exchange()
    assert len(client.of(events.PingAckReceived)) == 1_500
    assert site.refused == []


def test_rapid_reset_is_bounded(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    for _ in range(2_000):
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
        client.h2.send_headers(stream, head, end_stream=True)
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.exchange()
        if client.transport.disconnecting:
            break
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM
    assert len(later.requests) == 301
    assert len(later.ends) == 301
    assert site.refused == ["h2_abuse"]


def test_resets_now_and_then_are_welcome(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    for _ in range(1_000):
        client.h2.reset_stream(client.request("GET", "/"), ErrorCodes.CANCEL)
        client.exchange()
        client.clock.advance(0.1)
    assert client.goaway_code() is None
    assert site.refused == []


def test_streams_that_the_client_makes_us_reset_count_too(serve: Serve, later: Later) -> None:
    site = serve(later)
    client = site.client()
    for _ in range(400):
        stream = client.request("GET", "/")
        # A window beyond 2^31-1 is an error of the stream, and ours to reset.
        client.switch.dataReceived(WindowUpdateFrame(stream, 2**31 - 1).serialize())
        client.exchange()
        if client.transport.disconnecting:
            break
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM
    assert site.refused == ["h2_abuse"]


def test_request_and_its_reset_in_one_read(serve: Serve, echo: Echo) -> None:
    """h2 knows of the reset before the request is handled: nothing can be sent any more."""
    site = serve(echo)
    client = site.client()
    stream = client.h2.get_next_available_stream_id()
    head = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "chat.test")]
    client.h2.send_headers(stream, head, end_stream=True)
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    client.exchange()
    assert client.goaway_code() is None
    assert json.loads(client.body(client.request("GET", "/alive")))["uri"] == "/alive"


def test_continuation_flood_is_bounded(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    headers = HeadersFrame(1, b"")
    client.switch.dataReceived(headers.serialize())
    sent = 0
    frame = ContinuationFrame(1, b"\0" * 16_000).serialize()
    while not client.transport.disconnecting:
        client.switch.dataReceived(frame)
        sent += 1
        assert sent <= 5
    client.exchange()
    assert client.goaway_code() == ErrorCodes.ENHANCE_YOUR_CALM
    assert site.refused == ["h2_abuse"]


@pytest.mark.parametrize(
    "frame",
    [
        DataFrame(1, b"x").serialize(),
        RstStreamFrame(9, ErrorCodes.CANCEL).serialize()[:-1] + b"\0",
        b"\0\0\1\0\0\0\0\0\0x",
        PriorityFrame(3, depends_on=3).serialize(),
        b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100,
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_broken_frames_end_the_connection_or_nothing(serve: Serve, frame: bytes, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    client.switch.dataReceived(frame)
    client.exchange()
    if client.transport.disconnecting:
        assert client.goaway_code() not in (None, ErrorCodes.NO_ERROR)
        assert site.refused == ["malformed"]
        # What it sends from now on is not looked at.
        client.switch.dataReceived(frame * 100)
        assert client.transport.value() == b""
    else:
        assert client.body(client.request("GET", "/"))


def test_unread_bodies_of_reset_streams_give_their_window_back(serve: Serve, later: Later) -> None:
    client = serve(later).client()
    for _ in range(100):
        stream = client.connect("/", ("sec-websocket-version", "13"))
        client.send(stream, b"x" * 16_384)
        client.send(stream, b"x" * 16_384)
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.exchange()
        client.clock.advance(1)
    # 100 times 32 KiB is three times the connection's window.
    assert client.h2.outbound_flow_control_window > 500_000
