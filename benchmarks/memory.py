"""What an idle connection holds, and whether anything is left of one that is gone.

It is the memory of the server's processes; what the kernel keeps for a socket comes on top, for every server alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks import contenders, http2_members
from benchmarks.bench import MEMORY, Bench, Figure
from benchmarks.load import Load, generate
from benchmarks.servers import Running, redis, running

SETTLE: Final = 1.0
"""Seconds of silence before memory is read."""


def measure(bench: Bench) -> None:
    _idle(bench, 500 if bench.quick else 1000)
    members = 500 if bench.quick else 5000
    measures = {"HTTP/1.1": partial(_on_sockets, members), "HTTP/2": partial(_on_streams, members)}
    title = f"{members:,} idle connections, each on a socket or {http2_members.STREAMS} on one"
    bench.sizes("memory", title, [Figure("KiB/connection", "less", float)], measures)
    _growth(bench)


def _idle(bench: Bench, members: int) -> None:
    def idle(server: Running) -> Load:
        generate(server, 50)
        return generate(server, members, i=SETTLE)

    title = f"{members:,} idle connections"
    ours = contenders.twisted_chat()
    if bench.quick:
        bench.side_by_side("memory", title, [MEMORY], [ours, contenders.websockets(quick=True)], idle)
        return
    peers = [contenders.SOCKETIFY, contenders.NODE_WS, contenders.websockets(), contenders.SOCKET_IO]
    with redis() as port:
        bench.side_by_side("memory", title, [MEMORY], [ours, *peers, contenders.channels(port)], idle)


def _on_sockets(members: int) -> float:
    with running(contenders.twisted_chat()) as server:
        generate(server, 50)
        return generate(server, members, i=SETTLE).memory


def _on_streams(members: int) -> float:
    with running(contenders.twisted_chat()) as server:
        generate(server, 50)
        before = server.memory()
        with http2_members.members(server.ports[0], members, "/chat/bench"):
            time.sleep(SETTLE)
            return (server.memory() - before) / members


# Growth


def _growth(bench: Bench) -> None:
    total = 2_000 if bench.quick else 100_000
    growth: Figure[Load] = Figure(
        "bytes/connection gone", "less", lambda load: slope(load.churn_memory) * 10 * 1024 / total
    )
    bench.side_by_side(
        "memory",
        f"{total:,} connections that came and went",
        [growth],
        [contenders.twisted_chat()],
        lambda server: generate(server, 64, q=total),
    )


def slope(points: Sequence[float]) -> float:
    """By how much each is more than the one before, at the least squares; of the second half, when it is warm."""
    settled = points[len(points) // 2 :]
    return statistics.linear_regression(range(len(settled)), settled).slope
