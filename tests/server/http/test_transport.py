"""What a transport holds is counted, whatever it is made of."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from twisted_chat.server.http.transport import held_bytes


class Descriptor(FileDescriptor):
    """Twisted's buffers over a socket that takes `takes` bytes at a time."""

    def __init__(self) -> None:
        super().__init__(cast("IReactorFDSet", object()))
        self.connected = 1
        self.takes = 0

    def startWriting(self) -> None:
        """No reactor is asked."""

    stopWriting = startWriting

    def writeSomeData(self, data: bytes) -> int:
        return min(len(data), self.takes)


def over(kind: type[Any], below: Any) -> Any:
    """A wrapper that was never connected."""
    wrapper: Any = object.__new__(kind)
    wrapper.transport, wrapper._appSendBuffer = below, []
    return wrapper


@pytest.mark.parametrize("wrappers", [[], [ProtocolWrapper], [TLSMemoryBIOProtocol, ProtocolWrapper]])
def test_what_a_socket_did_not_take_is_held(wrappers: list[type[Any]]) -> None:
    socket = Descriptor()
    transport: Any = socket
    for kind in reversed(wrappers):
        transport = over(kind, transport)
    assert held_bytes(transport) == 0
    socket.write(b"x" * 200_000)
    socket.write(b"x" * 50)
    assert held_bytes(transport) == 200_050
    left = 200_050
    for socket.takes in (10, 150_000, 0):
        socket.doWrite()
        left -= socket.takes
        assert held_bytes(transport) == left
        socket.write(b"y" * 1_000)
        left += 1_000
    socket.takes = 1 << 20
    while left:
        left = held_bytes(transport)
        socket.doWrite()
    assert held_bytes(transport) == 0


def test_what_waits_for_tls_is_held() -> None:
    socket = Descriptor()
    transport = over(TLSMemoryBIOProtocol, socket)
    transport._appSendBuffer = [b"before", b"the handshake"]
    socket.write(b"records")
    assert held_bytes(transport) == len(b"before" + b"the handshake" + b"records")


@pytest.mark.parametrize("transport", [None, StringTransport()])
def test_of_others_nothing_is_known(transport: object) -> None:
    assert held_bytes(transport) == 0
