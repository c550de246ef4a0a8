"""What grows with the number of connections of one process, up to 19,000 of them, and how long it pauses.

Each size is a server of its own: all come, are silent long enough to be asked twice whether they live, and then ten
rooms of a hundred are loaded while the others stay idle.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import contenders
from benchmarks.bench import Bench, Figure
from benchmarks.delivery import JOINED
from benchmarks.installation import HERE
from benchmarks.load import Load, generate
from benchmarks.results import Comparison
from benchmarks.servers import running

TOPIC: Final = "connections"
TITLE: Final = "connections of one process"
SIZES: Final = (1_000, 5_000, 19_000)
QUICK_SIZES: Final = (1_000,)
GROUP: Final = 100
SPEAKING: Final = 10
"""Rooms of so many members, of which so many are loaded."""

SILENCE: Final = 50.0
"""Two intervals of ``--limit-ping-interval``."""

SPARE_FILES: Final = 200


@dataclass(frozen=True, slots=True)
class Held:
    """What one size came to; `pause` is the longest collection of garbage, in seconds of processor time."""

    connections: int
    load: Load
    pause: float


MEMORY: Final = "KiB/connection"
SILENT: Final = "ms CPU/s for 1,000 silent"
PAUSE: Final = "ms, longest GC pause"
FIGURES: Final[tuple[Figure[Held], ...]] = (
    Figure(MEMORY, "less", lambda held: held.load.memory),
    Figure(SILENT, "less", lambda held: held.load.idle_cpu * 1e6 / held.connections),
    Figure("µs CPU/handshake", "less", lambda held: held.load.handshake_cpu),
    Figure("µs CPU/delivery", "less", lambda held: held.load.delivery_cpu),
    Figure(PAUSE, "less", lambda held: held.pause * 1000),
)


def measure(bench: Bench) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES
    sizes = QUICK_SIZES if bench.quick else SIZES
    fitting = {f"{size:,}": partial(hold, size, bench) for size in sizes if size <= most}
    missing = {f"{size:,}": f"ulimit -n allows {most}" for size in sizes if size > most}
    if not fitting:
        bench.add(Comparison(TOPIC, TITLE, MEMORY, "less", (), missing=missing))
        return
    bench.sizes(TOPIC, TITLE, FIGURES, fitting, rounds=1)
    if missing:
        bench.comparisons = [
            replace(each, missing=missing) if each.topic == TOPIC else each for each in bench.comparisons
        ]


def hold(size: int, bench: Bench) -> Held:
    """Take all figures of one size."""
    with tempfile.TemporaryDirectory(prefix="chat-bench-") as name:
        pauses = Path(name, "pauses")
        watched = {"PYTHONPATH": str(HERE / "probe"), "CHAT_BENCH_PAUSES": str(pauses)}
        with running(replace(contenders.twisted_chat(), environ=watched)) as server:
            generate(server, 50)
            began = time.monotonic()
            load = generate(
                server,
                size,
                i=1 if bench.quick else SILENCE,
                t=bench.seconds,
                k=SPEAKING,
                W=JOINED * SPEAKING,
                g=GROUP,
                u="/chat/room%d",
            )
            ended = time.monotonic()
        return Held(size, load, longest(pauses.read_text(), began, ended))


def longest(pauses: str, began: float, ended: float) -> float:
    """Of the pauses that ``probe/sitecustomize.py`` wrote down, in a stretch of the monotonic clock."""
    lines = [tuple(map(float, line.split())) for line in pauses.splitlines()]
    return max((took for when, took in lines if began <= when <= ended), default=0.0)


# What is derived


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a million silent connections need, after what was measured of the largest number.

    processes
        if none has more connections than were measured
    memory
        GiB of all processes, without what the kernel keeps for sockets
    processors
        kept busy by asking all whether they live
    """

    connections: int
    processes: int
    memory: float
    processors: float


def sizing(comparisons: tuple[Comparison, ...], connections: int = 1_000_000) -> Sizing | None:
    """Derived from the largest size; None where that was not measured."""
    found = {each.unit: each for each in comparisons if each.topic == TOPIC}
    if not {MEMORY, SILENT} <= found.keys():
        return None
    largest = found[MEMORY].rows[-1]
    silent = found[SILENT].rows[-1]
    return Sizing(
        connections=connections,
        processes=-(-connections // int(largest.name.replace(",", ""))),
        memory=connections * largest.value / 1024**2,
        processors=connections / 1000 * silent.value / 1000,
    )
