"""What a bench counts, and what it says of it. Against a real server: ``tests/system/test_tools.py``."""

from __future__ import annotations

import pytest

from twisted_chat.bench import Load, Tally
from twisted_chat.client import ClientError


def test_a_message_has_its_length_and_is_known_again() -> None:
    tally = Tally()
    text = tally.say(10.0, 100)
    assert len(text) == 100
    tally.heard(text, 10.005)
    assert tally.deliveries == 1
    assert tally.latency(1.0) == pytest.approx(5.0)


def test_messages_of_others_do_not_count() -> None:
    tally = Tally()
    tally.heard("hello", 1.0)
    tally.heard(Tally().say(0.0, 50), 1.0)
    assert tally.deliveries == 0


def test_latencies_are_shares_of_all_deliveries() -> None:
    tally = Tally()
    for milliseconds in range(1, 101):
        tally.heard(tally.say(0.0, 1), milliseconds / 1000)
    assert [tally.latency(share) for share in (0.5, 0.95, 0.99, 1.0)] == pytest.approx([50.0, 95.0, 99.0, 100.0])


def test_what_is_missing() -> None:
    tally = Tally()
    assert not tally.outstanding(2)
    text = tally.say(0.0, 50)
    assert tally.outstanding(2), "nobody has it"
    tally.heard(text, 0.1)
    assert (tally.outstanding(2), tally.missing(2)) == (True, 1)
    tally.heard(text, 0.2)
    assert (tally.outstanding(2), tally.missing(2)) == (False, 0)
    tally.say(0.3, 50)
    tally.refusals["rate_limited"] += 1
    assert not tally.outstanding(2)


def test_the_report() -> None:
    tally = Tally()
    for _ in range(2):
        text = tally.say(0.0, 50)
        tally.heard(text, 0.002)
    tally.heard(text, 0.004)
    tally.say(0.0, 50)
    tally.refusals["rate_limited"] += 1
    tally.lost["3008: too_slow"] += 1
    assert tally.report(2, 2.0, 0.5) == [
        "members    2",
        "sent       3 messages, 1.5 a second",
        "stored     2",
        "delivered  3, 2 a second",
        "latency    half within 2.0 ms, 95 % within 4.0 ms, 99 % within 4.0 ms, all within 4.0 ms",
        "missing    1 deliveries",
        "refused    1 times rate_limited",
        "lost       1 times 3008: too_slow",
    ]
    assert "90% of a core" in tally.report(2, 2.0, 1.8)[-1]
    assert Tally().report(2, 2.0, 0.1)[-1] == "delivered  0, 0 a second"


@pytest.mark.parametrize("wrong", [{"members": 0}, {"rate": -1.0}, {"seconds": float("nan")}, {"characters": 0}])
def test_a_load_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ClientError, match=f"--{next(iter(wrong))} must be more than 0"):
        Load("http://127.0.0.1/chat/lobby", **wrong)  # type: ignore[arg-type]  # each of its type


@pytest.mark.parametrize("url", ["ws://127.0.0.1/chat/lobby", "127.0.0.1", "http:///chat"])
def test_only_the_url_of_a_room_will_do(url: str) -> None:
    with pytest.raises(ClientError, match="is no room's URL"):
        Load(url)
