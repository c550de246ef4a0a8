"""What the browser of somebody on this machine sends for a foreign page whose name was made to lead to 127.0.0.1."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.twistd import Server

StartServer = Callable[..., Server]

PATIENCE = 90.0
ROUTING = """
from twisted_chat.consumers import route


def accept(message):
    message.reply_channel.send({"accept": True})


channel_routing = [route("websocket.connect", accept, path=r"^/consumers/$")]
"""


def handshake(server: Server, host: str, path: str = "/chat/lobby") -> tuple[int, str]:
    """The status of a WebSocket handshake of a page of this host, and the code of its refusal."""
    uri = f"ws://{host}:{server.port}{path}"
    page = {"Origin": f"http://{host}:{server.port}"}
    raw = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    try:
        with connect(uri, sock=raw, additional_headers=page, proxy=None, open_timeout=PATIENCE):
            return 101, ""
    except InvalidStatus as refused:
        answer = json.loads(refused.response.body)
        return refused.response.status_code, answer["error"]["code"]


def test_a_page_whose_name_leads_here_gets_nothing(twistd: StartServer, tmp_path: Path) -> None:
    (tmp_path / "hosts_routing.py").write_text(ROUTING)
    server = twistd(
        *("--routing", "hosts_routing:channel_routing", "--admin-port", "unix:admin.sock", "--log-level", "debug"),
        environ={"PYTHONPATH": str(tmp_path)},
    )
    server.logged("only localhost and addresses are answered to; --allow-host names other hosts")
    assert server.post("for ann only").status_code == 201
    rebound = {"host": f"evil.example:{server.port}", "origin": f"http://evil.example:{server.port}"}
    for path in ("/", "/chat/lobby", "/static/chat-client.js", "/api/nodes"):
        for accept in ("application/json", "text/html", "text/event-stream"):
            answer = server.get(path, accept=accept, **rebound)
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_not_allowed")
    assert server.post("from a foreign page", headers=rebound).status_code == 421
    server.logged(
        "POST /chat/lobby is refused: host_not_allowed, this server does not answer to the host evil.example;"
    )
    for path in ("/chat/lobby", "/consumers/"):
        assert handshake(server, "evil.example", path) == (421, "host_not_allowed")
        assert handshake(server, "localhost", path) == (101, "")
    assert [each["message"] for each in server.history()] == ["for ann only"]
    # Probes come under any name.
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "admin.sock")), timeout=PATIENCE) as probe:
        assert probe.get("http://evil.example/healthz").status_code == 200
        assert 'refusals_total{reason="host_not_allowed"} 15' in probe.get("http://evil.example/metrics").text
    assert "Traceback" not in server.log


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_hosts_are_named_and_exchanged(twistd: StartServer, tmp_path: Path) -> None:
    config = tmp_path / "chat.toml"
    config.write_text('allow-host = ["chat.example"]\n')
    server = twistd("--config", config)
    assert handshake(server, "chat.example") == (101, "")
    assert handshake(server, "a.chat.example") == (421, "host_not_allowed")
    config.write_text('allow-host = "*.chat.example"\n')
    server.signal(signal.SIGHUP)
    server.logged("certificates, keys, origins, hosts and log level reloaded")
    assert handshake(server, "a.chat.example") == (101, "")
    assert handshake(server, "chat.example") == (421, "host_not_allowed")
    assert server.get("/chat/lobby").status_code == 200


def test_a_wrong_host_is_named_at_start(
    run_twistd: Callable[..., Any],
) -> None:
    ended = run_twistd("-n", "--pidfile=", "chat", TWISTED_CHAT_ALLOW_HOST="good.example https://bad.example/")
    assert ended.returncode == 1
    assert ended.stderr == (
        "twistd chat: 'https://bad.example/' is no host to allow: it has no scheme, port or path: 'bad.example'\n"
    )
