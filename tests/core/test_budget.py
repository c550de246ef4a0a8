"""What addresses and users may store."""

from __future__ import annotations

import pytest

from twisted_chat.core.budget import OVERHEAD, Budget
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits, Rate

LIMITS = Limits(
    new_rooms_per_address=Rate(1.0, 3),
    new_rooms_per_user=Rate(1.0, 2),
    stored_bytes_per_address=Rate(100.0, 10_000),
    stored_bytes_per_user=Rate(100.0, 5_000),
)
A, B = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def budget() -> Budget:
    return Budget(LIMITS)


def refused(budget: Budget, address: str | None, user: str | None = None, now: float = 0.0, *, began: bool) -> bool:
    reasons = []
    try:
        budget.spend(address, user, 0, now, began=began)
    except ChatError as error:
        reasons.append(error.reason)
    assert reasons in ([], [Reason.RATE_LIMITED])
    return bool(reasons)


def test_bytes_are_counted_with_what_storing_costs(budget: Budget) -> None:
    for _ in range(4):
        budget.spend(A, None, 2_500 - OVERHEAD, 0.0, began=True)
    assert refused(budget, A, began=True)
    assert not refused(budget, B, began=True)
    assert refused(budget, A, now=0.009, began=True)
    assert not refused(budget, A, now=0.011, began=True)


def test_a_large_message_is_taken_and_the_next_ones_wait_for_it(budget: Budget) -> None:
    budget.spend(A, None, 20_000 - OVERHEAD, 0.0, began=True)
    assert refused(budget, A, now=100.0, began=True)
    assert not refused(budget, A, now=100.011, began=True)


def test_a_refused_message_costs_nothing(budget: Budget) -> None:
    budget.spend(A, None, 10_000 - OVERHEAD, 0.0, began=True)
    for _ in range(1_000):
        assert refused(budget, A, began=True)
    assert not refused(budget, A, now=0.011, began=True)


def test_of_rooms_only_those_that_began_are_counted(budget: Budget) -> None:
    for _ in range(3):
        assert not refused(budget, A, began=False)
        budget.room_began(A, None, 0.0)
    assert refused(budget, A, began=False)
    assert not refused(budget, A, began=True), "a room that is there costs no new one"
    assert not refused(budget, B, began=False)
    assert not refused(budget, A, now=1.0, began=False)


def test_rooms_that_began_while_others_did_are_a_debt(budget: Budget) -> None:
    for _ in range(10):
        budget.room_began(A, None, 0.0)
    assert refused(budget, A, now=7.9, began=False)
    assert not refused(budget, A, now=8.0, began=False)


def test_a_user_has_an_account_wherever_it_comes_from(budget: Budget) -> None:
    budget.spend(A, "ann", 2_500, 0.0, began=True)
    budget.spend(B, "ann", 2_500, 0.0, began=True)
    assert refused(budget, "192.0.2.3", "ann", began=True)
    assert refused(budget, None, "ann", began=True)
    assert not refused(budget, A, "bob", began=True)
    # A user that is called like an address is not it.
    assert not refused(budget, None, A, began=True)


def test_the_user_and_the_address_both_pay(budget: Budget) -> None:
    for _ in range(2):
        budget.room_began(A, "ann", 0.0)
    assert refused(budget, B, "ann", began=False)
    assert not refused(budget, A, "bob", began=False)
    budget.room_began(A, "bob", 0.0)
    assert refused(budget, A, "carl", began=False)


def test_nobody_to_charge_is_charged_nothing(budget: Budget) -> None:
    for _ in range(100):
        budget.spend(None, None, 1 << 20, 0.0, began=False)
        budget.room_began(None, None, 0.0)


def test_accounts_are_bounded_and_those_that_owe_stay_longest(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "MOST", 10)
    budget.spend(A, None, 50_000, 0.0, began=True)
    for number in range(9):
        budget.spend(f"198.51.100.{number}", None, 0, 0.0, began=True)
    assert refused(budget, A, began=True)
    for number in range(100):
        budget.spend(f"2001:db8::{number}", None, 0, 0.0, began=True)
    assert len(budget._accounts) <= 11
    assert not refused(budget, A, began=True), "forgotten: so many others came"
