"""Contents, events and instructions as bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.consumers import codec
from twisted_chat.consumers.events import (
    Event,
    Failed,
    Instruction,
    Join,
    Leave,
    Say,
    Settled,
    Unrouted,
    decode_instructions,
    encode_instructions,
)
from twisted_chat.core.publication import Position

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(values)
def test_what_goes_in_comes_out(value: Any) -> None:
    if codec._BYTES not in str(value):
        assert codec.decode(codec.encode(value)) == value


@given(st.text(), st.text(), st.dictionaries(st.text(), plain))
def test_events(name: str, channel: str, content: dict[str, Any]) -> None:
    event = Event(name, channel, content)
    assert Event.decode(event.encode()) == event
    assert event.encode().startswith(event.encode_id())


def test_the_beginning_of_an_event_is_that_of_no_other() -> None:
    assert not Event("a-1.10", "c", {}).encode().startswith(Event("a-1.1", "c", {}).encode_id())


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": [lambda: 0]}, {(1, 2): 3}])
def test_what_cannot_be_carried(value: Any) -> None:
    with pytest.raises(TypeError):
        codec.encode(value)


def test_cycles_are_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError, match="cannot be sent"):
        codec.encode(value)


def test_instructions() -> None:
    instructions: list[tuple[str, Instruction]] = [
        ("a-1", Say({"text": "x", "bytes": b"\xff"})),
        ("a-2", Join("group", Position("epoch", 1, 2))),
        ("a-3", Leave("group")),
        ("a-4", Settled("group")),
        ("a-5", Unrouted()),
        ("a-6", Failed()),
    ]
    assert decode_instructions(encode_instructions(instructions)) == instructions


def test_instructions_of_a_later_version_are_left_out() -> None:
    data = codec.encode([["a-1", "sing", "la"], ["a-2", "leave", "group"], ["a-3", "join", "group", "no position"]])
    assert decode_instructions(data) == [("a-2", Leave("group"))]
