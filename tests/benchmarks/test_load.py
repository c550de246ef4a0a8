"""The load generator's command line, and what it says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.contenders import Contender
from benchmarks.installation import BUILD
from benchmarks.load import Load
from benchmarks.servers import BrokenError, Running

SAID = Load(
    open=100,
    failed=0,
    handshakes=5000.0,
    handshake_cpu=170.0,
    memory=6.5,
    idle_cpu=0.001,
    deliveries=1e6,
    delivery_cpu=0.6,
    p50=100.0,
    p99=200.0,
    rate=10.0,
    lost=0,
    churn_memory=[1.0, 2.0],
)


def test_a_line_of_json_is_read() -> None:
    assert load.parse(json.dumps(asdict(SAID) | {"stalls": 0})) == SAID


@pytest.mark.parametrize("line", ["", "wsload: help", "[]", "{}", '{"open": 100}'])
def test_anything_else_is_broken(line: str) -> None:
    with pytest.raises(BrokenError, match="which is no result"):
        load.parse(line)


def test_a_run_may_take_as_long_as_it_was_asked_to_and_as_connecting_takes() -> None:
    assert load.limit(100, {"t": 3, "i": 50.0, "W": 16, "e": True}) == load.PATIENCE + 53 + load.CONNECTING * 100
    assert load.limit(64, {"q": 100_000}) == load.PATIENCE + load.CONNECTING * 100_000


def test_options_are_those_of_the_contender_and_of_the_run() -> None:
    contender = Contender("one", lambda port: [str(port)], ("-u", "/room"))
    server = Running(contender, (8080, 8081), (1, 2), Path())
    arguments = load.arguments(server, 5, t=1.5, e=True)
    given = arguments[arguments.index(str(BUILD / "wsload")) + 1 :]
    assert given == ["-u", "/room", "-n", "5", "-b", "128", "-p", "8080,8081", "-S", "1,2", "-t", "1.5", "-e"]
