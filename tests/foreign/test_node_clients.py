"""Node's clients, each as a small program (`*_client.mjs`) that is held to the same dialogue."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.foreign.conftest import Server

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.rst"
NODE = shutil.which("node")
PATIENCE = 120.0

needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_ws = pytest.mark.skipif(
    not (HERE.parents[1] / "node_modules" / "ws").is_dir(), reason="the package ws is not there: run npm install"
)
pytestmark = needs_node


def node(*arguments: str | Path) -> list[str]:
    assert NODE is not None
    return [NODE, *map(str, arguments)]


def global_websocket_options() -> list[str] | None:
    """What makes node have a WebSocket: nothing since 22, an option since 20.10, else nothing does."""
    for options in ([], ["--experimental-websocket"]):
        tried = subprocess.run(node(*options, "-p", "typeof WebSocket"), capture_output=True, text=True, check=False)
        if tried.stdout.strip() == "function":
            return options
    return None


class Client:
    """One of the programs, connected to a room."""

    def __init__(self, command: list[str], room: str) -> None:
        self._happened: queue.Queue[dict[str, Any]] = queue.Queue()
        self.process = subprocess.Popen(
            [*command, room.replace("http", "ws", 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._next() == {"happened": "open"}

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._happened.put(json.loads(line))
        self._happened.put({"happened": "exit"})

    def _next(self) -> dict[str, Any]:
        return self._happened.get(timeout=PATIENCE)

    def send(self, **fields: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(fields) + "\n")
        self.process.stdin.flush()

    def hear(self, count: int) -> list[dict[str, Any]]:
        heard = [self._next() for _ in range(count)]
        assert {each["happened"] for each in heard} == {"message"}
        return [json.loads(each["text"]) for each in heard]

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def closed(self) -> dict[str, Any]:
        """How it ended."""
        closed = self._next()
        assert closed.pop("happened") == "close"
        assert self._next() == {"happened": "exit"}
        assert self.process.wait(PATIENCE) == 0
        return closed

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


Connect = Callable[[str], Client]


@pytest.fixture(
    params=[
        pytest.param("ws_client.mjs", marks=needs_ws),
        "global_websocket_client.mjs",
        pytest.param("http2_client.mjs", marks=needs_ws),
        "fetch_client.mjs",
    ]
)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Starts a client in a room, and returns once it is in."""
    options = global_websocket_options() if request.param == "global_websocket_client.mjs" else []
    if options is None:
        pytest.skip("this node has no WebSocket of its own")
    command = node(*options, HERE / request.param)
    clients: list[Client] = []

    def connect(room: str) -> Client:
        clients.append(Client(command, room))
        return clients[-1]

    yield connect
    for client in clients:
        client.end()


def test_talks_and_listens(connect: Connect, room: str) -> None:
    ann, bob = connect(room), connect(room)
    ann.send(handle="ann", message="hello", key="k1")
    heard = ann.hear(1)
    assert bob.hear(1) == heard
    assert heard[0].keys() == {"id", "timestamp", "handle", "message", "key"}
    assert (heard[0]["handle"], heard[0]["message"], heard[0]["key"]) == ("ann", "hello", "k1")
    bob.send(handle="bob", message="hello yourself")
    heard += bob.hear(1)
    heard += [httpx.post(room, json={"handle": "carl", "message": "and me"}, timeout=PATIENCE).json()]
    assert ann.hear(2) == heard[1:]
    assert bob.hear(1) == heard[2:]
    assert httpx.get(room, timeout=PATIENCE).json()["messages"] == heard


def test_text_arrives_as_it_was_sent(connect: Connect, room: str) -> None:
    ann = connect(room)
    texts = [
        "ñandú, größer, 日本語, 🙂👩‍👩‍👧",
        'with "quotes" and \\ and </script>',
        "two\nlines\tand a tab",
        "🙂" * 4096,
    ]
    for text in texts:
        ann.send(handle="Ann Ñ", message=text)
        heard = ann.hear(1)[0]
        assert (heard["handle"], heard["message"]) == ("Ann Ñ", text)


def test_mistakes_are_told_and_do_no_harm(connect: Connect, room: str) -> None:
    ann = connect(room)
    ann.send(handle="ann", message="x" * 4097, key="k1")
    assert ann.hear(1)[0]["error"].items() >= {"code": "message_too_long", "key": "k1"}.items()
    ann.send(handle="ann", massage="oops")
    assert ann.hear(1)[0]["error"]["code"] == "bad_message"
    ann.send(handle="ann", message="right")
    assert ann.hear(1)[0]["message"] == "right"


def test_comes_back_to_where_it_was(connect: Connect, room: str) -> None:
    ann = connect(room)
    ann.send(handle="ann", message="one")
    last = ann.hear(1)[0]["id"]
    ann.leave()
    ann.closed()
    with httpx.Client(timeout=PATIENCE) as client:
        missed = [client.post(room, json={"handle": "bob", "message": str(number)}).json() for number in range(10)]
    ann = connect(f"{room}?since={last}")
    assert ann.hear(10) == missed
    ann.send(handle="ann", message="back")
    assert ann.hear(1)[0]["message"] == "back"
    late = connect(f"{room}?history=3")
    assert [each["message"] for each in late.hear(3)] == ["8", "9", "back"]


def test_leaves(connect: Connect, room: str) -> None:
    accept = {"Accept": "text/event-stream"}
    with httpx.stream("GET", f"{room}?events=presence", headers=accept, timeout=PATIENCE) as stream:
        told = (json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: "))
        assert next(told) == {"event": "presence", "members": []}
        ann = connect(f"{room}?handle=ann")
        assert next(told) == {"event": "join", "handle": "ann"}
        ann.leave()
        closed = ann.closed()
        assert (closed["code"], closed["clean"]) == (1000, True)
        assert next(told) == {"event": "leave", "handle": "ann"}


def test_is_told_when_the_server_stops(connect: Connect, own_server: Server) -> None:
    ann = connect(own_server.room())
    own_server.stop()
    closed = ann.closed()
    assert (closed["code"], closed["clean"]) == (1001, True)
    assert re.fullmatch(r"going_away: .*; retry=\d+\.\d", closed["reason"])


def test_the_program_of_the_readme(server: Server) -> None:
    """With another port, and another room than all the other tests."""
    options = global_websocket_options()
    if options is None:
        pytest.skip("this node has no WebSocket of its own")
    block = re.search(r"\.\. code-block:: javascript\n\n((?: {3}.*\n|\n)+)", README.read_text(encoding="utf-8"))
    assert block is not None
    room = f"127.0.0.1:{server.port}/chat/readme-javascript"
    program = block[1].replace("127.0.0.1:8080/chat/lobby", room)
    assert room in program
    with subprocess.Popen(node(*options, "-e", program), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while "hello from JavaScript" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.kill()
    assert "handle: 'bob'" in said
