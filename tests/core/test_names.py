from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.names import DEFAULT_ROOM, LONGEST, room_from_path, room_name, room_path

Input = TypeVar("Input")


@pytest.mark.parametrize(
    ("path", "room"),
    [
        (b"", "lobby"),
        (b"/", "lobby"),
        (b"///", "lobby"),
        (b"x", "x"),
        (b"/x/", "x"),
        (b"/a/b/", "a/b"),
        (b"/a%2Fb", "a/b"),
        (b"/%2F%2f", "lobby"),
        (b"/caf%C3%A9", "caf\u00e9"),
        (b"/cafe%CC%81", "caf\u00e9"),
        ("/caf\u00e9".encode(), "caf\u00e9"),
        (b"/a+b", "a+b"),
        (b"/a%20b", "a b"),
        (b"/100%", "100%"),
        (b"/%zz", "%zz"),
        (b"/%F0%9F%92%AC", "\U0001f4ac"),
        (b"/...", "..."),
        (b"/" + b"x" * 128, "x" * 128),
        (b"/" + b"%C3%A9" * 128, "\u00e9" * 128),
    ],
)
def test_a_path_names_a_room(path: bytes, room: str) -> None:
    assert room_from_path(path) == room


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (b"/%FF", "the room name in the URL is not percent-encoded UTF-8"),
        (b"/\xc3", "the room name in the URL is not percent-encoded UTF-8"),
        (b"/%ED%A0%80", "the room name in the URL is not percent-encoded UTF-8"),
        (b"/%C0%AF", "the room name in the URL is not percent-encoded UTF-8"),
        (b"/" + b"x" * 129, "a room name may have 128 characters, this one has 129"),
        (b"/a%00", "a room name may not contain control characters"),
        (b"/a%0Ab", "a room name may not contain control characters"),
        (b"/a%C2%85", "a room name may not contain control characters"),
        (b"/a//b", "no part of a room name between slashes may be empty, '.' or '..'"),
        (b"/a/%2e%2e/b", "no part of a room name between slashes may be empty, '.' or '..'"),
        (b"/..", "no part of a room name between slashes may be empty, '.' or '..'"),
        (b"/a/.", "no part of a room name between slashes may be empty, '.' or '..'"),
    ],
)
def test_what_is_no_room_is_refused_with_the_reason(path: bytes, message: str) -> None:
    with pytest.raises(ChatError) as refused:
        room_from_path(path)
    assert (refused.value.reason, refused.value.message) == (Reason.BAD_ROOM, message)


def test_text_that_was_not_utf8_is_no_room_name() -> None:
    with pytest.raises(ChatError) as refused:
        room_name("a\udcff")
    assert refused.value.reason is Reason.BAD_ROOM


def attempt(read: Callable[[Input], str], given: Input) -> str | Reason:
    try:
        return read(given)
    except ChatError as refused:
        return refused.reason


@given(st.binary(max_size=200) | st.text("ab/.%2fFe\u0301", max_size=140).map(str.encode))
def test_a_path_names_a_proper_room_or_is_refused(path: bytes) -> None:
    room = attempt(room_from_path, path)
    if isinstance(room, Reason):
        assert room is Reason.BAD_ROOM
        return
    assert 1 <= len(room) <= LONGEST
    assert unicodedata.is_normalized("NFC", room)
    assert not {unicodedata.category(character) for character in room} & {"Cc", "Cs"}
    assert not set(room.split("/")) & {"", ".", ".."}
    assert room_name(room) == room
    assert room_from_path(room_path(room).encode("ascii")) == room


@given(st.text(st.characters(), max_size=140))
def test_a_room_leads_to_a_path_and_back(text: str) -> None:
    room = attempt(room_name, text)
    if isinstance(room, Reason):
        assert room is Reason.BAD_ROOM
        return
    path = room_path(room)
    assert path.isascii()
    assert not set(path) & set(' ?#\\"<>')
    assert room_from_path(b"/" + path.encode() + b"/") == room


def test_the_default_room_has_a_proper_name() -> None:
    assert room_name(DEFAULT_ROOM) == DEFAULT_ROOM
