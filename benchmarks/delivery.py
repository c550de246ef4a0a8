"""What a delivery costs when the server has all that it can do: one room of 100 to 5,000 members.

The figure is processor time of the server for a delivery: it depends least on what else the machine does.
"""

from __future__ import annotations

from typing import Final

from benchmarks import contenders
from benchmarks.bench import COST, Bench
from benchmarks.contenders import Contender
from benchmarks.load import Load, generate
from benchmarks.servers import Running, redis

JOINED: Final = 16
"""Messages under way: enough for a server to send several at once."""


def saturate(server: Running, members: int, under_way: int, seconds: float, **options: float | str) -> Load:
    """As many deliveries as the server makes, after a little of it to warm up."""
    generate(server, 50, t=0.5, W=under_way, **options)
    return generate(server, members, t=seconds, W=under_way, **options)


def measure(bench: Bench) -> None:
    if bench.quick:
        peers = [contenders.websockets(quick=True)]
        _joined(bench, 100, peers)
    else:
        peers = [contenders.SOCKETIFY, contenders.NCHAN, contenders.NODE_WS, contenders.websockets()]
        with redis() as port:
            peers += [contenders.SOCKET_IO, contenders.channels(port)]
            for members in (100, 1000, 5000):
                _joined(bench, members, peers)
        _through_redis(bench)
    _one_by_one(bench)


def _joined(bench: Bench, members: int, peers: list[Contender]) -> None:
    bench.side_by_side(
        "delivery",
        f"{members:,} members, {JOINED} messages under way",
        [COST],
        [contenders.twisted_chat(), contenders.C_JOINING, *peers],
        lambda server: saturate(server, members, JOINED, bench.seconds),
    )


def _one_by_one(bench: Bench) -> None:
    bench.side_by_side(
        "delivery",
        "100 members, 1 message under way",
        [COST],
        [contenders.twisted_chat(), contenders.C_ONE_BY_ONE],
        lambda server: saturate(server, 100, 1, bench.seconds),
    )


def _through_redis(bench: Bench) -> None:
    with redis() as port:
        bench.side_by_side(
            "delivery",
            f"two nodes through Redis, 100 members, {JOINED} messages under way",
            [COST],
            [contenders.twisted_chat(relay=f"redis://127.0.0.1:{port}"), contenders.channels(port)],
            lambda server: saturate(server, 100, JOINED, bench.seconds),
            processes=2,
        )
