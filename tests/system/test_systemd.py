"""Under systemd: its socket, its messages, its watchdog; and a restart that refuses nobody."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service_manager import ServiceManager
from tests.system.conftest import Authority
from tests.twistd import until

PATIENCE = 90.0
TWISTD = (str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=")


@contextmanager
def running(command: list[str], directory: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT, **options) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def ask(url: str, authority: Authority) -> httpx.Response:
    """Over TLS on the loopback interface, whatever name the URL has."""
    port = httpx.URL(url).port
    with httpx.Client(verify=ssl.create_default_context(cafile=str(authority.file)), trust_env=False) as client:
        return client.get(
            f"https://127.0.0.1:{port}{httpx.URL(url).path}",
            headers={"host": f"{httpx.URL(url).host}:{port}"},
            extensions={"sni_hostname": httpx.URL(url).host},
            timeout=PATIENCE,
        )


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_activated_by_a_socket_it_reports_what_it_does(
    tmp_path: Path, authority: Authority, service_manager: ServiceManager, port: int
) -> None:
    authority.issue(tmp_path / "certificates", "chat.example")
    variables = {"NOTIFY_SOCKET": str(service_manager.path), "WATCHDOG_USEC": "300000"}
    activate = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=https"]
    activate += [f"--setenv={name}={value}" for name, value in variables.items()]
    endpoint = "tls:systemd:domain=INET:name=https"
    with running([*activate, *TWISTD, "chat", "-p", endpoint, "--drain", "1"], tmp_path) as process:
        until(lambda: b"Listening on" in (tmp_path / "log").read_bytes())
        # The first connection starts it, and is served.
        assert ask(f"https://chat.example:{port}/chat/", authority).json()["messages"] == []
        assert f"STATUS=serving {endpoint}" in service_manager.hears("READY=1")
        for _ in range(3):
            service_manager.hears("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        assert any(line.startswith("MONOTONIC_USEC=") for line in service_manager.hears("RELOADING=1"))
        service_manager.hears("READY=1")
        process.send_signal(signal.SIGTERM)
        service_manager.hears("STOPPING=1")
        assert process.wait(PATIENCE) == -signal.SIGTERM
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.skipif(os.name != "posix", reason="needs sockets that can be passed on")
def test_while_it_restarts_connections_wait(tmp_path: Path, port: int) -> None:
    # As a .socket unit: the socket is there all the time, and each process gets it as descriptor 3.
    command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *TWISTD, "chat", "-p", "systemd:domain=INET:name=http"]
    variables = os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
    url = f"http://127.0.0.1:{port}/chat/lobby"
    with socket.create_server(("127.0.0.1", port), backlog=64) as listening:

        def start() -> Any:
            return running(
                command,
                tmp_path,
                env=variables,
                pass_fds=[3],
                preexec_fn=lambda: os.dup2(listening.fileno(), 3),
            )

        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            with start() as process:
                first = client.post(url, json={"handle": "ann", "message": "one"})
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == -signal.SIGTERM
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as waiting:
                waiting.sendall(b"GET /chat/lobby HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                with start():
                    assert waiting.recv(17) == b"HTTP/1.1 200 OK\r\n"
                    messages = client.get(url).json()["messages"]
    assert messages == [first.json()]
