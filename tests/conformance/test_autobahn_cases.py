"""The Autobahn test cases against the room socket, on HTTP/1.1 and, through HAProxy, on HTTP/2 (RFC 8441).

Of the suite, 1 to 7 are framing, pings, reserved bits, opcodes, fragmentation, UTF-8 and closing, 9 is limits and
performance, 10 is miscellaneous; there is no 8. Families 12 and 13 are compression, which is negotiated only with
``--compression``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.conformance

CASES = {
    "1.*": 16,
    "2.*": 11,
    "3.*": 7,
    "4.*": 10,
    "5.*": 20,
    "6.*": 145,
    "7.*": 37,
    "9.1.*": 6,
    "9.2.*": 6,
    "9.3.*": 9,
    "9.4.*": 9,
    "9.5.*": 6,
    "9.6.*": 6,
    "9.7.*": 6,
    "9.8.*": 6,
    "10.*": 1,
}
"""Patterns of the suite, and how many cases each has: one that matches nothing would pass."""

COMPRESSED = {"12.*.3": 5, "12.*.4": 5, "13.*.3": 7, "13.*.4": 7}
"""Of the cases of compression those that take seconds, and that the suite itself gets through."""

SMALL_WINDOWS = ("13.3.", "13.5.")
"""Offers that want us to compress with a window of 512 bytes, which we do not."""

INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
"""Cases that show how a server behaves where the standard leaves it open: data after a close frame, odd close codes."""

HAPROXY = shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
HAPROXY_CONFIGURATION = """\
defaults
    mode http
    timeout connect 30s
    timeout client 120s
    timeout server 120s
    timeout tunnel 120s
frontend clients
    bind fd@{listener}
    default_backend echo
backend echo
    server echo 127.0.0.1:{server} ssl verify none alpn h2,http/1.1 ws h2
"""

LONGEST = 300.0
"""Seconds that one pattern may take on a machine that is busy with other things."""


@dataclass
class EchoServer:
    clear: int
    secure: int
    compressing: int
    log: Path


@pytest.fixture(scope="module")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    directory = tmp_path_factory.mktemp("echo-server")
    script = Path(__file__).with_name("echo_server.py")
    out, log = directory / "ports", directory / "log"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, script, directory / "pem"], stdout=stdout, stderr=stderr)
    try:
        deadline = time.monotonic() + 60
        while not (ports := out.read_text()).endswith("\n"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        clear, secure, compressing = map(int, ports.split())
        yield EchoServer(clear, secure, compressing, log)
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def haproxy(echo_server: EchoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy that takes HTTP/1.1 and speaks HTTP/2 over TLS to the server, WebSockets included."""
    if HAPROXY is None:
        pytest.skip("HAProxy is not installed; it translates the cases to HTTP/2")
    configuration = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = HAPROXY_CONFIGURATION.format(listener=listener.fileno(), server=echo_server.secure)
        configuration.write_text(text)
        process = subprocess.Popen([HAPROXY, "-db", "-f", configuration], pass_fds=[listener.fileno()])
        port = int(listener.getsockname()[1])
    yield port
    assert process.poll() is None, "HAProxy did not take its configuration"
    process.terminate()
    process.wait(30)


def run(port: int, pattern: str, reports: Path) -> dict[str, tuple[str, str]]:
    """The verdicts on messages and closing, by case."""
    program = shutil.which("kosoku", path=str(Path(sys.executable).parent))
    assert program is not None, "kosoku is a dependency of the tests"
    command = [program, "-p", "2", "-i", pattern, "-o", str(reports), f"127.0.0.1:{port}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert (reports / "index.json").exists(), ran.stderr
    agents = json.loads((reports / "index.json").read_text())
    return {
        name: (case["behavior"], case["behaviorClose"]) for cases in agents.values() for name, case in cases.items()
    }


def check(verdicts: dict[str, tuple[str, str]], pattern: str) -> None:
    assert len(verdicts) == CASES[pattern]
    assert {case: verdict for case, verdict in verdicts.items() if verdict != ("OK", "OK")} == {
        case: ("INFORMATIONAL", "INFORMATIONAL") for case in INFORMATIONAL if case in verdicts
    }


def test_all_cases_are_there() -> None:
    assert sum(CASES.values()) == 301


@pytest.mark.parametrize("pattern", CASES)
def test_http1(echo_server: EchoServer, tmp_path: Path, pattern: str) -> None:
    check(run(echo_server.clear, pattern, tmp_path), pattern)


@pytest.mark.parametrize("pattern", CASES)
def test_http2(echo_server: EchoServer, haproxy: int, tmp_path: Path, pattern: str) -> None:
    before = echo_server.log.read_text().count("echo over H2Stream")
    check(run(haproxy, pattern, tmp_path), pattern)
    assert echo_server.log.read_text().count("echo over H2Stream") - before >= CASES[pattern]


@pytest.mark.parametrize("case", ["12.1.1", "13.1.1"])
def test_compression_is_not_negotiated(echo_server: EchoServer, tmp_path: Path, case: str) -> None:
    assert run(echo_server.clear, case, tmp_path) == {case: ("UNIMPLEMENTED", "OK")}


@pytest.mark.parametrize("pattern", COMPRESSED)
def test_compression(echo_server: EchoServer, tmp_path: Path, pattern: str) -> None:
    verdicts = run(echo_server.compressing, pattern, tmp_path)
    assert len(verdicts) == COMPRESSED[pattern]
    for case, verdict in verdicts.items():
        assert verdict == ("UNIMPLEMENTED" if case.startswith(SMALL_WINDOWS) else "OK", "OK"), case
