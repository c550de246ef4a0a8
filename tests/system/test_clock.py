"""The wall clock is set while a server runs: nobody notices."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service_manager import ServiceManager
from tests.twistd import PATIENCE, Server

HOUR = 3_600.0
SET_CLOCK = """
import mmap, struct, time
with open({path!r}, "r+b") as file:
    step = mmap.mmap(file.fileno(), 8)
real = time.time
time.time = lambda: real() + struct.unpack("d", step)[0]
"""


class Clock:
    """The wall clock of a server, which this test sets. Python runs ``sitecustomize`` before all else."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._file = directory / "step"
        self._file.write_bytes(struct.pack("d", 0.0))
        (directory / "sitecustomize.py").write_text(SET_CLOCK.format(path=str(self._file)), encoding="utf-8")
        self.environ = {"PYTHONPATH": str(directory)}

    def set(self, step: float) -> None:
        with self._file.open("r+b") as file:
            file.write(struct.pack("d", step))


@pytest.mark.parametrize("relay", ["memory:", "sqlite:"])
def test_a_clock_that_is_set_stops_nothing(
    twistd: Callable[..., Server], service_manager: ServiceManager, tmp_path: Path, relay: str
) -> None:
    clock = Clock(tmp_path / "clock")
    environ = {**clock.environ, "NOTIFY_SOCKET": str(service_manager.path), "WATCHDOG_USEC": "600000"}
    server = twistd("--relay", relay, "--limit-ping-interval", "1", "--limit-ping-timeout", "30", environ=environ)
    service_manager.hears("READY=1")
    heard: list[dict[str, Any]] = []
    with server.socket("lobby?events=heartbeat") as room:

        def receive(field: str) -> dict[str, Any]:
            """The next that has this field, within a time far below a step."""
            end = time.monotonic() + PATIENCE
            while True:
                said: dict[str, Any] = json.loads(room.recv(end - time.monotonic()))
                if field in said or said.get("event") == field:
                    return said

        for step in (0.0, -HOUR, HOUR):
            clock.set(step)
            assert server.post(f"{step:g}").status_code == 201
            heard.append(receive("message"))
            assert heard[-1]["message"] == f"{step:g}"
            for _ in range(1 if step >= 0 else 2):
                receive("heartbeat")
                service_manager.hears("WATCHDOG=1")
    kept = server.history()
    assert [each["id"] for each in kept] == [each["id"] for each in heard]
    times = [each["timestamp"] for each in kept]
    assert times == sorted(set(times)), "positions increase"
    assert server.terminate() == -15
    assert "Traceback" not in server.log
