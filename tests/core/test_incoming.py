"""What WebSockets may send: the meter of a connection, and what its address adds to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.incoming import (
    EMPTY_FLOODS,
    LONGEST_ADDRESS_PAUSE,
    Excess,
    IncomingLimit,
    IncomingMeter,
    IncomingRates,
)
from twisted_chat.core.limits import Limits, Rate

ROOMY = Rate(1e6, 10**6)


def rates(**limits: Rate) -> IncomingRates:
    """Rates that nothing comes near, but for `limits`."""
    names = ("frames_per_connection", "frames_per_address", "incoming_bytes_per_connection")
    return IncomingRates(Limits(**{**dict.fromkeys((*names, "incoming_bytes_per_address"), ROOMY), **limits}))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("name", "charge"),
    [
        ("frames_per_connection", (11, 0)),
        ("frames_per_address", (11, 0)),
        ("incoming_bytes_per_connection", (0, 11)),
        ("incoming_bytes_per_address", (0, 11)),
    ],
)
def test_each_limit_is_named(name: str, charge: tuple[int, int]) -> None:
    meter = IncomingMeter(rates(**{name: Rate(2.0, 10)}), "192.0.2.7", 0.0)
    assert meter.charge(*charge, 0.0) == Excess(IncomingLimit(name), 0.5)
    assert meter.charge(0, 0, 0.5) is None


def test_the_longest_wait_counts() -> None:
    meter = IncomingMeter(
        rates(frames_per_connection=Rate(1.0, 1), incoming_bytes_per_connection=Rate(1.0, 1)), None, 0.0
    )
    assert meter.charge(3, 6, 0.0) == Excess(IncomingLimit.BYTES_PER_CONNECTION, 5.0)
    assert not Excess(IncomingLimit.BYTES_PER_CONNECTION, 5.0).of_frames


def test_others_of_the_address_cost_a_short_pause_at_most() -> None:
    shared = rates(frames_per_address=Rate(1.0, 1))
    greedy, honest = (IncomingMeter(shared, "192.0.2.7", 0.0) for _ in range(2))
    assert greedy.charge(1_000, 0, 0.0) == Excess(IncomingLimit.FRAMES_PER_ADDRESS, LONGEST_ADDRESS_PAUSE)
    excess = honest.charge(1, 0, 0.0)
    assert excess is not None
    assert excess.seconds <= LONGEST_ADDRESS_PAUSE
    assert honest.charge(0, 0, LONGEST_ADDRESS_PAUSE) is None
    assert IncomingMeter(shared, "192.0.2.8", 0.0).charge(1, 0, 0.0) is None, "another address"
    assert IncomingMeter(shared, None, 0.0).charge(1_000, 0, 0.0) is None, "a unix socket has none"


def test_a_flood_is_borne_for_a_while() -> None:
    meter = IncomingMeter(rates(), None, 0.0)
    assert [meter.may_flood(0.0) for _ in range(EMPTY_FLOODS.burst + 1)].count(True) == EMPTY_FLOODS.burst
    assert meter.may_flood(1 / EMPTY_FLOODS.per_second)


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0.0, 2.0)), max_size=60))
def test_no_more_than_the_rate_is_read_over_time(steps: list[tuple[int, float]]) -> None:
    rate = Rate(5.0, 20)
    meter = IncomingMeter(rates(frames_per_connection=rate), None, 0.0)
    now, read, last = 0.0, 0, 0
    for frames, idle in steps:
        now += idle
        excess = meter.charge(frames, 0, now)
        read, last = read + frames, frames
        if excess is not None:
            assert excess.limit is IncomingLimit.FRAMES_PER_CONNECTION
            now += excess.seconds
    # Charged afterwards: the last slice may be in excess.
    assert read - last <= rate.burst + rate.per_second * now + 1e-6
