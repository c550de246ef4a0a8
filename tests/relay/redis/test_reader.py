"""Replies, however they are cut into pieces, and what is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from txredisapi import BaseRedisProtocol

from twisted_chat.relay.redis.reader import DEEPEST, LONGEST_LINE, ReplyReader


class ReplyError(Exception):
    """As equal as its text."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplyError) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]


class BrokenError(Exception):
    pass


def encode(reply: Any) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case str():
            return b"+%b\r\n" % reply.encode()
        case ReplyError():
            return b"-%b\r\n" % str(reply).encode()
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
    raise AssertionError(reply)


def decoded(reply: Any) -> Any:
    """Statuses come out as bytes."""
    if isinstance(reply, list):
        return [decoded(each) for each in reply]
    return reply.encode() if isinstance(reply, str) else reply


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
SIMPLE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=50) | st.just(b"\r\n$3\r\nfoo\r\n*2\r\n")
REPLIES = st.recursive(SIMPLE | LINES | LINES.map(ReplyError), lambda inner: st.lists(inner, max_size=5), max_leaves=20)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    begin = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[begin:cut]
        begin = cut
    yield data[begin:]


def read(reader: Any, data: bytes, cuts: list[int]) -> list[Any]:
    replies = []
    for piece in pieces(data, cuts):
        reader.feed(piece)
        while (reply := reader.gets()) is not False:
            replies.append(reply)
    return replies


@given(st.lists(REPLIES, max_size=10), st.lists(st.integers(0, 10_000), max_size=30))
def test_replies_come_out_as_they_went_in_however_they_are_cut(replies: list[Any], cuts: list[int]) -> None:
    data = b"".join(map(encode, replies))
    assert read(ReplyReader(ReplyError, BrokenError), data, cuts) == decoded(replies)


@given(st.lists(REPLIES, max_size=4), st.lists(st.integers(0, 10_000), max_size=10))
def test_hiredis_reads_the_same(replies: list[Any], cuts: list[int]) -> None:
    hiredis = pytest.importorskip("hiredis")
    data = b"".join(map(encode, replies))
    theirs = read(hiredis.Reader(protocolError=BrokenError, replyError=ReplyError), data, cuts)
    assert read(ReplyReader(ReplyError, BrokenError), data, cuts) == theirs


class Txredisapi(BaseRedisProtocol):  # type: ignore[misc]  # it ships no types
    """Its own parser, whose turns of the reactor are taken at once."""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.replies: list[Any] = []
        self.turns: list[tuple[Any, ...]] = []

    def callLater(self, _: float, *call: Any) -> None:
        self.turns.append(call)

    def replyReceived(self, reply: Any) -> None:
        self.replies.append(reply)

    def feed(self, data: bytes) -> None:
        # What it has been given already comes first.
        self.dataReceived(data)
        while self.turns:
            call, *args = self.turns.pop(0)
            call(*args)

    def gets(self) -> Any:
        return self.replies.pop(0) if self.replies else False

    def resumeProducing(self) -> None:
        self.paused = False

    def pauseProducing(self) -> None:
        self.paused = True


@given(st.lists(SIMPLE | st.lists(SIMPLE, min_size=1, max_size=5), max_size=6))
def test_txredisapi_reads_the_same(replies: list[Any]) -> None:
    # Uncut, and without what it is known to read otherwise: statuses as text, errors without their ERR.
    data = b"".join(map(encode, replies))
    assert read(ReplyReader(ReplyError, BrokenError), data, []) == read(Txredisapi(), data, [])


@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=5))
def test_anything_at_all_is_read_waited_for_or_broken(data: bytes, cuts: list[int]) -> None:
    reader = ReplyReader(ReplyError, BrokenError)
    try:
        read(reader, data, cuts)
    except BrokenError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"$x\r\n",
        b"$3\r\nfooXY",
        b"$3\r\nfo\r\n+OK\r\n",
        b"*\r\n",
        b":\r\n",
        b":1.5\r\n",
        b"*1\r\n" * (DEEPEST + 1),
        b"+" + b"x" * (LONGEST_LINE + 1),
        b"$600000000\r\n",
    ],
)
def test_what_is_no_reply_is_broken(data: bytes) -> None:
    reader = ReplyReader(ReplyError, BrokenError)
    reader.feed(data)
    with pytest.raises(BrokenError):
        reader.gets()


def test_a_long_string_is_put_together_once() -> None:
    # Looking at it from its beginning for each piece would take minutes.
    data = encode([b"x" * 100_000] * 200)
    reader = ReplyReader(ReplyError, BrokenError)
    [reply] = read(reader, data, list(range(0, len(data), 4_096)))
    assert len(reply) == 200
