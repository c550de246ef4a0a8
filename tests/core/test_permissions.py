from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.permissions import (
    ANYONE,
    EVERY_ROOM,
    LONGEST_PATTERN,
    MOST_PATTERNS,
    NO_ROOM,
    SERVER,
    Identity,
    Patterns,
)


@pytest.mark.parametrize(
    ("pattern", "room"),
    [
        ("lobby", "lobby"),
        ("*", "lobby"),
        ("**", "lobby"),
        ("**", "team/a/b"),
        ("***", "team/a/b"),
        ("team/*", "team/a"),
        ("team/**", "team/a/b"),
        ("team/*/log", "team/a/log"),
        ("team/**/log", "team/a/b/log"),
        ("**/log", "team/a/b/log"),
        ("te*m", "tem"),
        ("te*m", "teaam"),
        ("*a*b", "xaxbxb"),
        ("**a*b", "a/ab"),
        ("*/b", "a/b"),
        ("a.c", "a.c"),
        ("[ab]?", "[ab]?"),
        ("cafe\u0301", "caf\u00e9"),
        ("a*", "a*"),
    ],
)
def test_a_pattern_matches(pattern: str, room: str) -> None:
    assert room in Patterns([pattern])


@pytest.mark.parametrize(
    ("pattern", "room"),
    [
        ("lobby", "Lobby"),
        ("lobby", "lobby2"),
        ("lobby", "lobb"),
        ("*", "a/b"),
        ("team/*", "team"),
        ("team/*", "team/a/b"),
        ("team/**", "team"),
        ("team/**/log", "team/log"),
        ("**a*b", "a/b"),
        ("a.c", "abc"),
        ("a?", "ab"),
        ("[ab]", "a"),
        ("a", "a\n"),
        ("a*b", "a/b"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, room: str) -> None:
    assert room not in Patterns([pattern])


def as_regular_expression(pattern: str) -> str:
    parts = re.split(r"(\*+)", pattern)
    return "".join(
        re.escape(part) if not part.startswith("*") else "[^/]*" if len(part) == 1 else ".*" for part in parts
    )


@given(
    st.lists(st.text("ab/*", min_size=1, max_size=8).filter(lambda text: text.strip("/") == text), max_size=5),
    st.text("ab/*c", max_size=8),
)
@example(["a", "*b"], "ab")
def test_patterns_match_what_the_same_regular_expressions_match(patterns: list[str], room: str) -> None:
    expected = any(re.fullmatch(as_regular_expression(pattern), room, re.DOTALL) for pattern in patterns)
    assert (room in Patterns(patterns)) is expected


def test_matching_takes_no_longer_for_patterns_that_make_regular_expressions_backtrack() -> None:
    # A backtracking matcher would not come back from this.
    patterns = Patterns(["*a**" * 31 + "b"] * MOST_PATTERNS)
    assert "a" * 128 not in patterns
    assert "a" * 127 + "b" in patterns


def test_no_pattern_matches_no_room() -> None:
    assert "lobby" not in NO_ROOM
    assert "" not in NO_ROOM


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([""], "a room pattern may not be empty; '**' matches every room"),
        (["ok", "x" * 129], "a room pattern may have 128 characters, this one has 129"),
        (["/team/*"], "a room pattern may not begin or end with a slash, as '/team/*' does"),
        (["team/"], "a room pattern may not begin or end with a slash, as 'team/' does"),
        (["a"] * 65, "there may be 64 room patterns, these are 65"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Patterns(texts)


def test_as_many_and_as_long_as_the_bounds_say() -> None:
    longest = "x" * LONGEST_PATTERN
    assert longest in Patterns(["a"] * (MOST_PATTERNS - 1) + [longest])


def test_patterns_are_values() -> None:
    patterns = Patterns(["a", "b/*"])
    assert patterns == Patterns(["a", "b/*"])
    assert patterns != Patterns(["a"])
    assert hash(patterns) == hash(Patterns(["a", "b/*"]))
    assert list(patterns) == ["a", "b/*"]
    assert repr(patterns) == "Patterns(texts=('a', 'b/*'))"


ANN = Identity(user="ann", handle="Ann", expires=None, read=Patterns(["team/*"]), write=Patterns(["team/a"]))


def test_reading_and_writing_are_allowed_by_pattern() -> None:
    ANN.check_read("team/a")
    ANN.check_read("team/b")
    ANN.check_write("team/a")


def test_what_is_not_allowed_names_the_room_and_what_is_missing() -> None:
    with pytest.raises(ChatError) as refused:
        ANN.check_write("team/b")
    assert refused.value.reason is Reason.NOT_ALLOWED
    message = "you may not write the room 'team/b': no pattern in rooms.write of your token matches it"
    assert refused.value.message == message
    with pytest.raises(ChatError) as refused:
        ANN.check_read("lobby")
    assert refused.value.reason is Reason.NOT_ALLOWED
    message = "you may not read the room 'lobby': no pattern in rooms.read of your token matches it"
    assert refused.value.message == message


def test_writing_does_not_include_reading() -> None:
    bot = Identity(user="bot", handle=None, expires=None, read=NO_ROOM, write=EVERY_ROOM)
    bot.check_write("lobby")
    with pytest.raises(ChatError):
        bot.check_read("lobby")


@pytest.mark.parametrize("identity", [ANYONE, SERVER])
def test_open_identities_read_and_write_everywhere(identity: Identity) -> None:
    identity.check_read("team/a/b")
    identity.check_write("team/a/b")
    assert identity.author is None
    assert identity.handle is None
    assert identity.expires is None


def test_only_an_api_key_acts_for_the_server() -> None:
    assert SERVER.server
    assert not ANYONE.server
    assert not ANN.server


def test_the_author_is_the_user() -> None:
    assert ANN.author == "ann"
