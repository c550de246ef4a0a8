"""What a delivery costs when the server has all that it can do, for one room of 100 to 5,000 members.

The figure is processor time of the server for a delivery: it depends least on what else the machine does.
"""

from __future__ import annotations

from typing import Final

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.load import generate
from benchmarks.servers import Running, redis

UNIT: Final = "µs/delivery"
JOINED: Final = 16
"""Messages under way: enough for a server to send several at once."""


def cost(server: Running, members: int, under_way: int, seconds: float) -> float:
    """Microseconds of processor time for each delivery at saturation."""
    generate(server, 50, t=0.5, W=under_way)
    return generate(server, members, t=seconds, W=under_way).delivery_cpu


def measure(bench: Bench) -> None:
    _joined(bench)
    if not bench.quick:
        _through_redis(bench)
    _one_by_one(bench)


def _joined(bench: Bench) -> None:
    who = [contenders.twisted_chat(), contenders.C_JOINING]
    if bench.quick:
        who.append(contenders.websockets(quick=True))
        _saturate(bench, who, 100)
        return
    peers = [contenders.SOCKETIFY, contenders.NCHAN, contenders.NODE_WS, contenders.websockets(), contenders.SOCKET_IO]
    with redis() as port:
        for members in (100, 1000, 5000):
            _saturate(bench, [*who, *peers, contenders.channels(port)], members)


def _saturate(bench: Bench, who: list[Contender], members: int) -> None:
    title = f"{members:,} members, {JOINED} messages under way"
    bench.side_by_side(
        "delivery", title, UNIT, "less", who, lambda server: cost(server, members, JOINED, bench.seconds)
    )


def _one_by_one(bench: Bench) -> None:
    who = [contenders.twisted_chat(), contenders.C_ONE_BY_ONE]
    bench.side_by_side(
        "delivery",
        "100 members, 1 message under way",
        UNIT,
        "less",
        who,
        lambda server: cost(server, 100, 1, bench.seconds),
    )


def _through_redis(bench: Bench) -> None:
    with redis() as port:
        bench.side_by_side(
            "delivery",
            f"two nodes through Redis, 100 members, {JOINED} messages under way",
            UNIT,
            "less",
            [contenders.twisted_chat(relay=f"redis://127.0.0.1:{port}"), contenders.channels(port)],
            lambda server: cost(server, 100, JOINED, bench.seconds),
            processes=2,
        )
