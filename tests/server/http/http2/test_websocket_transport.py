"""A stream as the transport of a WebSocket: backpressure both ways, and every kind of end."""

from __future__ import annotations

from typing import Any

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IPushProducer
from websockets.frames import Frame, Opcode
from zope.interface import implementer

from tests.server.http.echo_socket import EchoSocket
from tests.server.http.http2.conftest import OpenSocket
from twisted_chat.server.http.limits import LINGER


def test_frames_that_come_before_the_upgrade_are_kept(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    client = site.client()
    socket = open_socket(client)
    socket.protocol.send_text(b"early")
    assert socket.exchange() == []
    resource.upgrade()
    assert socket.exchange() == [Frame(Opcode.TEXT, b"early")]


def test_end_that_comes_before_the_upgrade_is_kept(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    client = site.client()
    socket = open_socket(client)
    client.send(socket.stream, b"", end=True)
    resource.upgrade()
    client.exchange()
    assert [event[0] for event in resource.sockets[0].seen] == ["open", "close"]
    assert client.ended(socket.stream)


def test_what_came_before_a_refusal_leaves_nothing_behind(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    client = site.client()
    socket = open_socket(client)
    client.send(socket.stream, b"x" * 10_000, end=True)
    window = client.h2.outbound_flow_control_window
    resource.requests[0].setResponseCode(503)
    resource.requests[0].finish()
    client.exchange()
    assert client.head(socket.stream)[b":status"] == b"503"
    assert client.ended(socket.stream)
    assert resource.ends == [None]
    # Nothing lingers, and nothing of the connection's window is kept.
    client.clock.advance(6)
    client.exchange()
    assert client.reset_code(socket.stream) is None
    assert client.h2.outbound_flow_control_window >= window


def test_end_of_a_socket_that_closed_while_it_was_paused(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    resource.sockets[0].transport.pauseProducing()
    resource.sockets[0].transport.loseConnection()
    client.exchange()
    client.send(socket.stream, b"", end=True)
    # Nothing waits for what has come already.
    assert all(call.getTime() > LINGER for call in site.clock.getDelayedCalls())


def test_reset_by_the_client_is_an_unclean_close(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    client.h2.reset_stream(socket.stream, ErrorCodes.CANCEL)
    client.exchange()
    assert resource.sockets[0].seen == [("open",), ("close", False, 1006)]


def test_end_of_stream_without_a_close_frame(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    client.send(socket.stream, b"", end=True)
    assert resource.sockets[0].seen == [("open",), ("close", False, 1006)]
    assert client.ended(socket.stream)


def test_abort_resets_the_stream(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    resource.sockets[0].transport.abortConnection()
    assert resource.sockets[0].seen == [("open",)]
    client.exchange()
    assert client.reset_code(socket.stream) == ErrorCodes.CANCEL
    assert resource.sockets[0].seen == [("open",), ("close", False, 1006)]


def test_lost_connection_closes_its_sockets(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    sockets = [open_socket(client) for _ in range(3)]
    client.lose()
    assert [socket.seen[-1] for socket in resource.sockets] == [("close", False, 1006)] * len(sockets)


def test_client_that_never_ends_its_half_does_not_keep_the_slot(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    resource.sockets[0].transport.loseConnection()
    client.exchange()
    assert client.ended(socket.stream)
    client.clock.advance(5)
    client.exchange()
    assert client.reset_code(socket.stream) == ErrorCodes.NO_ERROR


def test_paused_socket_stops_the_client_by_its_window(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    transport = resource.sockets[0].transport
    transport.pauseProducing()
    for _ in range(3):
        socket.protocol.send_binary(b"x" * 10_000)
    assert socket.exchange() == []
    assert client.h2.local_flow_control_window(socket.stream) < 65_535 - 30_000
    socket.protocol.send_binary(b"y" * 5_000)
    transport.resumeProducing()
    assert len(socket.exchange()) == 4
    client.exchange()
    assert client.h2.local_flow_control_window(socket.stream) > 65_535 - 35_000


def test_paused_socket_hears_of_the_end_when_it_reads_again(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    resource.sockets[0].transport.pauseProducing()
    client.send(socket.stream, b"", end=True)
    assert resource.sockets[0].seen == [("open",)]
    resource.sockets[0].transport.resumeProducing()
    assert resource.sockets[0].seen == [("open",), ("close", False, 1006)]


def test_full_window_pauses_the_socket_s_writer(room: Any, open_socket: OpenSocket) -> None:
    @implementer(IPushProducer)
    class Writer:
        paused = False

        def pauseProducing(self) -> None:
            self.paused = True

        def resumeProducing(self) -> None:
            self.paused = False

        def stopProducing(self) -> None:
            """Nothing."""

    resource, site = room(idle_timeout=60, ping_interval=30)
    client = site.client(window=1_000)
    socket = open_socket(client)
    writer = Writer()
    resource.sockets[0].registerProducer(writer, True)
    while not writer.paused:
        resource.sockets[0].sendMessage(b"x" * 1_000, True)
    # Its outbox decides how long that lasts, no deadline of ours.
    for _ in range(10):
        client.clock.advance(30)
        client.exchange()
    assert resource.sockets[0].seen == [("open",)]
    client.h2.increment_flow_control_window(70_000, socket.stream)
    client.h2.increment_flow_control_window(70_000)
    client.exchange()
    assert not writer.paused


def test_closed_socket_whose_client_does_not_read_is_reset(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(idle_timeout=60, ping_interval=30)
    client = site.client(window=10)
    socket = open_socket(client)
    resource.sockets[0].sendMessage(b"x" * 1_000)
    resource.sockets[0].transport.loseConnection()
    for _ in range(3):
        client.clock.advance(30)
        client.exchange()
    assert client.reset_code(socket.stream) == ErrorCodes.CANCEL
    assert site.refused == ["stalled"]


def test_socket_survives_shutdown_until_it_is_closed(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room()
    client = site.client()
    socket = open_socket(client)
    finished = site.site.shutdown()
    client.clock.advance(0)
    assert not client.transport.disconnecting
    resource.sockets[0].sendClose(3001)
    client.clock.advance(0)
    # h2's client takes the GOAWAY for the end and sends nothing more: the frame that it would send is written by hand.
    masked_close = b"\x88\x82\0\0\0\0\x0b\xb9"
    client.switch.dataReceived(b"\0\0\x08\0\1" + socket.stream.to_bytes(4) + masked_close)
    client.clock.advance(0)
    assert resource.sockets[0].seen[-1] == ("close", True, 3001)
    assert client.transport.disconnecting
    client.lose()
    assert finished.called


def test_a_protocol_that_pauses_while_it_is_connected_stays_paused(room: Any, open_socket: OpenSocket) -> None:
    resource, site = room(at_once=False)
    client = site.client()
    socket = open_socket(client)
    socket.protocol.send_text(b"early")
    socket.exchange()
    resource.factory.protocol = type("Paused", (EchoSocket,), {"onOpen": lambda self: self.transport.pauseProducing()})
    resource.upgrade()
    assert socket.exchange() == []
    resource.sockets[0].transport.resumeProducing()
    assert [frame.data for frame in socket.exchange()] == [b"early"]
