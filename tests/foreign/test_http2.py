"""HTTP/2 clients over TCP: `h2` as a client that does everything on one connection, nghttp, and h2load."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from tests.foreign.conftest import Server

PATIENCE = 120.0
NGHTTP = shutil.which("nghttp")
H2LOAD = shutil.which("h2load")


class Client:
    """One HTTP/2 connection in the clear, by prior knowledge; reads only while it waits for something."""

    def __init__(self, port: int, *, window: int | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.authority = f"127.0.0.1:{port}"
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.connection.initiate_connection()
        if window is not None:
            self.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.acknowledges = window is None
        """Whether it gives back the window for what it reads."""
        self.headers: dict[int, dict[str, str]] = {}
        self.data: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.settings: dict[int, int] = {}
        self.flush()

    def close(self) -> None:
        self._socket.close()

    def flush(self) -> None:
        self._socket.sendall(self.connection.data_to_send())

    def request(self, method: str, path: str, *fields: tuple[str, str], body: bytes | None = None) -> int:
        """Send a request; its stream. One without a body is complete, but for a CONNECT."""
        stream: int = self.connection.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", self.authority)]
        goes_on = body is not None or method == "CONNECT"
        self.connection.send_headers(stream, [*head, *fields], end_stream=not goes_on)
        if body is not None:
            self.connection.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    def wait_for(self, true: Callable[[], object]) -> None:
        while not true():
            data = self._socket.recv(65_536)
            assert data, "the server closed the connection"
            for event in self.connection.receive_data(data):
                self._happened(event)
            self.flush()

    def answer(self, stream: int) -> tuple[str, Any]:
        """The status and JSON that a request is answered with."""
        self.wait_for(lambda: stream in self.ended)
        return self.headers[stream][":status"], json.loads(self.data[stream])

    def get(self, path: str) -> Any:
        status, body = self.answer(self.request("GET", path))
        assert status == "200"
        return body

    def post(self, path: str, message: str) -> Any:
        body = json.dumps({"handle": "ann", "message": message}, ensure_ascii=False).encode()
        status, stored = self.answer(self.request("POST", path, ("content-type", "application/json"), body=body))
        assert status == "201"
        return stored

    def _happened(self, event: Event) -> None:
        match event:
            case ResponseReceived(stream_id=int(stream), headers=headers):
                self.headers[stream] = {str(name): str(value) for name, value in headers or ()}
            case DataReceived(stream_id=int(stream), data=bytes(data), flow_controlled_length=int(length)):
                self.data[stream] += data
                if self.acknowledges:
                    self.connection.acknowledge_received_data(length, stream)
            case StreamEnded(stream_id=int(stream)):
                self.ended.add(stream)
            case StreamReset(stream_id=int(stream), error_code=code):
                self.reset[stream] = int(code or 0)
            case RemoteSettingsChanged(changed_settings=changed):
                self.settings |= {code: setting.new_value for code, setting in changed.items()}


class RoomSocket:
    """A WebSocket on a stream of a client's connection (RFC 8441)."""

    def __init__(self, client: Client, path: str) -> None:
        self.client = client
        fields = ((":protocol", "websocket"), ("sec-websocket-version", "13"))
        self.stream = client.request("CONNECT", path, *fields)
        client.wait_for(lambda: self.stream in client.headers)
        assert client.headers[self.stream][":status"] == "200"
        self._frames = Protocol(Side.CLIENT, state=State.OPEN)
        self._heard: list[Frame] = []
        self._read = 0

    def say(self, **fields: str) -> None:
        self._frames.send_text(json.dumps(fields).encode())
        self._flush()

    def leave(self) -> None:
        self._frames.send_close(1000)
        self._flush()

    def hear(self, count: int) -> list[Any]:
        """The next messages."""
        self.client.wait_for(lambda: len(self._arrived()) >= count)
        heard, self._heard = self._heard[:count], self._heard[count:]
        assert {frame.opcode for frame in heard} <= {Opcode.TEXT}
        return [json.loads(bytes(frame.data)) for frame in heard]

    def closed(self) -> tuple[int, str]:
        """The close code and reason, once the stream has ended."""
        self.client.wait_for(lambda: self._arrived() and self.stream in self.client.ended)
        assert self._frames.close_rcvd is not None
        return self._frames.close_rcvd.code, self._frames.close_rcvd.reason

    def _arrived(self) -> list[Frame]:
        data = self.client.data[self.stream][self._read :]
        self._read += len(data)
        if data:
            self._frames.receive_data(data)
        self._heard += [frame for frame in self._frames.events_received() if isinstance(frame, Frame)]
        self._flush()
        return self._heard

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            self.client.connection.send_data(self.stream, data, end_stream=not data)
        self.client.flush()


Connect = Callable[..., Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients, with the arguments of `Client`."""
    clients: list[Client] = []

    def connect(server: Server, window: int | None = None) -> Client:
        clients.append(Client(server.port, window=window))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def path(server: Server) -> str:
    """The path of a room of the test's own."""
    return server.room().removeprefix(server.url)


def listen(client: Client, path: str) -> int:
    """Open an event stream; its number."""
    stream = client.request("GET", path, ("accept", "text/event-stream"))
    client.wait_for(lambda: stream in client.headers)
    assert client.headers[stream][":status"] == "200"
    return stream


def told(client: Client, stream: int, count: int) -> list[Any]:
    """The first messages of an event stream."""

    def data() -> list[bytes]:
        return re.findall(rb"^data: (.*)\n\n", client.data[stream], flags=re.MULTILINE)

    client.wait_for(lambda: len(data()) >= count)
    return [json.loads(each) for each in data()[:count]]


def test_everything_on_one_connection(connect: Connect, server: Server, path: str) -> None:
    client = connect(server)
    client.wait_for(lambda: client.settings)
    assert client.settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
    ann, bob = RoomSocket(client, path), RoomSocket(client, f"{path}?history=10")
    stream = listen(client, path)
    ann.say(handle="ann", message="over a socket")
    heard = ann.hear(1)
    heard.append(client.post(path, "posted beside it"))
    bob.say(handle="bob", message="ñandú 🙂")
    heard += bob.hear(3)[2:]
    assert ann.hear(2) == heard[1:]
    assert told(client, stream, 3) == heard
    assert client.get(path)["messages"] == heard
    assert [(each["handle"], each["message"]) for each in heard] == [
        ("ann", "over a socket"),
        ("ann", "posted beside it"),
        ("bob", "ñandú 🙂"),
    ]
    assert not client.reset


def test_one_stream_ends_and_the_others_go_on(connect: Connect, server: Server, path: str) -> None:
    client = connect(server)
    ann, bob, carl = (RoomSocket(client, path) for _ in range(3))
    stream = listen(client, path)
    ann.leave()
    assert ann.closed()[0] == 1000
    client.connection.reset_stream(bob.stream, ErrorCodes.CANCEL)
    client.connection.reset_stream(stream, ErrorCodes.CANCEL)
    client.flush()
    carl.say(handle="carl", message="still here")
    assert carl.hear(1)[0]["message"] == "still here"
    assert client.get(path)["messages"][0]["message"] == "still here"


def test_presence_of_sockets_on_one_connection(connect: Connect, server: Server, path: str) -> None:
    """However a stream ends, its member leaves the room."""
    client = connect(server)
    watching = RoomSocket(client, f"{path}?events=presence")
    assert watching.hear(1) == [{"event": "presence", "members": []}]
    ann, bob = RoomSocket(client, f"{path}?handle=ann"), RoomSocket(client, f"{path}?handle=bob")
    assert [each["event"] for each in watching.hear(2)] == ["join", "join"]
    ann.leave()
    assert watching.hear(1) == [{"event": "leave", "handle": "ann"}]
    client.connection.reset_stream(bob.stream, ErrorCodes.CANCEL)
    client.flush()
    assert watching.hear(1) == [{"event": "leave", "handle": "bob"}]


def test_refusals_are_answers(connect: Connect, server: Server, path: str) -> None:
    client = connect(server)
    websocket = (":protocol", "websocket")
    version = ("sec-websocket-version", "13")
    for asked, fields, status, code in (
        ("/chat/a/../b", (websocket, version), "400", "bad_room"),
        (path, (websocket,), "400", "bad_handshake"),
        (path, (websocket, version, ("origin", "https://evil.example")), "403", "origin_not_allowed"),
        ("/nothing", (websocket, version), "404", "not_found"),
    ):
        stream = client.request("CONNECT", asked, *fields)
        answered, body = client.answer(stream)
        assert (answered, body["error"]["code"]) == (status, code)
    assert client.get(path)["messages"] == []


def test_another_authority_is_answered_nothing(connect: Connect, server: Server, path: str) -> None:
    client = connect(server)
    client.authority = f"evil.example:{server.port}"
    websocket = ((":protocol", "websocket"), ("sec-websocket-version", "13"))
    for method, fields in (("GET", ()), ("CONNECT", websocket)):
        stream = client.request(method, path, *fields, ("origin", f"http://{client.authority}"))
        answered, body = client.answer(stream)
        assert (answered, body["error"]["code"]) == ("421", "host_not_allowed")
    client.authority = f"localhost:{server.port}"
    assert client.get(path)["messages"] == []


def test_what_is_sent_keeps_to_the_window(connect: Connect, server: Server, path: str) -> None:
    """A client that gives little room gets little, and all of it in the end; its other streams do not wait."""
    client = connect(server, 100)
    ann = connect(server)
    stored = [ann.post(path, f"{number}: {'x' * 400}") for number in range(10)]
    stream = client.request("GET", f"{path}?limit=50")
    client.wait_for(lambda: len(client.data[stream]) >= 100)
    small = client.request("GET", f"{path}?limit=51", ("accept", "image/png"))
    client.wait_for(lambda: len(client.data[small]) > 0)
    assert len(client.data[stream]) == 100
    while stream not in client.ended:
        before = len(client.data[stream])
        client.connection.increment_flow_control_window(1000, stream)
        client.connection.increment_flow_control_window(1000)
        client.flush()
        client.wait_for(lambda: stream in client.ended or len(client.data[stream]) == before + 1000)  # noqa: B023
    assert json.loads(client.data[stream])["messages"] == stored


def test_a_large_history_arrives_whole(connect: Connect, server: Server, path: str) -> None:
    client = connect(server)
    stored = [client.post(path, f"{number:02}" + "🙂" * 4000) for number in range(30)]
    streams = [client.request("GET", f"{path}?limit=200") for _ in range(3)]
    for stream in streams:
        assert client.answer(stream)[1]["messages"] == stored


def test_many_requests_at_once(connect: Connect, server: Server, path: str) -> None:
    client = connect(server)
    client.wait_for(lambda: client.settings)
    count = client.settings[SettingCodes.MAX_CONCURRENT_STREAMS]
    assert count >= 100
    streams = [client.request("GET", f"{path}?limit={number % 200 + 1}") for number in range(count)]
    assert {client.answer(stream)[0] for stream in streams} == {"200"}


@pytest.mark.skipif(NGHTTP is None, reason="nghttp is not installed")
def test_nghttp(connect: Connect, server: Server, path: str) -> None:
    """It opens with priorities and a dependency tree, which RFC 9113 has done away with."""
    assert NGHTTP is not None
    stored = connect(server).post(path, "hello")
    urls = [f"{server.url}{path}?limit={limit}" for limit in range(1, 11)]
    ran = subprocess.run([NGHTTP, *urls], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ran.stdout.count('"message":"hello"') == len(urls), ran.stdout + ran.stderr
    posted = subprocess.run(
        [NGHTTP, "--verbose", "--header", "content-type: application/json", "--data", "-", f"{server.url}{path}"],
        input=json.dumps({"handle": "bob", "message": "hello yourself"}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ":status: 201" in posted.stdout
    messages = connect(server).get(path)["messages"]
    assert (messages[0], messages[1]["message"]) == (stored, "hello yourself")


@pytest.mark.skipif(H2LOAD is None, reason="h2load is not installed; it comes with nghttp")
@pytest.mark.parametrize(
    "options",
    [("-m", "100"), ("-m", "250", "-w", "10"), ("-m", "20", "-w", "16", "-W", "16")],
    ids=["many at once", "small windows", "one small window for all"],
)
def test_h2load(connect: Connect, server: Server, path: str, options: tuple[str, ...]) -> None:
    """Many streams on a few connections, which their windows hold up: everything is answered, to the last byte."""
    assert H2LOAD is not None
    client = connect(server)
    for number in range(10):
        client.post(path, f"{number}: {'x' * 1_000}")
    size = len(json.dumps(client.get(path), ensure_ascii=False, separators=(",", ":")))
    command = [H2LOAD, "-n", "1000", "-c", "3", *options, f"{server.url}{path}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in ran.stdout, ran.stdout
    assert "1000 2xx" in ran.stdout
    received = re.search(r"headers \(space savings .*\), [\d.]+\w+ \((\d+)\) data", ran.stdout)
    assert received is not None, ran.stdout
    assert size * 1000 <= int(received[1]) <= (size + 2) * 1000
