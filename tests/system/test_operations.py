"""What operators see: health, metrics and logs, and what they never see: tokens and what people wrote."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.twistd import Server, until
from twisted_chat.auth import SigningKey, make_token

StartServer = Callable[..., Server]

PATIENCE = 90.0


def test_health_and_metrics_are_on_a_port_of_their_own(twistd: StartServer, port: int) -> None:
    server = twistd("--admin-port", f"tcp:{port}:interface=127.0.0.1")
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as admin,
        server.socket() as room,
    ):
        server.post("hi")
        room.recv(PATIENCE)
        assert admin.get("/healthz").text == "ok\n"
        ready = {"ready": True, "state": "ready", "obstacles": [], "nodes": 1}
        # Its probe is a write: a disk that is busy with other tests may be slow to answer.
        until(lambda: admin.get("/readyz").json() == ready)
        metrics = admin.get("/metrics").text
        assert 'twisted_chat_publications_total{source="http"} 1.0' in metrics
        assert 'twisted_chat_connections{transport="websocket"} 1.0' in metrics
        for latency in ("publish", "relay_lag", "delivery"):
            assert f"twisted_chat_{latency}_seconds_count 1.0" in metrics
        assert "process_resident_memory_bytes" in metrics
        assert admin.get("/chat/lobby").status_code == 404
    for path in ("/healthz", "/readyz", "/metrics"):
        assert server.get(path).status_code == 404


def pester(room: ClientConnection, text: str) -> NoReturn:
    """Says it until the server has had enough."""
    for _ in range(200):
        room.send(text)
    while True:
        room.recv(PATIENCE)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_logs_have_no_secrets(twistd: StartServer, tmp_path: Path, log_format: str) -> None:
    key = tmp_path / "token-key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    api_key = secrets.token_urlsafe(32)
    (tmp_path / "api-keys").write_text(api_key)
    (tmp_path / "api-keys").chmod(0o600)
    server = twistd(
        *("--log-format", log_format, "--log-level", "debug"),
        *("--token-key-file", key, "--api-key-file", "api-keys", "--allow-origin", "null"),
    )
    now = time.time()
    good = make_token(SigningKey.from_file(key), "user-1", handle="ann", now=now, expires_in=600)
    expired = make_token(SigningKey.from_file(key), "user-2", handle="bob", now=now - 900, expires_in=60)
    forged = good[:-8] + "AAAAAAAA"
    canary = "yellow-canary"

    for token in (good, expired, forged):
        server.post(canary, headers={"authorization": f"Bearer {token}"}, key=canary)
        server.get(f"/chat/lobby?token={token}")
        server.get(f"/nowhere/{canary}?token={token}")
        try:
            with server.socket(f"lobby?token={token}&history=5") as room:
                room.send(json.dumps({"handle": canary, "message": canary}))
                room.send(canary)
                room.send(canary.encode())
                while canary not in str(room.recv(PATIENCE)):
                    pass
        except InvalidStatus:
            assert token != good
    server.post(canary, headers={"x-api-key": api_key})
    server.post(canary, headers={"x-api-key": api_key[:-1] + "?"})
    with server.socket(f"lobby?token={good}") as room, pytest.raises(ConnectionClosed):
        pester(room, canary)
    server.signal(signal.SIGHUP)
    server.logged("reloaded")
    server.terminate()

    log = server.log
    for secret in (good, expired, forged, api_key, key.read_text(), canary):
        assert secret not in log
    assert "POST /chat/lobby of 127.0.0.1 is refused: token_expired, " in log
    assert "user-1" in log if log_format == "json" else "websocket in 'lobby' from 127.0.0.1 ended" in log
    assert "Traceback" not in log
    if log_format == "json":
        entries = [json.loads(line) for line in log.splitlines()]
        assert all(entry.keys() >= {"time", "level", "system", "message"} for entry in entries)
        assert any(entry["message"].startswith("websocket in 'lobby' from 127.0.0.1 ended") for entry in entries)


@pytest.mark.parametrize("relay", ["memory:", "sqlite:"])
def test_without_files_for_all_some_wait_and_all_else_works(
    twistd: StartServer, tmp_path: Path, port: int, relay: str
) -> None:
    files, clients = 100, 120
    (tmp_path / "limit").mkdir()
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
    (tmp_path / "limit" / "sitecustomize.py").write_text(limited)
    options = ("--relay", relay, "--admin-port", f"tcp:{port}:interface=127.0.0.1")
    server = twistd(*options, environ={"PYTHONPATH": str(tmp_path / "limit")})
    assert server.logged("open files")
    with ExitStack() as stack:
        members: list[ClientConnection] = []
        for _ in range(clients):
            with suppress(ConnectionError, ConnectionClosed, InvalidMessage, EOFError):
                members.append(stack.enter_context(server.socket()))
        assert 10 < len(members) < files
        members[0].send(json.dumps({"handle": "ann", "message": "hi"}))
        for member in members:
            assert json.loads(member.recv(PATIENCE))["message"] == "hi"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as admin:
            assert admin.get("/readyz").status_code == 200, "there are files for operators and the database"
    until(lambda: _answers(server), "a place that became free")
    assert "Traceback" not in server.log


def _answers(server: Server) -> bool:
    try:
        return bool(server.post("again").status_code == 201)
    except httpx.TransportError:
        return False
