"""WebSockets of a real browser: every orderly end is clean in its eyes, on both transports; and with TLS it is HTTP/2.

What the browser did on its network is read from its own log (``--log-net-log``), which it writes when it ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page

from tests.browser.conftest import LoggingBrowser, Server

pytestmark = pytest.mark.browser

DEADLINE = 90.0
KEY = "0123456789abcdef0123456789abcdef"

SOCKETS = """
    window.sockets = {};
    window.enter = (name, query, protocols = []) => new Promise((resolve, reject) => {
        const socket = new WebSocket(location.origin.replace("http", "ws") + "/chat/lobby?" + query, protocols);
        sockets[name] = { socket, messages: [], end: null };
        socket.onopen = () => resolve(true);
        socket.onmessage = ({ data }) => sockets[name].messages.push(data);
        socket.onclose = ({ code, reason, wasClean }) => {
            sockets[name].end = { code, reason: reason.split(":")[0], wasClean };
            reject(new Error("closed"));
        };
    });
"""


@pytest.fixture
def closing_server(start_server: Callable[..., Server], tmp_path: Path, port: int) -> Server:
    """A server with users and an administrator, on a port without and one with TLS."""
    for name in ("token-key", "api-keys"):
        (tmp_path / name).write_text(KEY)
        (tmp_path / name).chmod(0o600)
    return start_server(
        *("--port", f"tls:{port}:interface=127.0.0.1", "--self-signed", "--drain", "1"),
        *("--token-key-file", str(tmp_path / "token-key"), "--api-key-file", str(tmp_path / "api-keys")),
    )


def token(directory: Path, user: str, expires_in: int) -> str:
    command = [sys.executable, "-m", "twisted_chat", "token", user, "--key-file", str(directory / "token-key")]
    ask = [*command, "--expires-in", str(expires_in)]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def disconnect(server: Server, user: str) -> None:
    body = json.dumps({"user": user, "reason": "enough"}).encode()
    request = urllib.request.Request(f"{server.url}/api/disconnect", body, {"X-API-Key": KEY})
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=DEADLINE).close()


def end_of(page: Page, name: str) -> tuple[int, str, bool]:
    page.wait_for_function("(name) => sockets[name].end !== null", arg=name, timeout=DEADLINE * 1000)
    end = page.evaluate("(name) => sockets[name].end", name)
    return end["code"], end["reason"], end["wasClean"]


def open_all_and_end_them(page: Page, server: Server, directory: Path) -> dict[str, tuple[int, str, bool]]:
    """A socket for each kind of orderly end, and how the page saw it."""
    page.add_init_script(SOCKETS)
    page.reload()

    def enter(name: str, expires_in: int) -> None:
        page.evaluate("([name, token]) => enter(name, `token=${token}`)", [name, token(directory, name, expires_in)])

    for name in ("ann", "bob", "carl", "dora", "emma"):
        enter(name, 600)
    # All of them are there, and hear each other.
    page.evaluate("() => sockets.ann.socket.send(JSON.stringify({message: 'hello'}))")
    page.wait_for_function(
        "() => Object.values(sockets).every((each) => each.messages.length === 1)", timeout=DEADLINE * 1000
    )
    for seconds in (4, 16, 64):  # on a busy machine the shorter ones are over before the server sees them
        try:
            enter("fred", seconds)
            break
        except Error:
            assert seconds < 64
    ends = {}
    page.evaluate("() => sockets.ann.socket.close(1000, 'bye')")
    page.evaluate("() => sockets.bob.socket.close()")
    disconnect(server, "carl")
    page.evaluate("() => { for (let n = 0; n < 300; n++) sockets.dora.socket.send('{}'); }")
    for name in ("ann", "bob", "carl", "dora", "fred"):
        ends[name] = end_of(page, name)
    server.stop()
    ends["emma"] = end_of(page, "emma")
    return ends


ENDS = {
    # Who leaves is answered with its own code and reason; without a code a browser calls it 1005.
    "ann": (1000, "bye", True),
    "bob": (1005, "", True),
    "carl": (1008, "disconnected", True),
    "dora": (1013, "rate_limited", True),
    "emma": (1001, "going_away", True),
    "fred": (1008, "token_expired", True),
}


def test_every_orderly_end_is_clean_over_http1(browser: Browser, closing_server: Server, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(closing_server.url)
    assert open_all_and_end_them(page, closing_server, tmp_path) == ENDS
    page.close()


def test_every_orderly_end_is_clean_over_http2(
    logging_browser: LoggingBrowser, closing_server: Server, port: int, tmp_path: Path
) -> None:
    page = logging_browser.browser.new_page(ignore_https_errors=True)
    page.goto(f"https://127.0.0.1:{port}/")
    version = page.evaluate("() => performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert version == "h2"
    assert open_all_and_end_them(page, closing_server, tmp_path) == ENDS
    page_sessions, socket_sessions = sessions(logging_browser.end())
    # All six, on the connection that the page came on. One may have come more than once.
    assert len(socket_sessions) >= 6
    assert set(socket_sessions) <= set(page_sessions)
    assert len(set(socket_sessions)) == 1


def sessions(net_log: Any) -> tuple[list[int], list[int]]:
    """The HTTP/2 sessions that pages were asked on, and those that WebSockets were opened on, one for each."""
    sending = net_log["constants"]["logEventTypes"]["HTTP2_SESSION_SEND_HEADERS"]
    pages, sockets = [], []
    for event in net_log["events"]:
        if event["type"] != sending or "params" not in event:
            continue
        headers = event["params"]["headers"]
        session = event["source"]["id"]
        if ":protocol: websocket" in headers:
            sockets.append(session)
        elif ":path: /" in headers:
            pages.append(session)
    return pages, sockets
