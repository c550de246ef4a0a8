"""`relay.redis.clock`: one time for all nodes, whatever their own clocks say."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from tests.relay.redis.conftest import StartAt
from tests.relay.redis_server import RedisServer
from twisted_chat.relay.redis.clock import SAMPLES, RedisClock

NOON = 1_795_000_000.0


def test_before_a_reading_it_is_this_machines(clock: Clock) -> None:
    assert RedisClock(clock.seconds, lambda: NOON).time() == NOON


def test_it_goes_on_between_readings(clock: Clock) -> None:
    redis_clock = RedisClock(clock.seconds, lambda: NOON - 3_600)
    redis_clock.read(NOON)
    clock.advance(2.5)
    assert redis_clock.time() == NOON + 2.5


def test_the_reading_that_was_least_late_counts(clock: Clock) -> None:
    redis_clock = RedisClock(clock.seconds, lambda: 0.0)
    for late in (0.3, 0.0, 0.2):
        redis_clock.read(NOON + clock.seconds() - late)
        clock.advance(5)
    assert redis_clock.time() == NOON + clock.seconds()


@pytest.mark.parametrize("step", [-3_600.0, 3_600.0])
def test_a_clock_that_is_set_is_followed(clock: Clock, step: float) -> None:
    redis_clock = RedisClock(clock.seconds, lambda: 0.0)
    redis_clock.read(NOON)
    for _ in range(SAMPLES):
        clock.advance(5)
        redis_clock.read(NOON + clock.seconds() + step)
    assert redis_clock.time() == NOON + clock.seconds() + step


@pytest_twisted.ensureDeferred
async def test_a_node_whose_clock_is_wrong_knows_the_age_of_messages(
    start_at: StartAt, redis_server: RedisServer, room: str
) -> None:
    node = await start_at(redis_server.url, wall_clock=lambda: NOON - 3_600)
    published = await node.relay.publish(room, b"{}")
    age = node.relay.time(room) - published.publication.position.tag / 1e6
    assert -0.5 < age < 30.0
