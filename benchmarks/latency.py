"""How late messages arrive at a rate that leaves air: half of what the peer can do at its best.

Latency counts from when a message was due, so that a server that holds up the sender hides nothing.
"""

from __future__ import annotations

from typing import Final

from benchmarks import contenders
from benchmarks.bench import P50, P99, Bench
from benchmarks.contenders import Contender
from benchmarks.delivery import JOINED, saturate
from benchmarks.installation import MissingError
from benchmarks.load import Load, generate
from benchmarks.results import Comparison
from benchmarks.servers import Running, running

MEMBERS: Final = 100


def measure(bench: Bench) -> None:
    peer = contenders.websockets(quick=True) if bench.quick else contenders.NODE_WS
    try:
        rate = half_of(peer, bench)
    except MissingError as error:
        missing = {peer.name: str(error)}
        bench.add(Comparison("latency", f"{MEMBERS} members", P99.unit, P99.better, (), missing=missing))
        return

    def at_that_rate(server: Running) -> Load:
        generate(server, 50, t=0.5)
        return generate(server, MEMBERS, l=bench.seconds, r=rate)

    title = f"{MEMBERS} members, {rate:,.0f} messages/s: half of what {peer.name} can"
    bench.side_by_side("latency", title, [P50, P99], [contenders.twisted_chat(), peer], at_that_rate)


def half_of(peer: Contender, bench: Bench) -> float:
    """Messages a second. Raises `MissingError`."""
    bench.progress.doing(f"latency: what {peer.name} can")
    with running(peer) as server:
        # On a machine that is busy with something else it may be none.
        return max(1.0, saturate(server, MEMBERS, JOINED, bench.seconds).deliveries / MEMBERS / 2)
