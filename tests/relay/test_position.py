"""Positions, tags and ages."""

from __future__ import annotations

import pytest

from twisted_chat.core.publication import Position
from twisted_chat.relay.interface import IDEMPOTENCY_SECONDS, HistoryLimits
from twisted_chat.relay.position import Moments, following, forgettable, horizon, new_epoch


def test_each_history_has_a_name_of_its_own() -> None:
    names = {new_epoch() for _ in range(1_000)}
    assert len(names) == 1_000
    assert all(Position.parse(f"{name}-1-1") == Position(name, 1, 1) for name in names)


def test_what_begins_is_newer_than_everything_that_was_stored() -> None:
    moments = Moments("S", newest=100_000_000)
    for now, tag in [(0.0, 100_000_001), (100.0, 100_000_001), (101.0, 101_000_000)]:
        first = moments.first(now)
        assert (first.offset, first.tag) == (1, tag)
        assert first.epoch != moments.first(now).epoch


def test_of_what_was_forgotten_the_newest_counts() -> None:
    moments = Moments("S", newest=9)
    assert (moments.empty(), moments.oldest()) == (Position("S", 0, 9), Position("S", 0, 0))
    for tag in (3, 7, 5):
        moments.forget(tag)
    assert (moments.empty(), moments.oldest()) == (Position("S", 0, 9), Position("S", 0, 7))


def test_positions_follow_each_other_with_the_microsecond_as_tag() -> None:
    first = following(Position("E", 0, 0), 1_763_796_000.123456)
    assert first == Position("E", 1, 1_763_796_000_123_456)
    assert following(first, 1_763_796_001.5) == Position("E", 2, 1_763_796_001_500_000)


@pytest.mark.parametrize("now", [0.0, 99.0, 100.0])
def test_tags_grow_even_if_the_clock_does_not(now: float) -> None:
    assert following(Position("E", 7, 100_000_000), now) == Position("E", 8, 100_000_001)


def test_the_first_tag_is_never_that_of_no_publication() -> None:
    assert following(Position("E", 0, 0), 0.0).tag == 1


def test_horizon_is_the_age_before_now() -> None:
    assert horizon(HistoryLimits(age=60.0), 1_000.0) == 940_000_000
    assert horizon(HistoryLimits(age=0.0), 1_000.0) == 0


def test_rooms_outlive_their_publications_and_their_keys() -> None:
    assert forgettable(HistoryLimits(age=3_600.0), 10_000.0) == 6_400_000_000
    assert forgettable(HistoryLimits(age=1.0), 10_000.0) == int((10_000 - IDEMPOTENCY_SECONDS) * 1_000_000)
    assert forgettable(HistoryLimits(age=0.0), 10_000.0) == 0
