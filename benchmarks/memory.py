"""What an idle connection holds.

It is the memory of the server's processes; what the kernel keeps for a socket comes on top, for every server alike.
"""

from __future__ import annotations

import time
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
