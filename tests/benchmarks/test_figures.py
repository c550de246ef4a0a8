"""What single topics make of what they are told."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from benchmarks import connections, growth, installation, rooms
from benchmarks.load import Load


def test_growth_is_that_of_the_second_half() -> None:
    warming_up = [0.0, 500.0, 800.0, 900.0, 950.0]
    assert growth.slope([*warming_up, 1000.0, 1002.0, 1004.0, 1006.0, 1008.0, 1010.0]) == pytest.approx(2.0)


def test_what_silent_members_cost_is_taken_off_the_deliveries() -> None:
    nothing: dict[str, Any] = {field.name: 0 for field in fields(Load)}
    load = Load(**nothing | {"delivery_cpu": 60.0, "deliveries": 10_000.0, "idle_cpu": 0.1})
    assert rooms.SPOKEN.of(load) == pytest.approx(50.0)
    assert rooms.SILENT.of(load) == pytest.approx(100.0)


def test_the_longest_pause_is_one_of_the_stretch() -> None:
    written = "10.0 0.9\n11.0 0.1\n12.0 0.3\n13.0 0.2\n14.0 0.8\n"
    assert connections.longest(written, 10.5, 13.5) == 0.3
    assert connections.longest("", 10.5, 13.5) == 0.0


def test_without_a_compiler_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(installation.MissingError, match="no C compiler"):
        installation.compile_native()
