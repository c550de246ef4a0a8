"""Clients that ask for as much as they can at once, against a real server: others hardly wait for their answers."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from tests.twistd import Server, until

CONNECTIONS = 20
STREAMS = 256
"""As many as a connection may have."""

SECONDS = 2.0
LONGEST_WAIT = 2.0
"""Seconds. With all requests of a read served in one turn it was 18 over HTTP/1.1 and 5 over HTTP/2."""

GET = b"GET /chat/lobby HTTP/1.1\r\nHost: localhost\r\n\r\n"


def pipeline(connection: socket.socket) -> Iterator[int]:
    """Ask for 3,000 histories and read some of them, again and again; how many are answered."""
    connection.setblocking(False)
    waiting = b""
    while True:
        waiting = waiting or GET * 3_000
        with suppress(BlockingIOError):
            waiting = waiting[connection.send(waiting) :]
        try:
            received = connection.recv(1 << 18)
        except BlockingIOError:
            yield 0
            time.sleep(0.001)
            continue
        if not received:
            return
        yield received.count(b"HTTP/1.1 200")


def multiplex(connection: socket.socket) -> Iterator[int]:
    """Ask for as many histories as there may be streams, in one write, and when all are there again."""
    client = H2Connection(H2Configuration())
    client.initiate_connection()
    head = [(":method", "GET"), (":path", "/chat/lobby"), (":scheme", "http"), (":authority", "localhost")]
    left = 0
    while True:
        if not left:
            left = STREAMS
            for _ in range(STREAMS):
                client.send_headers(client.get_next_available_stream_id(), head, end_stream=True)
        connection.sendall(client.data_to_send())
        received = connection.recv(1 << 18)
        if not received:
            return
        ended = 0
        for event in client.receive_data(received):
            if isinstance(event, DataReceived):
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            ended += isinstance(event, StreamEnded)
        left -= ended
        yield ended


Attack = Callable[[socket.socket], Iterator[int]]


@contextmanager
def under(attack: Attack, port: int) -> Iterator[list[int]]:
    """While this attack runs; the list grows by how many requests were answered."""
    answered: list[int] = []
    stop = Event()

    def run() -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            for count in attack(connection):
                answered.append(count)
                if stop.is_set():
                    return

    threads = [Thread(target=run) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def longest_wait(server: Server) -> float:
    """Seconds that another client waited for an answer, at most."""
    longest = 0.0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        start = time.monotonic()
        assert server.get("/static/chat.css").status_code == 200
        longest = max(longest, time.monotonic() - start)
        time.sleep(0.05)
    return longest


@pytest.mark.parametrize("attack", [pipeline, multiplex])
def test_many_requests_at_once_do_not_keep_others_waiting(twistd: Callable[..., Server], attack: Attack) -> None:
    server = twistd("--relay", "memory:", "--limit-requests-per-address", "1000000")
    with under(attack, server.port) as answered:
        until(lambda: sum(answered) >= 100, "the attack")
        assert longest_wait(server) < LONGEST_WAIT
        assert sum(answered) > 1_000  # it was one
    assert "Traceback" not in server.log


def processor_seconds(server: Server) -> float:
    """What the server has used of processors since it started."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc to see what it uses")
def test_who_is_beyond_the_rate_cannot_keep_the_server_busy(twistd: Callable[..., Server]) -> None:
    server = twistd("--relay", "memory:", "--limit-requests-per-address", "20:50")

    def reconnect(connection: socket.socket) -> Iterator[int]:
        """One wrong request after the other, each on a connection of its own."""
        connection.close()
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=10) as another:
                another.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
                yield another.recv(1_000).count(b"HTTP/1.1 404")
            yield 0

    with under(reconnect, server.port) as answered:
        until(lambda: sum(answered) >= 20, "the burst")
        before, start, served = processor_seconds(server), time.monotonic(), sum(answered)
        time.sleep(SECONDS)
        seconds = time.monotonic() - start
        assert sum(answered) - served <= 20 * seconds + 10
        # Unlimited, it is all of a core.
        assert processor_seconds(server) - before < 0.4 * seconds
    assert "Traceback" not in server.log
