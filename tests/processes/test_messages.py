"""Lines between processes, however they are cut."""

from __future__ import annotations

import pytest

from twisted_chat.processes.messages import BadMessageError, Lines, Message, decode, encode


def test_what_is_said_is_heard() -> None:
    messages: list[Message] = [{"say": "ready"}, {"order": 3, "metrics": [["a\nb", {"le": "+Inf"}, float("inf")]]}]
    stream = b"".join(encode(message) for message in messages)
    for size in (1, 7, len(stream)):
        lines = Lines()
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [decode(line) for chunk in chunks for line in lines.add(chunk)] == messages


def test_a_line_has_a_bound() -> None:
    lines = Lines(longest=4)
    assert list(lines.add(b"123456789")) == [b"1234", b"5678"]
    assert list(lines.add(b"\nab")) == [b"9"]
    assert list(lines.add(b"\n")) == [b"ab"]


@pytest.mark.parametrize("line", [b"", b"ready", b"[]", b"\xff", b'{"say":'])
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(BadMessageError):
        decode(line)
