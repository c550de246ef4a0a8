"""A server, members that behave, and one address that attacks it in every way at once.

    python -m tests.attack.campaign [--members 1000] [--seconds 20] [--relay sqlite:] [NAME ...]

Prints what the members saw and how large the server became. Ends with 1 where a member was cut off, missed a message,
saw another order, or waited too long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.attack.attackers import ATTACKS
from tests.attack.honest import Result
from tests.twistd import PATIENCE, Server

ROOT: Final = Path(__file__).parents[2]

DELIVERY_SECONDS: Final = 1.0
"""Seconds that a delivery may take under attack."""

MEMORY_BYTES: Final = 300 << 20
"""Bytes that the server may have in memory."""


@dataclass(frozen=True, slots=True)
class Report:
    """The campaign's outcome. Bytes are of the server's resident memory."""

    members: Result
    memory_before: int
    memory_most: int


def attack(server: Server, names: list[str], *, members: int, rooms: int, seconds: float) -> Report:
    """Let members talk on `server` while it is attacked."""
    honest = _start("honest", server, seconds, "--members", str(members), "--rooms", str(rooms))
    assert honest.stdout is not None
    if honest.stdout.readline() != "joined\n":
        raise AssertionError("the members could not join")
    before = most = memory(server)
    attackers = _start("attackers", server, seconds, *names)
    try:
        deadline = time.monotonic() + seconds + PATIENCE
        while honest.poll() is None and time.monotonic() < deadline:
            most = max(most, memory(server))
            time.sleep(0.2)
        result = Result(**json.loads(honest.stdout.readline()))
        attackers.wait(PATIENCE)
    finally:
        for process in (honest, attackers):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    return Report(result, before, most)


def memory(server: Server) -> int:
    """Bytes of resident memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) << 10


def _start(module: str, server: Server, seconds: float, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tests.attack.{module}", "--port", str(server.port), "--seconds", str(seconds)]
    # The attackers leave the processor to those that measure.
    nice = (lambda: os.nice(10)) if module == "attackers" else None
    return subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=nice)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--members", type=int, default=1_000)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--relay", default="sqlite:")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), ("--relay", given.relay), {}, "tcp:{port}:interface=127.0.0.1")
        try:
            report = attack(server, given.names, members=given.members, rooms=given.rooms, seconds=given.seconds)
        finally:
            server.terminate()
        traceback = "Traceback" in server.log
    seen = report.members
    sys.stdout.write(
        f"{seen.members} members: {seen.sent} messages sent, {seen.delivered} deliveries, {seen.missing} missing\n"
        f"{seen.cut_off} cut off, {seen.out_of_order} saw another order\n"
        f"delivery: median {seen.median:.3f} s, 99% within {seen.late:.3f} s, latest {seen.latest:.3f} s\n"
        f"memory: {report.memory_before >> 20} MiB before, at most {report.memory_most >> 20} MiB\n"
        f"{'a' if traceback else 'no'} traceback in the log\n"
    )
    held = not (seen.cut_off or seen.missing or seen.out_of_order) and not traceback
    sys.exit(not (held and seen.latest < DELIVERY_SECONDS and report.memory_most < MEMORY_BYTES))


if __name__ == "__main__":
    main()
