"""How many clients a second can come, 64 at a time."""

from __future__ import annotations

from benchmarks import contenders
from benchmarks.bench import HANDSHAKE_COST, HANDSHAKES, Bench
from benchmarks.load import Load, generate
from benchmarks.servers import Running


def measure(bench: Bench) -> None:
    clients = 500 if bench.quick else 5000
    peers = [contenders.websockets(quick=True)] if bench.quick else [contenders.NODE_WS, contenders.websockets()]

    def come(server: Running) -> Load:
        generate(server, 200)
        return generate(server, clients)

    title = f"{clients:,} clients, 64 at a time"
    bench.side_by_side("handshakes", title, [HANDSHAKES, HANDSHAKE_COST], [contenders.twisted_chat(), *peers], come)
