"""What a delivery costs with many rooms, with many members, with a long history: it should not matter.

With many rooms there are many members that are asked whether they live. What that costs is taken off the deliveries,
and shown beside them.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks import contenders, http2_members
from benchmarks.bench import COST, Bench, Figure
from benchmarks.delivery import JOINED, saturate
from benchmarks.load import Load, generate
from benchmarks.servers import Running, running

ON_SOCKETS: Final = 10_000
"""Rooms whose member has a socket of its own. Those beyond have one over HTTP/2, and are silent."""

SPOKEN: Final[Figure[Load]] = Figure(
    COST.unit, COST.better, lambda load: load.delivery_cpu - load.idle_cpu * 1e6 / load.deliveries
)
SILENT: Final[Figure[Load]] = Figure("ms CPU/s when all are silent", "less", lambda load: load.idle_cpu * 1e3)


def measure(bench: Bench) -> None:
    rooms = (1, 100) if bench.quick else (1, 100, 10_000, 100_000)
    measures = {f"{count:,}": partial(of_rooms, count, bench.seconds) for count in rooms}
    title = "rooms of one member each, 1 message under way"
    bench.sizes("rooms", title, [SPOKEN, SILENT], measures, rounds=1)
    if bench.quick:
        return
    measures = {f"{count:,}": partial(of_members, count, bench.seconds) for count in (100, 1000, 5000)}
    bench.sizes("rooms", "members of one room", [COST], measures)
    measures = {f"{count:,}": partial(of_history, count, bench.seconds) for count in (0, 100, 10_000, 100_000)}
    bench.sizes("rooms", "messages in the history of a room of 100 members", [COST], measures)


def of_rooms(count: int, seconds: float) -> Load:
    """The members that have a socket speak in turn; one at a time, for two messages of one member would be joined."""
    with running(contenders.twisted_chat()) as server:
        sockets = min(count, ON_SOCKETS)
        if count == sockets:
            return _each_speaks(server, sockets, seconds)
        with http2_members.members(server.ports[0], count - sockets, "/chat/silent%d"):
            return _each_speaks(server, sockets, seconds)


def _each_speaks(server: Running, rooms: int, seconds: float) -> Load:
    """First nobody does, for as long: what silent members cost then, they also cost while others speak."""
    return generate(server, rooms, i=seconds, g=1, k=rooms, u="/chat/room%d", t=seconds, W=1)


def of_members(count: int, seconds: float) -> Load:
    with running(contenders.twisted_chat()) as server:
        return saturate(server, count, JOINED, seconds)


def of_history(count: int, seconds: float) -> Load:
    """The history is full."""
    with running(contenders.twisted_chat("--history-count", str(count))) as server:
        full = 0.0
        while full < count:
            full += generate(server, 1, t=1, W=64).deliveries
        return saturate(server, 100, JOINED, seconds)
