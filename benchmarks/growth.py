"""Whether anything is left of connections that are gone: a million that come and go, and what the server has then.

It takes several minutes, in which no peer is measured beside ours: once is enough.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks import contenders
from benchmarks.bench import Bench, Figure
from benchmarks.load import Load, generate
from benchmarks.servers import running

AT_ONCE = 64


def measure(bench: Bench) -> None:
    total = 2_000 if bench.quick else 1_000_000
    growth: Figure[Load] = Figure(
        "bytes/connection gone", "less", lambda load: slope(load.churn_memory) * 10 * 1024 / total
    )
    measures = {contenders.OURS: lambda: come_and_go(total)}
    bench.sizes("growth", f"{total:,} connections that came and went", [growth], measures, rounds=1)


def come_and_go(total: int) -> Load:
    with running(contenders.twisted_chat()) as server:
        return generate(server, AT_ONCE, q=total)


def slope(points: Sequence[float]) -> float:
    """By how much each is more than the one before, at the least squares; of the second half, when it is warm."""
    settled = points[len(points) // 2 :]
    return statistics.linear_regression(range(len(settled)), settled).slope
