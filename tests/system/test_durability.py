"""What was acknowledged stays: through kill -9 under load, and when the disk is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection

from tests.twistd import Server, until

StartServer = Callable[..., Server]

PATIENCE = 90.0
CRASHES = 3
SENDERS = 8
FAST = (
    *("--limit-messages-per-address", "1000000", "--limit-messages-per-connection", "1000000"),
    *("--limit-requests-per-address", "1000000"),
)
"""All of our senders have one address."""


class Sender(threading.Thread):
    """Sends one message after the other, each until it is acknowledged."""

    def __init__(self, server: Server, name: str, over: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.acknowledged: dict[str, str] = {}
        """Ids by text."""
        self.repeated = 0
        """How often the first answer was lost, but not the message."""
        self._server = server
        self._over = over

    def run(self) -> None:
        number = 0
        with httpx.Client(base_url=self._server.url, trust_env=False, timeout=PATIENCE) as client:
            while not self._over.is_set():
                number += 1
                self._send(client, f"{self.name}-{number}")

    def _send(self, client: httpx.Client, text: str) -> None:
        while True:
            try:
                answer = client.post("/chat/lobby", json={"handle": self.name, "message": text, "key": text})
            except httpx.TransportError:
                answer = None  # it is down; what became of the message is not known
            if answer is None or answer.status_code == 503:
                time.sleep(0.05)
                continue
            assert answer.status_code in {200, 201}, answer.text
            self.repeated += answer.status_code == 200
            self.acknowledged[text] = answer.json()["id"]
            return


class Listener(threading.Thread):
    """Stays in the room, and comes back to where it was."""

    def __init__(self, server: Server, since: str, over: threading.Event) -> None:
        super().__init__(name="listener", daemon=True)
        self.heard: list[dict[str, Any]] = []
        self.came = 0
        """How often it was let in."""
        self._since = since
        self._server = server
        self._over = over

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with self._server.socket(f"lobby?since={self._since}") as room:
                    self.came += 1
                    while not self._over.is_set():
                        self._listen(room)
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage):
                time.sleep(0.05)

    def _listen(self, room: ClientConnection) -> None:
        try:
            self.heard.append(json.loads(room.recv(0.2)))
        except TimeoutError:
            return
        self._since = self.heard[-1].get("id", self._since)


def test_what_was_acknowledged_survives_crashes_under_load(twistd: StartServer) -> None:
    server = twistd("--history-count", "1000000", *FAST)
    first = server.post("begin").json()
    stop, leave = threading.Event(), threading.Event()
    senders = [Sender(server, f"sender{number}", stop) for number in range(SENDERS)]
    listener = Listener(server, first["id"], leave)
    for thread in (*senders, listener):
        thread.start()

    def count() -> int:
        return sum(len(sender.acknowledged) for sender in senders)

    def went_on(crash: int, goal: int) -> bool:
        return listener.came > crash and count() >= goal

    try:
        for crash in range(CRASHES):
            goal = count() + 200
            until(partial(went_on, crash, goal), "200 more messages")
            server.kill()
            server.start()
        goal = count() + 100
        until(partial(went_on, CRASHES, goal), "messages after the last crash")
    finally:
        stop.set()
        for sender in senders:
            sender.join(PATIENCE)
    try:
        history = server.history()
        until(lambda: listener.heard[-1:] == history[-1:], "the listener to have everything")
    finally:
        leave.set()
        listener.join(PATIENCE)

    ids = {message["message"]: message["id"] for message in history}
    assert len(ids) == len(history), "nothing is there twice"
    acknowledged = {text: at for sender in senders for text, at in sender.acknowledged.items()}
    assert ids == acknowledged | {"begin": first["id"]}, "everything is there, under the id that was acknowledged"
    for sender in senders:
        texts = [message["message"] for message in history if message["handle"] == sender.name]
        assert texts == list(sender.acknowledged), "in the order in which it was sent"
    assert listener.heard == history[1:], "without gap, repetition or reset"


def test_after_a_crash_everyone_continues(twistd: StartServer) -> None:
    server = twistd()
    first = server.post("one", key="k1")
    missed = server.post("two").json()
    server.kill()
    server.start()
    again = server.post("one", key="k1")
    assert (first.status_code, again.status_code) == (201, 200), "sent again, stored once"
    assert first.json() == again.json()
    since = first.json()["id"]
    with server.socket(f"lobby?since={since}") as room, server.events(**{"last-event-id": since}) as lines:
        assert json.loads(room.recv(PATIENCE)) == missed
        assert f"id: {missed['id']}" in lines
        live = server.post("three", key="k2").json()
        assert json.loads(room.recv(PATIENCE)) == live
        assert f"id: {live['id']}" in lines
    assert [message["message"] for message in server.history()] == ["one", "two", "three"]


def fill(server: Server) -> httpx.Response:
    """Publishes until it is refused."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as client:
        for number in range(2_000):
            answer = client.post("/chat/lobby", json={"handle": "ann", "message": f"{number} " + "m" * 4000})
            if answer.status_code != 201:
                return answer
    pytest.fail("there is no end to it")


def test_a_database_of_its_full_size_refuses_and_lives(twistd: StartServer) -> None:
    server = twistd("--database-bytes", "1m", *FAST)
    with server.socket() as room:
        refused = fill(server)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
        room.send(json.dumps({"handle": "bob", "message": "m" * 4000, "key": "mine"}))
        while "error" not in (frame := json.loads(room.recv(PATIENCE))):
            pass
        assert (frame["error"]["code"], frame["error"]["key"]) == ("storage_full", "mine")
        kept = len(server.history())
        assert kept > 100, "what was kept is not given up"
        assert server.get("/chat/elsewhere").status_code == 200
        server.restart()
        assert len(server.history()) == kept
    assert "Traceback" not in server.log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if not (sys.platform == "linux" and os.getuid() == 0 and shutil.which("mount")):
        pytest.skip("needs the right to mount a file system")
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", directory], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.decode()}")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_full_disk_refuses_until_there_is_space_again(twistd: StartServer, small_disk: Path, port: int) -> None:
    (small_disk / "other").write_bytes(bytes(1 << 20))
    server = twistd("--relay", f"sqlite:{small_disk}/chat.db", "--admin-port", f"tcp:{port}:interface=127.0.0.1", *FAST)
    refused = fill(server)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
    kept = server.history()
    assert kept

    def obstacles() -> Any:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=PATIENCE).json()["obstacles"]

    # Its last answer is good for a second.
    assert [obstacle["code"] for obstacle in until(obstacles, "the server to be ready in part")] == ["writing"]

    (small_disk / "other").unlink()
    assert server.post("there is space again").status_code == 201
    until(lambda: not obstacles(), "the server to be ready")
    server.logged("publications are stored again")
    server.kill()
    server.start()
    assert [message["message"] for message in server.history()] == [
        *(message["message"] for message in kept),
        "there is space again",
    ]
    assert "Traceback" not in server.log
