"""What a client has taken, as the kernel tells it of real sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.twistd import until
from twisted_chat.server.http.uptake import Progress, Uptake, uptake

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tell")


class Transport:
    """Something with a socket, as Twisted's transports are."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, which does not block, and the client's, which has room for little."""
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            yield ours, client


@on_linux
def test_what_a_client_has_taken_is_not_pending(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    transport = Transport(ours)
    before = uptake(transport)
    assert before is not None
    assert not before.pending
    ours.send(b"a ping")

    def arrived() -> bool:
        now = uptake(transport)
        return now is not None and now.taken != before.taken and not now.pending

    until(arrived)


@on_linux
def test_a_client_that_reads_makes_progress_and_one_that_does_not_makes_none(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, client = ends
    transport, progress = Transport(ours), Progress()
    assert not progress.look(transport)
    ours.send(bytes(200_000))
    settle(transport)
    progress.look(transport)
    for _ in range(3):
        assert not progress.look(transport), "what is sent is not what is taken"
        for _ in range(5):
            client.recv(4_096)
        assert until(lambda: progress.look(transport))
        settle(transport)
        progress.look(transport)


def settle(transport: Transport) -> None:
    """Wait until the client's system has taken what it has room for."""
    before: list[Uptake | None] = [None] * 5

    def settled() -> bool:
        before.append(uptake(transport))
        return all(each == before[-1] for each in before[-5:])

    until(settled)


@on_linux
def test_what_has_arrived_at_a_look_counts_for_nothing_at_the_next() -> None:
    class Scripted:
        now = Uptake(1, pending=False)

        def uptake(self) -> Uptake:
            return self.now

    transport, progress = Scripted(), Progress()
    looks = []
    for transport.now in (
        Uptake(1, pending=False),
        Uptake(2, pending=True),
        Uptake(3, pending=False),
        Uptake(4, pending=True),
        Uptake(4, pending=True),
    ):
        looks.append(progress.look(transport))
    assert looks == [False, False, True, False, False]


def test_where_the_system_cannot_tell_there_is_no_progress() -> None:
    ours, client = socket.socketpair()
    with ours, client:
        for transport in (object(), Transport(ours), Transport(socket.socket())):
            progress = Progress()
            assert uptake(transport) is None or transport.socket is not ours  # type: ignore[attr-defined]
            assert not progress.look(transport)
            assert not progress.look(transport)


def test_a_socket_that_is_closed_tells_nothing(ends: Any) -> None:
    ours, _ = ends
    ours.close()
    assert uptake(Transport(ours)) is None
