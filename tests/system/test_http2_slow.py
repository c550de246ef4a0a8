"""A member that takes nothing, over real sockets: whatever is full first, its window or the network, it is bounded."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived
from h2.settings import SettingCodes

from tests.threaded_tls import threaded_context
from tests.twistd import Server, until

QUICK = ("--limit-messages-per-connection", "10000:10000", "--limit-messages-per-address", "10000:10000")
PATIENT = ("--limit-ping-interval", "1000", "--limit-ping-timeout", "1000")
TEXT = "x" * 4_000


def two_members(server: Server, window: int) -> socket.socket:
    """Both are on this connection, with such windows."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    if server.secure:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(connection)
        assert connection.selected_alpn_protocol() == "h2"
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
    h2.local_settings.acknowledge()
    h2.initiate_connection()
    if window:
        h2.increment_flow_control_window(2**31 - 1 - 65_535)
    for stream in (1, 3):
        head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/chat/lobby")]
        h2.send_headers(stream, [*head, (":authority", "localhost"), ("sec-websocket-version", "13")])
    connection.sendall(h2.data_to_send())
    answered: list[Any] = []
    while len(answered) < 2:
        events = h2.receive_data(connection.recv(65_536))
        answered += [event for event in events if isinstance(event, ResponseReceived)]
    assert all((b":status", b"200") in [tuple(field) for field in event.headers or ()] for event in answered)
    return connection


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see how large it is")
@pytest.mark.parametrize(
    ("endpoint", "window"),
    [("tcp:{port}:interface=127.0.0.1", 0), ("tls:{port}:interface=127.0.0.1", 2**31 - 1)],
    ids=["tcp, and a shut window", "tls, and a window that never fills"],
)
def test_members_that_take_nothing_are_sent_away(twistd: Callable[..., Server], endpoint: str, window: int) -> None:
    tls = ("--self-signed",) if endpoint.startswith("tls") else ()
    server = twistd(*tls, *QUICK, *PATIENT, "--relay", "memory:", "--history-count", "10", endpoint=endpoint)
    connection = two_members(server, window)
    with connection, server.socket(ssl=threaded_context() if tls else None, max_size=None) as ann:
        before = resident(server)
        most = 0
        # 20 MB for each of the two: the system's buffers take some.
        for number in range(5_000):
            ann.send(f'{{"handle": "ann", "message": "{TEXT}"}}')
            ann.recv(30)
            if number % 500 == 0:
                most = max(most, resident(server) - before)
        until(lambda: len(re.findall(r"websocket in 'lobby' .*: too_slow", server.log)) == 2)
    # Two outboxes of a mebibyte, and what moving all that leaves in the allocator.
    assert most < 20 << 20


def resident(server: Server) -> int:
    """Bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
