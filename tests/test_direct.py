"""Around a transport's buffers, never past what waits in them, and undisturbed by what happens to some connections."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.testing import StringTransport

from twisted_chat import direct as module
from twisted_chat.direct import BARE, direct, write_now, write_to_each


class Socket:
    """Takes so many bytes at a time, or fails."""

    def __init__(self, takes: int | OSError = 1000) -> None:
        self.takes = takes
        self.sent = b""

    def send(self, data: bytes) -> int:
        if isinstance(self.takes, OSError):
            raise self.takes
        self.sent += data[: self.takes]
        return min(len(data), self.takes)


class Transport:
    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []
        self.connected = 1
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Outlet:
    """One whose socket may be written to."""

    def __init__(self, takes: int | OSError = 1000) -> None:
        self.socket = Socket(takes)
        self.direct: Any = Transport(self.socket)
        self.kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.kept.append(data)

    def writable(self) -> bool:
        return True


def test_what_a_socket_takes_is_sent_and_nothing_kept() -> None:
    outlets = [Outlet(), Outlet()]
    write_to_each(outlets, b"hello")
    assert [(outlet.socket.sent, outlet.kept) for outlet in outlets] == [(b"hello", [])] * 2


def test_what_a_socket_does_not_take_is_kept() -> None:
    outlet = Outlet(takes=2)
    write_to_each([outlet], b"hello")
    assert (outlet.socket.sent, outlet.kept) == (b"he", [b"llo"])


@pytest.mark.parametrize("error", [BlockingIOError(), BrokenPipeError(), ConnectionResetError(), OSError(9, "closed")])
def test_an_error_is_left_for_the_reactor_to_meet(error: OSError) -> None:
    broken, fine = Outlet(error), Outlet()
    write_to_each([broken, fine], b"hello")
    assert broken.kept == [b"hello"]
    assert fine.socket.sent == b"hello"


@pytest.mark.parametrize("buffer", ["dataBuffer", "_tempDataBuffer"])
def test_nothing_overtakes_what_waits(buffer: str) -> None:
    outlet = Outlet()
    setattr(outlet.direct, buffer, b"waits" if buffer == "dataBuffer" else [b"waits"])
    write_to_each([outlet], b"hello")
    assert (outlet.socket.sent, outlet.kept) == (b"", [b"hello"])


def test_an_outlet_that_must_not_be_passed_by_is_not() -> None:
    outlet = Outlet()
    outlet.direct = None
    write_to_each([outlet], b"hello")
    assert (outlet.socket.sent, outlet.kept) == (b"", [b"hello"])


@pytest.mark.parametrize("kind", BARE)
def test_bare_sockets_are_written_to(kind: Any) -> None:
    transport = kind.__new__(kind)
    assert direct(transport) is transport


def test_others_are_not() -> None:
    class Another(tcp.Server):
        """Its `write` may do anything."""

    secured = tcp.Server.__new__(tcp.Server)
    secured.TLS = True
    for transport in (StringTransport(), Another.__new__(Another), secured):
        assert direct(transport) is None


def test_a_twisted_that_keeps_its_bytes_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._buffers_as_expected()
    monkeypatch.setattr(FileDescriptor, "write", lambda *_: None)
    assert not module._buffers_as_expected()
    monkeypatch.setattr(module, "_AS_EXPECTED", False)
    assert direct(tcp.Server.__new__(tcp.Server)) is None


@pytest.mark.parametrize(
    ("takes", "changes", "sent", "written"),
    [
        (1000, {}, b"hello", []),
        (2, {}, b"he", [b"llo"]),
        (BlockingIOError(), {}, b"", [b"hello"]),
        (1000, {"dataBuffer": b"waits"}, b"", [b"hello"]),
        (1000, {"_tempDataBuffer": [b"waits"]}, b"", [b"hello"]),
        (1000, {"connected": 0}, b"", [b"hello"]),
    ],
)
def test_one_transport_is_written_to_in_the_same_way(
    takes: int | OSError, changes: dict[str, Any], sent: bytes, written: list[bytes]
) -> None:
    socket = Socket(takes)
    transport: Any = Transport(socket)
    for name, value in changes.items():
        setattr(transport, name, value)
    write_now(transport, b"hello")
    assert (socket.sent, transport.written) == (sent, written)
