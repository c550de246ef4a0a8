from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.text import clean_handle, clean_key, clean_message

ANY_TEXT = st.text(st.characters(), max_size=100)
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def refusal(clean: Callable[[str], str], text: str) -> ChatError:
    with pytest.raises(ChatError) as refused:
        clean(text)
    return refused.value


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        ("ann", "ann"),
        ("  ann \n", "ann"),
        ("Ann  Müller", "Ann  Müller"),
        ("x" * 64, "x" * 64),
        (" " * 100 + "x" * 64, "x" * 64),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("\u05d0\u200f", "\u05d0\u200f"),
    ],
)
def test_a_handle_is_trimmed(text: str, handle: str) -> None:
    assert clean_handle(text) == handle


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a handle may not be empty"),
        (" \n\t ", "a handle may not be empty"),
        ("x" * 65, "a handle may have 64 characters, this one has 65"),
        ("a\nb", "a handle may not contain the control character U+000A"),
        ("a\tb", "a handle may not contain the control character U+0009"),
        ("a\x00", "a handle may not contain the control character U+0000"),
        ("a\x9fb", "a handle may not contain the control character U+009F"),
        ("a\u2028b", "a handle may not contain the control character U+2028"),
        ("a\u2029b", "a handle may not contain the control character U+2029"),
        ("a\ud800", "a handle may not contain U+D800, half of a surrogate pair"),
        ("a\u202eb", "a handle may not contain U+202E, which changes the direction of text"),
    ],
)
def test_what_is_no_handle_is_refused_with_the_reason(text: str, message: str) -> None:
    refused = refusal(clean_handle, text)
    assert (refused.reason, refused.message) == (Reason.BAD_HANDLE, message)


@pytest.mark.parametrize("control", BIDI)
def test_a_handle_may_not_turn_text_around(control: str) -> None:
    assert refusal(clean_handle, f"a{control}b").reason is Reason.BAD_HANDLE
    assert clean_message(f"a{control}b") == f"a{control}b"


@given(ANY_TEXT)
def test_a_clean_handle_keeps_every_rule_and_is_clean(text: str) -> None:
    trimmed = text.strip()
    categories = {unicodedata.category(character) for character in trimmed}
    bad = not 1 <= len(trimmed) <= 64 or categories & {"Cc", "Cs", "Zl", "Zp"} or set(trimmed) & set(BIDI)
    if bad:
        assert refusal(clean_handle, text).reason is Reason.BAD_HANDLE
    else:
        assert clean_handle(text) == clean_handle(trimmed) == trimmed


def test_a_message_stays_as_it_is() -> None:
    assert clean_message("  a\n\tb \u202e ") == "  a\n\tb \u202e "
    assert clean_message("x" * 4096) == "x" * 4096


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("x" * 5210, Reason.MESSAGE_TOO_LONG, "a message may have 4096 characters, this one has 5210"),
        (" " * 5210, Reason.MESSAGE_TOO_LONG, "a message may have 4096 characters, this one has 5210"),
        ("", Reason.BAD_MESSAGE, "a message may not be empty or only white space"),
        (" \n\t\u3000", Reason.BAD_MESSAGE, "a message may not be empty or only white space"),
        ("a\r\n", Reason.BAD_MESSAGE, "a message may not contain the control character U+000D"),
        ("\x1b[31m", Reason.BAD_MESSAGE, "a message may not contain the control character U+001B"),
        ("a\x7f", Reason.BAD_MESSAGE, "a message may not contain the control character U+007F"),
        ("a\udfff", Reason.BAD_MESSAGE, "a message may not contain U+DFFF, half of a surrogate pair"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(text: str, reason: Reason, message: str) -> None:
    refused = refusal(clean_message, text)
    assert (refused.reason, refused.message) == (reason, message)


def test_a_key_stays_as_it_is() -> None:
    assert clean_key(" a\tb ") == " a\tb "
    assert clean_key("k" * 64) == "k" * 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a key may not be empty; leave it out instead"),
        ("k" * 65, "a key may have 64 characters, this one has 65"),
        ("k\x00", "a key may not contain the control character U+0000"),
        ("k\ud9ab", "a key may not contain U+D9AB, half of a surrogate pair"),
    ],
)
def test_what_is_no_key_is_refused_with_the_reason(text: str, message: str) -> None:
    refused = refusal(clean_key, text)
    assert (refused.reason, refused.message) == (Reason.BAD_KEY, message)


@given(st.sampled_from([clean_message, clean_key]), ANY_TEXT)
def test_control_characters_but_newline_and_tab_are_refused(clean: Callable[[str], str], text: str) -> None:
    text = "x" + text[:60]
    bad = any(unicodedata.category(character) in {"Cc", "Cs"} and character not in {"\n", "\t"} for character in text)
    if bad:
        assert refusal(clean, text).reason in {Reason.BAD_MESSAGE, Reason.BAD_KEY}
    else:
        assert clean(text) == text
        text.encode("utf-8")


def test_the_longest_can_be_chosen() -> None:
    assert clean_handle("abc", 3) == "abc"
    assert clean_message("abc", 3) == "abc"
    assert clean_key("abc", 3) == "abc"
    assert "may have 2 characters, this one has 3" in refusal(lambda text: clean_handle(text, 2), "abc").message
    assert "may have 2 characters, this one has 3" in refusal(lambda text: clean_message(text, 2), "abc").message
    assert "may have 2 characters, this one has 3" in refusal(lambda text: clean_key(text, 2), "abc").message
