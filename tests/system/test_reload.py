"""SIGHUP: keys, origins and hosts are read again, and nobody is disconnected."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.twistd import Server
from twisted_chat.auth import SigningKey, make_token

StartServer = Callable[..., Server]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")

PATIENCE = 90.0
SITE = {"origin": "https://site.example"}


def new_key(file: Path) -> dict[str, str]:
    """Makes another secret; the header of someone with a token by it."""
    file.write_text(secrets.token_hex(32))
    file.chmod(0o600)
    return bearer(file)


def bearer(file: Path) -> dict[str, str]:
    token = make_token(SigningKey.from_file(file), "u1", handle="ann", now=time.time(), expires_in=600)
    return {"authorization": f"Bearer {token}"}


def test_keys_and_origins_are_exchanged_under_connections(twistd: StartServer, tmp_path: Path) -> None:
    key, config = tmp_path / "token-key", tmp_path / "chat.toml"
    config.write_text('token-key-file = "token-key"\n')
    old = new_key(key)
    server = twistd("--config", config)
    assert server.post("hi", headers=old).status_code == 201
    assert server.post("hi", headers=old | SITE).json()["error"]["code"] == "origin_not_allowed"

    with server.socket(additional_headers=old) as room:

        def talk(message: str) -> None:
            room.send(json.dumps({"message": message}))
            assert json.loads(room.recv(PATIENCE))["message"] == message

        talk("with the old key")
        new = new_key(key)
        assert server.post("too early", headers=new).json()["error"]["code"] == "token_invalid"
        config.write_text('token-key-file = "token-key"\nallow-origin = "https://site.example"\nlog-level = "debug"\n')
        server.signal(signal.SIGHUP)
        server.logged("certificates, keys, origins, hosts and log level reloaded; other settings change with a restart")
        assert "is refused" not in server.log
        assert server.post("hi", headers=old).json()["error"]["code"] == "token_invalid"
        server.logged("POST /chat/lobby of 127.0.0.1 is refused: token_invalid, ")
        assert server.post("hi", headers=new | SITE).status_code == 201
        assert json.loads(room.recv(PATIENCE))["message"] == "hi"
        talk("who is in stays in")

        # What is wrong changes nothing, not even in part.
        key.write_text("short")
        config.write_text('token-key-file = "token-key"\n')
        server.signal(signal.SIGHUP)
        server.logged("not reloaded, what was in use stays: the key file token-key has a secret of 5 bytes")
        assert server.post("hi", headers=new | SITE).status_code == 201
        config.write_text("token-key-file = ")
        server.signal(signal.SIGHUP)
        server.logged("chat.toml is not TOML")
        assert server.post("hi", headers=new | SITE).status_code == 201
    assert "Traceback" not in server.log
