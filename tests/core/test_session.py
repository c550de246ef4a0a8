"""One client: who it is, under which name it speaks, how often it may."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from twisted_chat.core.budget import OVERHEAD, Budget
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import AddressRates, Limits, Rate
from twisted_chat.core.permissions import ANYONE, NO_ROOM, SERVER, Identity
from twisted_chat.core.publication import Position, Publication, Published
from twisted_chat.core.session import MOST_OWED, Session

LIMITS = Limits(messages_per_connection=Rate(1.0, 2), messages_per_address=Rate(1.0, 3))
ANN = replace(ANYONE, user="u1", handle="ann")


def session(
    identity: Identity = ANYONE, rates: AddressRates | None = None, address: str | None = "192.0.2.1"
) -> Session:
    rates = rates or AddressRates(LIMITS.messages_per_address)
    return Session(identity, "lobby", address=address, rates=rates, limits=LIMITS, now=0.0)


def refusal(action: Session, offered: str | None, now: float) -> Reason:
    with pytest.raises(ChatError) as caught:
        action.speak(offered, now)
    return caught.value.reason


def published(offset: int, *, duplicate: bool = False) -> Published:
    return Published(Publication(Position("E", offset, 9), 0, b"{}"), duplicate=duplicate)


def test_what_is_stored_is_charged_to_address_and_user_but_not_to_the_server() -> None:
    limits = Limits(new_rooms_per_address=Rate(1.0, 1), new_rooms_per_user=Rate(1.0, 1))
    for identity in (ANYONE, ANN, SERVER):
        budget = Budget(limits)
        rates = AddressRates(limits.messages_per_address)
        someone = Session(identity, "lobby", address="192.0.2.1", rates=rates, limits=limits, now=0.0, budget=budget)
        for harmless in (published(2), published(1, duplicate=True)):
            someone.stored(harmless, 0.0)
        someone.spend(10, 0.0, began=False)
        someone.stored(published(1), 0.0)
        if identity is SERVER:
            someone.spend(10, 0.0, began=False)
        else:
            with pytest.raises(ChatError) as caught:
                someone.spend(10, 0.0, began=False)
            assert caught.value.reason is Reason.RATE_LIMITED
        someone.spend(10, 0.0, began=True)


def test_small_messages_are_charged_together() -> None:
    limits = Limits(stored_bytes_per_address=Rate(1.0, 10_000))
    budget = Budget(limits)
    rates = AddressRates(limits.messages_per_address)

    def someone() -> Session:
        return Session(ANYONE, "lobby", address="192.0.2.1", rates=rates, limits=limits, now=0.0, budget=budget)

    one = someone()
    taken = 0
    with suppress(ChatError):
        while True:
            if not one.owe(300):
                one.spend(300, 0.0, began=True)
            taken += 300 + OVERHEAD
    assert 10_000 <= taken <= 10_000 + 2 * MOST_OWED


def test_what_is_owed_at_the_end_is_charged() -> None:
    limits = Limits(stored_bytes_per_address=Rate(1.0, 10_000))
    budget = Budget(limits)
    rates = AddressRates(limits.messages_per_address)
    taken = 0
    with suppress(ChatError):
        while True:  # who comes anew for each message
            one = Session(ANYONE, "lobby", address="192.0.2.1", rates=rates, limits=limits, now=0.0, budget=budget)
            one.spend(0, 0.0, began=True)
            assert one.owe(1_000)
            one.settle(0.0)
            taken += 1_000 + 2 * OVERHEAD
    assert taken <= 12_000


def test_anyone_speaks_under_the_handle_given() -> None:
    someone = session()
    assert someone.handle is None
    assert someone.speak("bob", 0.0) == "bob"
    assert someone.handle == "bob"


def test_without_a_token_a_handle_must_be_given() -> None:
    assert refusal(session(), None, 0.0) is Reason.BAD_HANDLE


def test_a_tokens_handle_wins() -> None:
    ann = session(ANN)
    assert ann.handle == "ann"
    assert ann.speak("the boss", 0.0) == "ann"
    assert ann.speak(None, 0.0) == "ann"


def test_who_may_only_read_may_not_speak() -> None:
    assert refusal(session(replace(ANN, write=NO_ROOM)), "ann", 0.0) is Reason.NOT_ALLOWED


def test_a_connection_has_its_rate() -> None:
    one = session()
    one.speak("a", 0.0)
    one.speak("a", 0.0)
    assert refusal(one, "a", 0.0) is Reason.RATE_LIMITED
    assert one.speak("a", 1.0) == "a"


def test_an_address_has_its_rate_over_all_connections() -> None:
    rates = AddressRates(LIMITS.messages_per_address)
    first, second = session(rates=rates), session(rates=rates)
    for each in (first, first, second):
        each.speak("a", 0.0)
    assert refusal(second, "a", 0.0) is Reason.RATE_LIMITED
    session(rates=rates, address="192.0.2.2").speak("a", 0.0)
    session(rates=rates, address=None).speak("a", 0.0)


def test_the_server_has_no_rate() -> None:
    server = session(SERVER)
    for _ in range(100):
        assert server.speak("anyone", 0.0) == "anyone"


def test_a_handle_that_was_refused_is_not_taken_on() -> None:
    one = session()
    for _ in range(2):
        one.speak("a", 0.0)
    refusal(one, "b", 0.0)
    assert one.handle == "a"


def test_keys_belong_to_their_author() -> None:
    ann, bob, guest, server = session(ANN), session(replace(ANN, user="u2")), session(), session(SERVER)
    guest.speak("u1", 0.0)
    server.speak("u1", 0.0)
    keys = {each.idempotency_key("k") for each in (ann, bob, guest, server)}
    assert len(keys) == 4
    assert ann.idempotency_key("k") == session(ANN).idempotency_key("k")
    assert ann.idempotency_key(None) is None


def test_a_client_that_does_not_listen_to_refusals_has_an_end() -> None:
    one = session()
    refused = [one.refuse(0.0) for _ in range(101)]
    assert refused == [True] * 100 + [False]


def test_a_token_without_a_handle_does_not_let_its_user_take_any() -> None:
    nameless = session(replace(ANYONE, user="u" * 100))
    assert nameless.handle is None
    assert refusal(nameless, "the boss", 0.0) is Reason.NOT_ALLOWED
