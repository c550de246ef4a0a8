"""What a client's settings can make us use is bounded."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest
from h2.settings import SettingCodes

from tests.server.http.http2.conftest import Client, Echo, Later, Serve
from tests.server.http.http2.effort import measured
from twisted_chat.server.http.http2.machine import HEADER_TABLE
from twisted_chat.server.http.limits import HttpLimits

HEAD = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "chat.test")]


def machine(client: Client) -> Any:
    channel: Any = client.switch._receiver
    return channel._h2


def tell(client: Client, settings: dict[int, int]) -> None:
    # hyperframe's SettingsFrame writes the lower eight bits of each number.
    body = b"".join(struct.pack(">HL", code, value) for code, value in settings.items())
    client.switch.dataReceived(len(body).to_bytes(3) + b"\4\0\0\0\0\0" + body)
    client.clock.advance(0)


def test_unknown_settings_are_not_kept(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    before = len(machine(client).remote_settings)
    for start in range(1_000, 5_000, 1_000):
        tell(client, dict.fromkeys(range(start, start + 1_000), 1))
    assert len(machine(client).remote_settings) == before
    assert not client.transport.disconnecting
    assert client.body(client.request("GET", "/"))


def test_invalid_settings_still_end_the_connection(serve: Serve, echo: Echo) -> None:
    site = serve(echo)
    client = site.client()
    tell(client, {SettingCodes.MAX_FRAME_SIZE: 1})
    assert client.transport.disconnecting
    assert site.refused == ["malformed"]


def test_a_larger_table_for_heads_is_not_taken(serve: Serve, later: Later) -> None:
    client = serve(later).client()
    client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**32 - 1})
    client.exchange()
    for number in range(200):
        stream = client.request("GET", "/")
        later.requests[-1].setHeader(f"x-{number}", "y" * 200)
        later.requests[-1].finish()
        client.exchange()
        assert client.head(stream)[f"x-{number}".encode()] == b"y" * 200
    assert machine(client).encoder.header_table.maxsize == HEADER_TABLE
    assert machine(client).encoder.header_table._current_size <= HEADER_TABLE


def test_a_smaller_table_for_heads_is_taken_once(serve: Serve, echo: Echo) -> None:
    client = serve(echo).client()
    for size in (100, 4_096, 0, 50) * 50:
        tell(client, {SettingCodes.HEADER_TABLE_SIZE: size})
    # Each waits for the next head, which tells the client of them.
    assert machine(client).encoder.table_size_changes == [100, 0]


def test_larger_frames_are_not_sent(serve: Serve, later: Later) -> None:
    client = serve(later).client(window=1 << 20)
    client.h2.increment_flow_control_window(1 << 20)
    client.h2.update_settings({SettingCodes.MAX_FRAME_SIZE: 2**24 - 1})
    client.request("GET", "/")
    later.requests[0].write(b"x" * 100_000)
    client.clock.advance(0)
    sizes = []
    sent = client.transport.value()
    while sent:
        sizes.append(int.from_bytes(sent[:3]))
        sent = sent[9 + sizes[-1] :]
    assert max(sizes) == 16_384


@pytest.mark.parametrize("limit", [HttpLimits().streams])
def test_ended_streams_are_forgotten(serve: Serve, echo: Echo, limit: int) -> None:
    """They are all that is left of requests on a connection that lives for weeks."""
    client = serve(echo).client()
    client.h2.MAX_CLOSED_STREAMS = 10

    def ask(count: int) -> None:
        for _ in range(count):
            client.request("GET", "/")
            client.events.clear()

    ask(1_500)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ask(1_500)
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(machine(client)._closed_streams) <= 1_024
    assert now - before < 500_000
    assert len(machine(client).streams) <= limit


def test_what_is_in_a_body_is_not_written_down(serve: Serve, later: Later) -> None:
    client = serve(later).client()
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, [(":method", "POST"), *HEAD[1:]])
    client.exchange()
    client.h2.send_data(stream, b"x" * 16_384)
    frame = client.h2.data_to_send()
    with measured() as effort:
        machine(client).receive_data(frame)
    # h2 has it in its buffer, takes it out and takes the padding off. For a log it would have it three times more.
    assert effort.peak < 5 * len(frame)


def test_open_streams_do_not_make_new_ones_dearer(serve: Serve, later: Later) -> None:
    client = serve(later).client()

    def calls() -> int:
        sum_of_calls = 0
        for _ in range(40):
            client.h2.send_headers(client.h2.get_next_available_stream_id(), HEAD, end_stream=True)
            frame = client.h2.data_to_send()
            with measured() as effort:
                client.switch.dataReceived(frame)
            sum_of_calls += effort.calls
            later.requests.pop().finish()
            client.exchange()
        return sum_of_calls

    alone = calls()
    for _ in range(200):
        client.request("GET", "/")
    assert calls() < 1.2 * alone
    # Those that have ended are forgotten all the same.
    assert len(machine(client).streams) < 260
