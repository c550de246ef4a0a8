from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.text import clean_handle, clean_key, clean_message

ANY_TEXT = st.text(st.characters(), max_size=100)
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u200b\u200c\u200d\u200e\u200f\u2060\u2064\u206a\u2800\u3164\ufe00\ufe0f"
    "\ufeff\uffa0\ufff9\U0001d173\U000e0001\U000e0041\U000e0100"
)
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
        ("\u2764\ufe0f ann", "\u2764\ufe0f ann"),
        ("1\ufe0f\u20e3", "1\ufe0f\u20e3"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d\U0001f3fd"),
        ("\U0001f469\U0001f3fd\u200d\U0001f4bb", "\U0001f469\U0001f3fd\u200d\U0001f4bb"),
        (
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        ),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\u0936\u094d\u200d\u0930\u0940", "\u0936\u094d\u200d\u0930\u0940"),
        ("\u90e8\u9577", "\u90e8\u9577"),
        ("Zo\u00eb", "Zo\u00eb"),
        ("Zoe\u0308", "Zoe\u0308"),
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


@pytest.mark.parametrize("character", INVISIBLE)
@pytest.mark.parametrize("handle", ["{}", "ann{}", "{}ann", "a{}nn", "{0}{0}", "\u05d0{}\u05d1"])
def test_a_handle_has_no_invisible_character(handle: str, character: str) -> None:
    assert refusal(clean_handle, handle.format(character)).reason is Reason.BAD_HANDLE


@given(st.text(st.sampled_from(INVISIBLE + BIDI + " \t\n\u00a0\u2003"), min_size=1, max_size=20))
def test_a_message_has_a_visible_character(text: str) -> None:
    assert refusal(clean_message, text).reason is Reason.BAD_MESSAGE
    assert clean_message(f"{text}a") == f"{text}a"


def test_a_message_keeps_the_invisible_characters_between_visible_ones() -> None:
    assert clean_message("\u05d0\u200f a\u200bb") == "\u05d0\u200f a\u200bb"


def test_windows_line_ends_become_newlines() -> None:
    assert clean_message("a\r\n\r\nb\n") == "a\n\nb\n"
    assert clean_message("abc\r\n", 4) == "abc\n"
    assert refusal(clean_message, "a\rb").reason is Reason.BAD_MESSAGE


@given(ANY_TEXT)
def test_a_clean_handle_keeps_every_rule_and_is_clean(text: str) -> None:
    try:
        handle = clean_handle(text)
    except ChatError:
        assume(False)
    assert handle == text.strip() == clean_handle(handle)
    assert 1 <= len(handle) <= 64
    assert not {"Cc", "Cs", "Zl", "Zp", "Co"} & {unicodedata.category(character) for character in handle}
    assert not set(handle) & set(BIDI)


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=INVISIBLE), min_size=1, max_size=64))
def test_letters_numbers_punctuation_and_symbols_make_a_handle(text: str) -> None:
    assert clean_handle(text) == text


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
        ("a\rb", Reason.BAD_MESSAGE, "a message may not contain the control character U+000D"),
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
