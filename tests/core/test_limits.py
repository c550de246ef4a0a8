from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import (
    AddressRates,
    ConnectionCount,
    Limits,
    Rate,
    TokenBucket,
    limited_address,
)

NOW = 1_763_796_000.0
RATES = st.builds(Rate, st.floats(0.01, 1_000.0), st.integers(1, 100))


@pytest.mark.parametrize(
    ("per_second", "burst"), [(0.0, 1), (-1.0, 1), (math.inf, 1), (math.nan, 1), (1.0, 0), (1.0, -1)]
)
def test_a_rate_that_lets_nothing_or_everything_through_is_refused(per_second: float, burst: int) -> None:
    message = f"a rate is more than 0 a second and at least 1 at once, not {per_second} and {burst}"
    with pytest.raises(ValueError, match=re.escape(message)):
        Rate(per_second, burst)


def test_a_bucket_lets_the_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(Rate(2.0, 3), NOW)
    assert [bucket.take(NOW) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait() == 0.5
    assert [bucket.take(NOW + 0.25), bucket.take(NOW + 0.5), bucket.take(NOW + 0.5)] == [False, True, False]
    assert not bucket.full(NOW + 1.75)
    assert bucket.full(NOW + 2.0)


def test_a_bucket_never_holds_more_than_the_burst() -> None:
    bucket = TokenBucket(Rate(2.0, 3), NOW)
    assert [bucket.take(NOW + 3_600) for _ in range(4)] == [True, True, True, False]


def test_a_clock_set_back_takes_nothing_away() -> None:
    bucket = TokenBucket(Rate(1.0, 5), NOW)
    assert bucket.take(NOW)
    assert [bucket.take(NOW - 3_600) for _ in range(5)] == [True, True, True, True, False]
    assert bucket.take(NOW - 3_599)
    assert not bucket.full(NOW - 7_200)


@given(RATES, st.lists(st.floats(0.0, 10.0), max_size=60))
def test_within_any_span_no_more_pass_than_burst_and_rate_allow(rate: Rate, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, 0.0)
    now, passed = 0.0, []
    for pause in pauses:
        now += pause
        if bucket.take(now):
            passed.append(now)
    for first, start in enumerate(passed):
        for count, end in enumerate(passed[first:], 1):
            assert count <= rate.burst + (end - start) * rate.per_second + 1e-6


@given(RATES, st.integers(1, 200))
def test_waiting_as_long_as_told_is_enough(rate: Rate, tries: int) -> None:
    bucket = TokenBucket(rate, 0.0)
    for _ in range(tries):
        bucket.take(0.0)
    wait = bucket.wait()
    assert bucket.take(wait + 1e-9 * (1.0 + wait))


def test_addresses_have_buckets_of_their_own() -> None:
    rates = AddressRates(Rate(1.0, 2))
    assert [rates.take("192.0.2.1", NOW) for _ in range(3)] == [True, True, False]
    assert rates.take("192.0.2.2", NOW)
    assert rates.take("192.0.2.1", NOW + 1.0)


class FewAddresses(AddressRates):
    MOST = 3  # type: ignore[misc]  # Final, but thousands of addresses would only make the test slow

    def known(self) -> list[str]:
        return list(self._buckets)


def test_quiet_addresses_are_forgotten() -> None:
    rates = FewAddresses(Rate(1.0, 2))
    rates.take("a", NOW)
    rates.take("b", NOW + 0.5)
    rates.take("c", NOW + 1.2)
    assert rates.known() == ["b", "c"]


def test_no_more_addresses_are_kept_than_the_most() -> None:
    rates = FewAddresses(Rate(1.0, 2))
    for name in "abc":
        assert rates.take(name, NOW)
    rates.take("a", NOW)
    rates.take("d", NOW)
    assert rates.known() == ["c", "a", "d"]
    assert not rates.take("a", NOW), "a was busy lately, so its bucket must have been kept"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(-1.0, 1.0)), max_size=100))
def test_a_known_address_is_limited_like_by_a_bucket_of_its_own(calls: list[tuple[str, float]]) -> None:
    # Eight addresses at most: none is ever forgotten before its bucket is full, so forgetting never shows.
    rates, alone, now = AddressRates(Rate(2.0, 3)), dict[str, TokenBucket](), NOW
    for address, pause in calls:
        now += max(0.0, pause)
        bucket = alone.setdefault(address, TokenBucket(Rate(2.0, 3), now))
        assert rates.take(address, now) is bucket.take(now)


class Connections(RuleBasedStateMachine):
    """Entering and leaving in any order, against a plain list."""

    LIMITS = Limits(connections=5, connections_per_address=2)
    ADDRESSES = st.sampled_from([None, "192.0.2.1", "192.0.2.2", "2001:db8::/64"])

    def __init__(self) -> None:
        super().__init__()
        self.count = ConnectionCount(self.LIMITS)
        self.inside: list[str | None] = []

    @rule(address=ADDRESSES)
    def enter(self, address: str | None) -> None:
        expected = None
        if len(self.inside) >= 5:
            expected = Reason.TOO_MANY_CONNECTIONS
        elif address is not None and self.inside.count(address) >= 2:
            expected = Reason.TOO_MANY_FROM_ADDRESS
        if expected is None:
            self.count.check(address)
            self.count.enter(address)
            self.inside.append(address)
            return
        for ask in (self.count.check, self.count.enter):
            with pytest.raises(ChatError) as refused:
                ask(address)
            assert refused.value.reason is expected

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        address = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        self.count.leave(address)

    @invariant()
    def nothing_is_lost_or_kept(self) -> None:
        assert self.count.total == len(self.inside)
        assert dict(self.count._by_address) == {
            address: self.inside.count(address) for address in self.inside if address is not None
        }


def test_connections_are_counted_in_whatever_order_they_come_and_go() -> None:
    run_state_machine_as_test(Connections, settings=settings(max_examples=40, stateful_step_count=30))


def test_a_refused_connection_says_how_many_are_taken() -> None:
    count = ConnectionCount(Limits(connections=2, connections_per_address=1))
    count.enter("192.0.2.1")
    with pytest.raises(ChatError, match="1 connections from one address are allowed"):
        count.enter("192.0.2.1")
    count.enter("192.0.2.2")
    with pytest.raises(ChatError, match="this server takes 2 connections and has that many; try again later"):
        count.enter("192.0.2.3")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::1%en0", "fe80::/64"),
        ("not an address", "not an address"),
        ("", ""),
    ],
)
def test_addresses_are_counted_by_what_one_customer_holds(host: str, address: str) -> None:
    assert limited_address(host) == address


@given(st.ip_addresses(v=6).map(str) | st.ip_addresses(v=4).map(str))
def test_every_address_is_counted_as_something(host: str) -> None:
    counted = limited_address(host)
    assert counted.endswith("/64") or counted.count(".") == 3


@given(
    st.text(st.characters(min_codepoint=0x10000), min_size=64, max_size=64),
    st.sampled_from(["\u0000", "\U0001f4ac", "x", "\u00e9", "\n", '"', "\\"]),
)
def test_a_frame_may_be_as_large_as_the_longest_message_in_json(handle: str, character: str) -> None:
    limits = Limits()
    widest = {
        "handle": handle,
        "message": character * limits.message_characters,
        "key": "\U0001f511" * limits.key_characters,
    }
    assert len(json.dumps(widest, indent=4)) <= limits.frame_bytes


def test_a_bucket_can_owe() -> None:
    bucket = TokenBucket(Rate(2.0, 10), 0.0)
    assert bucket.charge(10, 0.0) == 0.0
    assert bucket.charge(3, 0.0) == 1.5
    assert not bucket.take(1.5), "nothing is owed any more, and nothing is left"
    assert bucket.take(2.0)
    assert bucket.charge(1_000, 2.0, most_seconds=4.0) == 4.0, "the rest is forgiven"


def test_addresses_owe_by_themselves() -> None:
    rates = AddressRates(Rate(2.0, 10))
    assert rates.charge("a", 14, 0.0, 60.0) == 2.0
    assert rates.charge("b", 10, 0.0, 60.0) == 0.0
    assert not rates.take("a", 0.0)


def test_what_the_message_rates_allow_is_read() -> None:
    limits = Limits(messages_per_connection=Rate(1_000.0, 3_000), messages_per_address=Rate(5_000.0, 20_000))
    assert limits.frames_of_connection == Rate(2_000.0, 6_000)
    assert limits.frames_of_address == Rate(10_000.0, 40_000)
    assert limits.bytes_of_connection == Rate(1_000.0 * limits.frame_bytes, 3_000 * limits.frame_bytes)
    assert limits.bytes_of_address.per_second == 5_000.0 * limits.frame_bytes
    own = Rate(1.0, 1)
    assert Limits(frames_per_connection=own).frames_of_connection is own, "what an operator says counts"


def test_a_longest_message_may_come_in_small_fragments() -> None:
    assert Limits().fragments == 1_024
    assert Limits(message_characters=100_000).fragments * 64 >= 12 * 100_000
