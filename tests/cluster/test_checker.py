"""The checker would notice what it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.checker import Acknowledgement, Record, violations

Frame = dict[str, Any]


def message(offset: int, text: str | None = None, epoch: str = "e", tag: int = 0) -> Frame:
    return {"id": f"{epoch}-{offset}-{tag or 1000 + offset}", "handle": "ann", "message": text or f"text {offset}"}


def reset(offset: int, epoch: str = "e") -> Frame:
    return {"event": "reset", "position": f"{epoch}-{offset}-{1000 + offset}"}


HISTORY = [message(offset) for offset in range(1, 6)]
START = HISTORY[0]["id"]


def found(seen: list[Frame], acknowledged: dict[str, str] | None = None, **options: Any) -> list[str]:
    told = {text: Acknowledgement(identity, 10.0) for text, identity in (acknowledged or {}).items()}
    histories = options.pop("histories", {"a": HISTORY, "b": list(HISTORY)})
    records = {"ann": Record(START, HISTORY[1:]), "bob": Record(START, seen, told)}
    return list(violations(records, histories, **options))


def test_what_is_right_is_right() -> None:
    assert found(HISTORY[1:], {"text 3": "e-3-1003"}) == []
    assert found([HISTORY[1], reset(3), *HISTORY[3:]], resets=True) == []
    lost = {"lost": "e-9-1"}
    assert found(HISTORY[1:], lost, kept_since=11.0) == []
    other_end = [HISTORY[1], message(3, "lost", tag=7), reset(3), *HISTORY[3:]]
    assert found(other_end, resets=True, rewritten=True) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        ([*HISTORY[1:3], HISTORY[4]], "bob saw e-5-1005 right after e-3-1003"),
        ([*HISTORY[1:3], HISTORY[2], *HISTORY[3:]], "bob saw e-3-1003 right after e-3-1003"),
        ([HISTORY[2], HISTORY[1], *HISTORY[3:]], "bob saw e-3-1003 right after e-1-1001"),
        (HISTORY[1:4], "bob stays at e-4-1004, the newest is e-5-1005"),
        ([*HISTORY[1:4], message(5, tag=9)], "bob saw e-5-9 where another saw e-5-1005"),
        ([*HISTORY[1:4], message(5, "another text")], "which is not kept"),
        ([HISTORY[1], reset(3), *HISTORY[3:]], "bob was told reset 1 times"),
        ([HISTORY[1], *(message(offset, epoch="f") for offset in (3, 4, 5))], "bob saw f-3-1003 right after e-2-1002"),
    ],
    ids=["gap", "twice", "order", "end", "other id", "other text", "reset", "epoch"],
)
def test_what_a_client_must_not_see(seen: list[Frame], complaint: str) -> None:
    assert any(complaint in said for said in found(seen))


def test_what_histories_must_not_be() -> None:
    seen = HISTORY[1:]
    assert "'lost' of bob was acknowledged as e-9-1, and is not kept" in found(seen, {"lost": "e-9-1"})
    assert found(seen, histories={"a": HISTORY, "b": HISTORY[:-1]}) == [
        "b has another history than a: 4 messages, not 5"
    ]
    twice = [*HISTORY, message(6, "text 5")]
    assert "'text 5' is kept 2 times" in found(seen, histories={"a": twice})
