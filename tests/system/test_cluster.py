"""Two real servers at one real Redis: what an operator does at one of them holds at the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.twistd import until
from twisted_chat.auth import SigningKey, make_token

PATIENCE = 90.0
"""Seconds until a dead node has to be out of the table; it takes some 25."""

KEY = "an-api-key-of-these-servers"

Start = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The keys of tokens, and the API key."""
    files = {"token": tmp_path / "token-key", "api": tmp_path / "api-keys"}
    files["token"].write_text("0123456789abcdef0123456789abcdef")
    files["api"].write_text(KEY)
    for path in files.values():
        path.chmod(0o600)
    return files


@pytest.fixture
def node(twistd: Start, redis: str, files: dict[str, Path], tmp_path: Path) -> Start:
    """Starts one more node, in a directory of that name."""

    def node(name: str) -> Any:
        (tmp_path / name).mkdir()
        options = ("--relay", redis, "--token-key-file", files["token"], "--api-key-file", files["api"])
        return twistd(*options, directory=tmp_path / name)

    return node


@pytest.fixture
def token(files: dict[str, Path]) -> Callable[[str], dict[str, str]]:
    """The headers of a user."""

    def token(user: str) -> dict[str, str]:
        key = SigningKey.from_file(files["token"])
        return {"Authorization": "Bearer " + make_token(key, user, handle=user, now=time.time(), expires_in=3_600)}

    return token


Token = Callable[[str], dict[str, str]]


def order(server: Any, name: str, **fields: Any) -> None:
    answer = httpx.post(
        f"{server.url}/api/{name}", json=fields, headers={"X-API-Key": KEY}, trust_env=False, timeout=PATIENCE
    )
    assert answer.status_code == 200, answer.text


def answered(post: httpx.Response) -> str | None:
    """What it was refused for, or that it was not; None while the server has no Redis yet."""
    code: str = post.json().get("error", {"code": "it was taken"})["code"]
    return code if code != "try_again" else None


def names(server: Any) -> list[str]:
    return [node["name"] for node in server.get("/api/nodes", **{"X-API-Key": KEY}).json()["nodes"]]


def test_a_user_is_disconnected_at_the_other_node(node: Start, token: Token) -> None:
    here, there = node("here"), node("there")
    with (
        there.socket(additional_headers=token("u1")) as meant,
        there.socket(additional_headers=token("u2")) as other,
    ):
        order(here, "disconnect", user="u1", reason="please read the rules")
        with pytest.raises(ConnectionClosed) as closed:
            meant.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "disconnected: please read the rules")
        here.post("still here", headers=token("u2"))
        assert json.loads(other.recv(timeout=PATIENCE))["message"] == "still here"
    # A node that starts reads the order, and does not take it for one about those who come later.
    there.restart()
    with there.socket("lobby?history=1", additional_headers=token("u1")) as meant:
        assert json.loads(meant.recv(timeout=PATIENCE))["message"] == "still here", "from now on it misses nothing"
        here.post("welcome back", headers=token("u2"))
        assert json.loads(meant.recv(timeout=PATIENCE))["message"] == "welcome back"


def test_a_room_is_refused_at_the_other_node_and_by_one_that_starts(node: Start, token: Token) -> None:
    here, there = node("here"), node("there")
    with there.socket("team", additional_headers=token("u1")) as client:
        order(here, "refuse", room="team")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "room_refused: this room is closed")
    there.kill()
    there.start()
    # With the first request that it takes.
    code = until(lambda: answered(there.post("hi", "team", token("u1"))), "an answer")
    assert code == "room_refused"
    with pytest.raises(InvalidStatus) as refused:
        there.socket("team", additional_headers=token("u1"))
    assert refused.value.response.status_code == 403
    order(there, "admit", room="team")
    until(lambda: here.post("hi", "team", token("u1")).status_code == 201, "a room that was admitted")


def test_nodes_see_each_other_until_they_end(node: Start, files: dict[str, Path]) -> None:
    here, there = node("here"), node("there")
    until(lambda: len(names(here)) == len(names(there)) == 2, "both nodes at both")
    table = subprocess.run(
        [sys.executable, "-m", "twisted_chat", "nodes", here.url, "--api-key-file", str(files["api"])],
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    ).stdout.splitlines()
    assert table[0].split() == ["NAME", "VERSION", "UP", "FOR", "ROOMS", "MEMBERS"]
    assert [line.split()[0] for line in table[1:]] == sorted(names(here))
    there.terminate()
    assert len(names(here)) == 1


def test_a_node_that_dies_is_taken_out_of_the_table(node: Start) -> None:
    here = node("here")
    until(lambda: len(names(here)) == 1, "the first node")
    alone = names(here)
    there = node("there")
    until(lambda: len(names(here)) == 2, "both nodes")
    there.kill()
    deadline = time.monotonic() + PATIENCE
    while names(here) != alone:
        assert time.monotonic() < deadline, "the dead node is still there"
        time.sleep(0.2)
