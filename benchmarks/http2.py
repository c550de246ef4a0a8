"""HTTP/2 beside stock Twisted, in one run: requests a second, bytes both ways; and what an idle WebSocket holds.

    python benchmarks/http2.py [--requests 4000] [--rounds 3] [--sockets 1000]

Two servers, each a process of its own, serve the same resources over TLS: `twisted.web.server.Site` with Twisted's
HTTP/2, and our site. h2load (Debian: nghttp2-client) asks them in turn, and medians are compared. Twisted's HTTP/2
needs the package `priority`, which is installed into a temporary directory that only that server sees.

The memory is that of `twistd chat` with so many idle members in a room, each on a connection of its own, and as streams
of HTTP/2 connections, 200 on each.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from twisted.internet import endpoints, reactor, ssl
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.tls.self_signed import make_self_signed

SMALL, LARGE = 100, 1 << 20
STREAMS = 200
HANDSHAKE = (
    b"GET /chat/bench HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Upload(Resource):
    """Reads what is posted and says how much it was."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"%d" % len(request.content.read())


def serve(which: str, directory: Path) -> None:
    """Be a server; its port is the first line of standard output."""
    root = Resource()
    root.putChild(b"small", Data(b"x" * SMALL, "text/plain"))
    root.putChild(b"large", Data(b"x" * LARGE, "application/octet-stream"))
    root.putChild(b"upload", Upload())
    limits = HttpLimits(body_bytes=2 * LARGE)
    site = Site(root) if which == "stock" else ChatSite(root, reactor=reactor, limits=limits)
    pem = b"".join(path.read_bytes() for path in sorted(directory.rglob("*.pem")))
    certificate = ssl.PrivateCertificate.loadPEM(pem)
    endpoint = endpoints.SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1")
    endpoint.listen(site).addCallback(lambda port: print(port.getHost().port, flush=True))
    reactor.run()


def is_port(line: str) -> bool:
    return line.strip().isdigit()


@contextmanager
def process(command: list[str], ready: Callable[[str], bool], **environ: str) -> Iterator[tuple[int, str]]:
    """A server while it runs: its process, and the line by which it was ready."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environ
    ) as server:
        assert server.stdout is not None
        said = ""
        for line in server.stdout:
            said += line
            if ready(line):
                break
        else:
            sys.exit(said)
        try:
            yield server.pid, line
        finally:
            server.kill()


# Requests and bytes


def h2load(port: int, path: str, count: int, *options: str) -> float:
    """Requests a second."""
    command = ["h2load", "-n", str(count), "-c", "4", *options, f"https://127.0.0.1:{port}/{path}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    if f"{count} 2xx" not in ran or "Application protocol: h2" not in ran:
        sys.exit(f"not every request was answered over HTTP/2:\n{ran}")
    found = re.search(r"([\d.]+) req/s", ran)
    assert found is not None
    return float(found[1])


def processor_time(pid: int) -> float:
    """Seconds that a process has used, its own and the kernel's for it."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def compare(directory: Path, requests: int, rounds: int) -> None:
    make_self_signed(directory, ["127.0.0.1"], datetime.now(UTC))
    extra = directory / "stock-only"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(extra), "priority"]
    subprocess.run(pip, check=True)
    bodies = [directory / "32", directory / "512"]
    for body in bodies:
        body.write_bytes(b"x" * 1024 * int(body.name))
    loads = [
        (f"GET of {SMALL} bytes", "small", requests, ("-m", "32")),
        (f"GET of {LARGE >> 20} MiB", "large", requests // 20, ("-m", "4")),
        *((f"POST of {body.name} KiB", "upload", requests * 8 // int(body.name), ("-m", "4", "-d", str(body)))
          for body in bodies),
    ]  # fmt: skip

    def command(which: str) -> list[str]:
        return [sys.executable, __file__, "--serve", which, "--directory", str(directory)]

    with (
        process(command("stock"), is_port, PYTHONPATH=str(extra)) as stock,
        process(command("ours"), is_port) as ours,
    ):
        for name, path, count, options in loads:
            rates: list[list[float]] = [[], []]
            used: list[list[float]] = [[], []]
            for _ in range(rounds):
                for index, (pid, port) in enumerate((stock, ours)):
                    before = processor_time(pid)
                    rates[index].append(h2load(int(port), path, count, *options))
                    used[index].append((processor_time(pid) - before) / count * 1e6)
            theirs, own = map(median, rates)
            their_time, own_time = map(median, used)
            print(
                f"{name}: stock {theirs:,.0f}, ours {own:,.0f} a second, ratio {own / theirs:.1f};"
                f" stock {their_time:,.0f}, ours {own_time:,.0f} µs of processor each,"
                f" ratio {their_time / own_time:.1f}"
            )


# Memory


def over_tcp(port: int, count: int) -> list[Any]:
    """Sockets with a connection each."""
    sockets = []
    for _ in range(count):
        sockets.append(socket.create_connection(("127.0.0.1", port)))
        sockets[-1].sendall(HANDSHAKE)
        assert sockets[-1].recv(4_096).startswith(b"HTTP/1.1 101 ")
    return sockets


def over_http2(port: int, count: int) -> list[Any]:
    """The same as streams."""
    sockets = []
    for _ in range(count // STREAMS):
        sockets.append(socket.create_connection(("127.0.0.1", port)))
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat/bench")]
        for number in range(STREAMS):
            h2.send_headers(2 * number + 1, [*head, (":authority", "bench"), ("sec-websocket-version", "13")])
        sockets[-1].sendall(h2.data_to_send())
        answered = 0
        while answered < STREAMS:
            events = h2.receive_data(sockets[-1].recv(65_536))
            answered += sum(type(event).__name__ == "ResponseReceived" for event in events)
            sockets[-1].sendall(h2.data_to_send())
    return sockets


def resident(pid: int) -> int:
    """Bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def idle_memory(open_sockets: Callable[[int, int], list[Any]], count: int) -> float:
    """KiB for each idle WebSocket, in a server of its own."""
    twistd = shutil.which("twistd", path=str(Path(sys.executable).parent))
    assert twistd is not None
    command = [twistd, "--nodaemon", "--pidfile=", "chat", "--port", "tcp:0:interface=127.0.0.1", "--relay", "memory:"]
    with process([*command, "--limit-connections-per-address", "1000000"], lambda line: "open http" in line) as (
        pid,
        line,
    ):
        port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/", line)[0])
        first = open_sockets(port, STREAMS)  # what is made once
        time.sleep(1)
        before = resident(pid)
        sockets = open_sockets(port, count)
        time.sleep(1)
        each = (resident(pid) - before) / count / 1024
        for each_socket in [*first, *sockets]:
            each_socket.close()
        return each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sockets", type=int, default=1_000, help="a multiple of 200")
    parser.add_argument("--serve", choices=["stock", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.directory)
        return
    if shutil.which("h2load") is None:
        sys.exit("h2load is not on PATH; in Debian it is in nghttp2-client")
    with tempfile.TemporaryDirectory() as directory:
        compare(Path(directory), options.requests, options.rounds)
    tcp, http2 = (idle_memory(way, options.sockets) for way in (over_tcp, over_http2))
    print(f"idle WebSocket: {tcp:.1f} KiB on TCP, {http2:.1f} KiB over HTTP/2; ratio {http2 / tcp:.2f}")


if __name__ == "__main__":
    main()
