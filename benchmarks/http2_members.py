"""Members that only sit there: WebSockets over HTTP/2 (RFC 8441), many on each connection.

    python -m benchmarks.http2_members PORT MEMBERS PATH

`PATH` may have ``%d``, the number of the member. Says ``ready`` when all have come, and ends when its input does.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from benchmarks.servers import LOAD_CPU, BrokenError, pinned

STREAMS: Final = 250
"""Members on one connection; ``--limit-streams-per-connection`` is 256."""

AT_ONCE: Final = 50
PATIENCE: Final = 60.0
PING: Final = 9


@contextmanager
def members(port: int, count: int, path: str) -> Iterator[None]:
    """So many are there. Raises `BrokenError`."""
    command = [*pinned(LOAD_CPU), sys.executable, "-m", "benchmarks.http2_members", str(port), str(count), path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        if process.stdout.readline() != b"ready\n":
            said = process.stderr.read().decode(errors="replace").strip()
            raise BrokenError(f"{count} members over HTTP/2 did not come: {said[-300:]}")
        yield
        process.stdin.close()


class Members:
    """Some of them, on one connection."""

    def __init__(self, port: int, numbers: range, path: str) -> None:
        self.socket: Final = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._authority = f"127.0.0.1:{port}"
        self._http2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._http2.initiate_connection()
        self._open = 0
        self._flush()
        while not self._http2.remote_settings.enable_connect_protocol:
            self.read()
        for start in range(0, len(numbers), AT_ONCE):
            batch = numbers[start : start + AT_ONCE]
            for number in batch:
                self._come(path.replace("%d", str(number)))
            self._flush()
            while self._open < start + len(batch):
                self.read()

    def _come(self, path: str) -> None:
        fields = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "http",
            ":authority": self._authority,
            ":path": path,
            "sec-websocket-version": "13",
        }
        self._http2.send_headers(self._http2.get_next_available_stream_id(), list(fields.items()))

    def read(self) -> None:
        """Once. Raises `BrokenError` when somebody was refused or sent away."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise BrokenError("the server closed a connection")
        for event in self._http2.receive_data(data):
            if isinstance(event, ResponseReceived):
                self._answered({str(name): str(value) for name, value in event.headers or ()})
            elif isinstance(event, DataReceived):
                self._received(event)
            elif isinstance(event, StreamEnded | StreamReset):
                raise BrokenError("the server ended a stream")
            elif isinstance(event, RemoteSettingsChanged):
                assert SettingCodes.ENABLE_CONNECT_PROTOCOL in event.changed_settings
        self._flush()

    def _answered(self, fields: dict[str, str]) -> None:
        if fields[":status"] != "200":
            raise BrokenError(f"the server answered with {fields[':status']}")
        self._open += 1

    def _received(self, event: DataReceived) -> None:
        self._http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        frame = event.data or b""
        if len(frame) >= 2 and frame[0] & 15 == PING and len(frame) == 2 + frame[1]:
            # The same payload in a pong, masked with zeros.
            self._http2.send_data(event.stream_id, bytes((0x8A, 0x80 | frame[1], 0, 0, 0, 0)) + frame[2:])

    def _flush(self) -> None:
        self.socket.sendall(self._http2.data_to_send())


def main(port: int, count: int, path: str) -> None:
    with selectors.DefaultSelector() as selector:
        for start in range(0, count, STREAMS):
            some = Members(port, range(start, min(start + STREAMS, count)), path)
            selector.register(some.socket, selectors.EVENT_READ, some)
            _read(selector, 0)
        selector.register(sys.stdin, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while _read(selector, None):
            pass


def _read(selector: selectors.BaseSelector, timeout: float | None) -> bool:
    """Whether the input goes on."""
    for key, _ in selector.select(timeout):
        if key.data is None:
            return False
        key.data.read()
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
