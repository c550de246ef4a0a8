"""What a delivery costs over TLS."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import contenders
from benchmarks.bench import COST, Bench
from benchmarks.delivery import JOINED, saturate
from twisted_chat.server.tls.self_signed import FILE_NAME, make_self_signed

MEMBERS: Final = 500


def measure(bench: Bench) -> None:
    with tempfile.TemporaryDirectory(prefix="chat-bench-") as name:
        directory = Path(name)
        make_self_signed(directory, ["localhost"], datetime.now(UTC))
        ours = contenders.twisted_chat("--certificates", name, endpoint="tls")
        peer = contenders.websockets(str(directory / FILE_NAME), quick=bench.quick)
        bench.side_by_side(
            "tls",
            f"{MEMBERS} members, {JOINED} messages under way",
            [COST],
            [ours, peer],
            lambda server: saturate(server, MEMBERS, JOINED, bench.seconds, e=True),
        )
