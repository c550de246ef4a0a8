"""The load generator, ``native/wsload.c``: what it is asked, and what it says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from benchmarks.installation import BUILD
from benchmarks.servers import LOAD_CPU, BrokenError, Running, pinned

MESSAGE_BYTES: Final = 128
PATIENCE: Final = 60.0
"""Seconds for a run to be longer than it was asked to be, besides the time that connecting takes."""

CONNECTING: Final = 0.015
"""Seconds for each connection; a server that needs more of them than this is not waited for."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the generator measured; zero where it was not asked to.

    open, failed
        connections that were made, and that were not or that ended
    handshakes
        a second, as many as were under way together allowed
    handshake_cpu
        microseconds of the server's processor time for each
    memory
        KiB of the server's resident memory for each connection, when all were idle
    idle_cpu
        seconds of the server's processor time in a second of silence
    deliveries
        a second at saturation: messages that a member received whole
    delivery_cpu
        microseconds of the server's processor time for each
    p50, p99
        microseconds from when a message was due to be sent until a member had it, at a fixed rate
    rate
        messages a second that were sent then
    lost
        deliveries that did not come
    churn_memory
        KiB that the server had, before any connection came and after each tenth of those that came and went
    """

    open: int
    failed: int
    handshakes: float
    handshake_cpu: float
    memory: float
    idle_cpu: float
    deliveries: float
    delivery_cpu: float
    p50: float
    p99: float
    rate: float
    lost: int
    churn_memory: Sequence[float]


def parse(line: str) -> Load:
    """What the generator printed. Raises `BrokenError`."""
    try:
        said = json.loads(line)
        return Load(**{field.name: said[field.name] for field in fields(Load)})
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenError(f"the load generator said {line.strip()[:200]!r}, which is no result ({error})") from None


def arguments(server: Running, members: int, **options: float | str) -> list[str]:
    """The command line. `options` are those of wsload by their letters, see its head; True stands for a switch."""
    given = [*server.contender.load, "-n", str(members), "-b", str(MESSAGE_BYTES)]
    given += ["-p", ",".join(map(str, server.ports)), "-S", ",".join(map(str, server.pids))]
    for letter, value in options.items():
        given += [f"-{letter}"] if value is True else [f"-{letter}", str(value)]
    return [*pinned(LOAD_CPU), str(BUILD / "wsload"), *given]


def limit(members: int, options: Mapping[str, float | str]) -> float:
    """Seconds that a run may take in all."""
    asked = sum(float(options.get(letter, 0)) for letter in "itl")
    return PATIENCE + asked + CONNECTING * max(members, float(options.get("q", 0)))


def generate(server: Running, members: int, **options: float | str) -> Load:
    """Run it. Raises `BrokenError` when it ends badly, or when not everybody was served."""
    name = f"{server.contender.name}, {members} members"
    patience = limit(members, options)
    command = arguments(server, members, **options)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        raise BrokenError(f"{name}: not done after {patience:.0f} seconds") from None
    if done.returncode:
        raise BrokenError(f"{name}: {done.stderr.strip() or f'the load generator ended with {done.returncode}'}")
    load = parse(done.stdout)
    if load.failed:
        raise BrokenError(f"{name}: {load.failed} connections were refused or lost. {done.stderr.strip()}")
    return load
