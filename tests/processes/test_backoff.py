"""How long a process that ended stays away."""

from __future__ import annotations

from twisted_chat.processes.backoff import FIRST, LONGEST, STEADY, Backoff


def delays(lives: list[float]) -> list[float]:
    backoff, found = Backoff(), []
    for lived in lives:
        backoff = backoff.ended(lived)
        found.append(backoff.delay)
    return found


def test_waits_grow_up_to_a_bound() -> None:
    assert delays([1.0] * 8) == [FIRST * factor for factor in (1, 2, 4, 8, 16, 32)] + [LONGEST] * 2
    assert delays([0.0] * 5_000)[-1] == LONGEST


def test_who_served_for_long_begins_anew() -> None:
    assert delays([0.0, 0.0, STEADY - 0.1, STEADY, 0.0]) == [FIRST, 2 * FIRST, 4 * FIRST, FIRST, 2 * FIRST]
