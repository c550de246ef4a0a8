"""What waits for all clients is known, bounded, and shared by addresses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_chat.server.http.waiting import CHECK_SECONDS, RELIEF, SHARES, WaitingBytes

LIMIT = 1_000
SHARE = LIMIT // SHARES


class Client:
    """Something for which bytes wait, until it is given up; `at_once`: of how many it is rid each time."""

    def __init__(self, size: int, limited_address: str | None = None, at_once: int | None = None) -> None:
        self.size = size
        self.limited_address = limited_address
        self.given_up = 0
        self._at_once = at_once
        self.looked_at = 0

    def waiting_bytes(self) -> int:
        self.looked_at += 1
        return self.size

    def give_up(self) -> int:
        self.given_up += 1
        freed = self.size if self._at_once is None else min(self._at_once, self.size)
        self.size -= freed
        return freed


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    assert clock.getDelayedCalls() == []


@pytest.fixture
def waiting(clock: Clock) -> WaitingBytes:
    return WaitingBytes(clock, LIMIT)


def filled(waiting: WaitingBytes, *clients: Client) -> tuple[Client, ...]:
    for client in clients:
        waiting.add(client)
        waiting.grew(client.limited_address, client.size)
    return clients


def test_it_is_what_waits_now(waiting: WaitingBytes) -> None:
    one, other = filled(waiting, Client(200, "192.0.2.1"), Client(100))
    assert waiting.measure() == 300
    one.size = 0
    assert waiting.measure() == 100
    waiting.discard(other)
    waiting.discard(other)
    assert waiting.measure() == 0


def test_nobody_is_given_up_within_the_bound(waiting: WaitingBytes, clock: Clock) -> None:
    clients = filled(waiting, *(Client(SHARE, f"192.0.2.{number}") for number in range(SHARES)))
    clock.advance(CHECK_SECONDS)
    waiting.check()
    assert [client.given_up for client in clients] == [0] * SHARES


def test_what_was_said_to_wait_and_is_gone_harms_nobody(waiting: WaitingBytes, clock: Clock) -> None:
    (client,) = filled(waiting, Client(10, "192.0.2.1"))
    for _ in range(100):
        waiting.grew("192.0.2.1", LIMIT)
        clock.advance(CHECK_SECONDS)
    assert client.given_up == 0


def test_it_measures_only_when_a_bound_may_be_reached(waiting: WaitingBytes, clock: Clock) -> None:
    (client,) = filled(waiting, Client(10, "192.0.2.1"))
    for _ in range(SHARE - client.size):
        waiting.grew("192.0.2.1", 1)
    clock.advance(CHECK_SECONDS)
    assert client.looked_at == 0
    for _ in range(100):
        waiting.grew("192.0.2.1", 1)
    clock.advance(CHECK_SECONDS)
    assert client.looked_at == 1


def test_an_address_has_a_share_and_its_largest_go_first(waiting: WaitingBytes, clock: Clock) -> None:
    small, large, middle = filled(waiting, Client(70, "192.0.2.1"), Client(200, "192.0.2.1"), Client(90, "192.0.2.1"))
    (other,) = filled(waiting, Client(SHARE, "192.0.2.2"))
    clock.advance(CHECK_SECONDS)
    assert [client.given_up for client in (small, middle, large, other)] == [0, 0, 1, 0]


def test_clients_without_an_address_share_nothing(waiting: WaitingBytes, clock: Clock) -> None:
    clients = filled(waiting, *(Client(SHARE + 10) for _ in range(SHARES - 1)))
    waiting.check()
    assert not any(client.given_up for client in clients)
    (largest,) = filled(waiting, Client(LIMIT - 1))
    clock.advance(CHECK_SECONDS)
    assert largest.given_up == 1
    assert not any(client.given_up for client in clients)


def test_those_go_first_of_whose_address_most_waits(waiting: WaitingBytes, clock: Clock) -> None:
    """Not the one honest client for which more waits than for each of many others."""
    honest = filled(waiting, *(Client(60, f"198.51.100.{number}") for number in range(5)))
    many = filled(waiting, *(Client(20, f"192.0.2.{number % 4}") for number in range(48)))
    clock.advance(CHECK_SECONDS)
    assert not any(client.given_up for client in honest)
    assert waiting.measure() <= LIMIT
    assert sum(client.size for client in many) > LIMIT * RELIEF - 300 - 20, "no more than is needed"


def test_one_that_is_rid_of_a_part_is_asked_again(waiting: WaitingBytes, clock: Clock) -> None:
    (client,) = filled(waiting, Client(2_000, at_once=100))
    clock.advance(CHECK_SECONDS)
    assert LIMIT * RELIEF - 100 < client.size <= LIMIT * RELIEF


def test_one_that_cannot_be_rid_of_anything_is_asked_once(waiting: WaitingBytes, clock: Clock) -> None:
    stubborn, other = filled(waiting, Client(900, "192.0.2.1", at_once=0), Client(800))
    clock.advance(CHECK_SECONDS)
    assert stubborn.given_up in (1, 2)
    assert other.size == 0


def test_nothing_is_done_after_the_stop(waiting: WaitingBytes, clock: Clock) -> None:
    (client,) = filled(waiting, Client(2_000))
    waiting.stop()
    clock.advance(CHECK_SECONDS)
    assert client.given_up == 0


@given(st.lists(st.tuples(st.integers(0, 600), st.sampled_from([None, "a", "b", "c"])), max_size=12))
def test_the_bounds_hold_whoever_waits(sizes: list[tuple[int, str | None]]) -> None:
    clock = Clock()
    waiting = WaitingBytes(clock, LIMIT)
    clients = filled(waiting, *(Client(size, address) for size, address in sizes))
    before = waiting.measure()
    clock.advance(CHECK_SECONDS)
    assert waiting.measure() <= LIMIT
    for address in "abc":
        assert sum(client.size for client in clients if client.limited_address == address) <= SHARE
    if before <= LIMIT and all(client.limited_address is None for client in clients):
        assert waiting.measure() == before
