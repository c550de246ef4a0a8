"""HTTP/2 over TLS beside Twisted's own: requests, and bytes both ways. What a member holds is a matter of `memory`.

The load is h2load's (Debian: nghttp2-client), on four connections. Twisted's HTTP/2 needs the package ``priority``, so
it runs in the peers' environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import contenders, installation
from benchmarks.bench import Bench, Figure
from benchmarks.contenders import Contender
from benchmarks.installation import PEERS
from benchmarks.results import Comparison
from benchmarks.servers import LOAD_CPU, BrokenError, Running, pinned
from twisted_chat.server.tls.self_signed import FILE_NAME, make_self_signed

PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests a second, and microseconds of the server's processor for each."""

    rate: float
    cpu: float


RATE: Final[Figure[Answers]] = Figure("requests/s", "more", lambda answers: answers.rate)
COST: Final[Figure[Answers]] = Figure("µs CPU/request", "less", lambda answers: answers.cpu)


def measure(bench: Bench) -> None:
    if shutil.which("h2load") is None:
        missing = {"h2load": "it is not on PATH; install nghttp2-client"}
        bench.add(Comparison("http2", "requests", RATE.unit, RATE.better, (), missing=missing))
        return
    scale = 1 if bench.quick else 8
    with tempfile.TemporaryDirectory(prefix="chat-bench-") as name:
        directory = Path(name)
        make_self_signed(directory, ["127.0.0.1"], datetime.now(UTC))
        pem = str(directory / FILE_NAME)
        sites = [_site("ours", pem, ours=True)]
        if not bench.quick:
            sites.append(_site("stock", pem, ours=False))
        for title, path, count, options in (
            ("GET of 100 bytes", "small", 1_000, ("-m", "32")),
            ("GET of 1 MiB", "large", 50, ("-m", "4")),
            ("POST of 32 KiB", "upload", 250, ("-m", "4", "-d", _body(directory, 32))),
            ("POST of 512 KiB", "upload", 25, ("-m", "4", "-d", _body(directory, 512))),
        ):
            load = partial(ask, path=path, count=count * scale, options=options)
            bench.side_by_side("http2", title, [RATE, COST], sites, load)


def _body(directory: Path, kibibytes: int) -> str:
    path = directory / f"{kibibytes}"
    path.write_bytes(b"x" * 1024 * kibibytes)
    return str(path)


def _site(which: str, pem: str, *, ours: bool) -> Contender:
    def command(port: int) -> list[str]:
        python = sys.executable if ours else installation.python_for("twisted")
        return [python, str(PEERS / "http2_site.py"), str(port), pem, which]

    return Contender(contenders.OURS if ours else "twisted.web", command, ours=ours)


def ask(server: Running, path: str, count: int, options: tuple[str, ...]) -> Answers:
    """Run h2load, a short time to warm up and then for the figures. Raises `BrokenError`."""
    (port,), (pid,) = server.ports, server.pids
    url = f"https://127.0.0.1:{port}/{path}"
    command = [*pinned(LOAD_CPU), "h2load", "-c", "4", *options, url]
    _h2load(command, max(4, count // 5))
    before = processor_time(pid)
    rate = _h2load(command, count)
    return Answers(rate, (processor_time(pid) - before) / count * 1e6)


def _h2load(command: list[str], requests: int) -> float:
    """Requests a second."""
    command = [*command, "-n", str(requests)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
    except subprocess.TimeoutExpired:
        raise BrokenError(f"not every request was answered after {PATIENCE:.0f} seconds") from None
    rate = re.search(r"([\d.]+) req/s", said)
    if rate is None or f" {requests} 2xx" not in said or "Application protocol: h2" not in said:
        raise BrokenError(f"not every request was answered over HTTP/2: {said[-500:]}")
    return float(rate[1])


def processor_time(pid: int) -> float:
    """Seconds that a process has used, its own and the kernel's for it."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
