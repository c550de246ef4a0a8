"""All attacks at once, beside members that behave: a short campaign; ``make attack`` runs longer ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from tests.attack.attackers import ATTACKS
from tests.attack.campaign import MEMORY_BYTES, attack
from tests.twistd import Server

SLOWEST_SECONDS: Final = 10.0
"""Seconds that a delivery may take here, on a machine that runs other tests; without limits it was twenty and more."""


@pytest.mark.skipif(sys.platform != "linux", reason="each member has a loopback address of its own")
def test_members_go_on_under_all_attacks_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, ("--relay", "sqlite:"), {}, "tcp:{port}:interface=127.0.0.1")
    try:
        report = attack(server, list(ATTACKS), members=200, rooms=20, seconds=6.0)
    finally:
        server.terminate()
    seen = report.members
    assert (seen.cut_off, seen.missing, seen.out_of_order) == (0, 0, 0), report
    assert seen.latest < SLOWEST_SECONDS, report
    assert report.memory_most < MEMORY_BYTES, report
    assert "Traceback" not in server.log
