"""What people send: handles, messages and idempotency keys, cleaned or refused with the reason."""

from __future__ import annotations

import re
from typing import Final

import regex

from twisted_chat.core.errors import ChatError, Reason

LONGEST_HANDLE: Final = 64
LONGEST_MESSAGE: Final = 4_096
LONGEST_KEY: Final = 64

# General category Cc but newline and tab.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# One line of text: no Cc at all, and neither of Unicode's own line breaks.
_CONTROL_OR_BREAK: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# JSON can write half a surrogate pair; UTF-8 cannot, so nothing behind us could store it.
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# Embeddings, overrides, isolates and marks change how the text around a handle reads: "bob" can look like "ann".
_BIDI_CONTROL: Final = regex.compile(r"\p{Bidi_Control}")
# Characters without a glyph (Unicode 5.21, "Default_Ignorable_Code_Point"), and those of no use to a reader: formats,
# private use, unassigned. U+2800 has a glyph, which is blank.
_INVISIBLE: Final = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Co}\p{Cn}\u2800]")
_VISIBLE: Final = regex.compile(r"[^\p{Default_Ignorable_Code_Point}\p{C}\p{Z}\s\u2800]")
# Invisible characters that belong to what is seen: variants and joints of emoji and flags made of tags (UTS 51), and
# joiners where a script needs them, after a virama or between cursive letters (RFC 5892, appendix A.1 and A.2).
_NEEDED: Final = regex.compile(
    r"(?<=[\p{Emoji}\p{M}])[\uFE0E\uFE0F]"
    r"|(?<=\p{Extended_Pictographic}[\uFE0F\p{Emoji_Modifier}]?)\u200D(?=\p{Extended_Pictographic})"
    r"|(?<=\U0001F3F4)[\U000E0020-\U000E007E]+\U000E007F"
    r"|(?<=\p{Canonical_Combining_Class=Virama})[\u200C\u200D]"
    r"|(?<=[\p{Script=Arabic}\p{Script=Syriac}\p{Script=Mongolian}]\p{Mn}*)\u200C"
    r"(?=[\p{Script=Arabic}\p{Script=Syriac}\p{Script=Mongolian}])"
)


def clean_handle(text: str, longest: int = LONGEST_HANDLE) -> str:
    """Return the handle that `text` is, trimmed: 1 to `longest` characters on one line, each of them visible.

    Raises `ChatError` (`Reason.BAD_HANDLE`) with what is wrong.
    """
    handle = text.strip()
    if not handle:
        raise ChatError(Reason.BAD_HANDLE, "a handle may not be empty")
    if len(handle) > longest:
        raise _too_long("a handle", handle, longest, Reason.BAD_HANDLE)
    if handle.isascii() and handle.isprintable():
        return handle
    _check_characters("a handle", handle, _CONTROL_OR_BREAK, Reason.BAD_HANDLE)
    _check_visible(handle)
    return handle


def _check_visible(handle: str) -> None:
    """Raise `ChatError` for a handle with characters that nobody sees: it would look like another one."""
    if found := _BIDI_CONTROL.search(handle):
        raise ChatError(
            Reason.BAD_HANDLE,
            f"a handle may not contain {_code_point(found)}, which changes the direction of text",
        )
    if found := _INVISIBLE.search(_NEEDED.sub("", handle)):
        raise ChatError(Reason.BAD_HANDLE, f"a handle may not contain {_code_point(found)}, which is invisible")
    if not _VISIBLE.search(handle):
        raise ChatError(Reason.BAD_HANDLE, "a handle needs at least one visible character")


def clean_message(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return the message that `text` is: 1 to `longest` characters, one of them visible, with newlines for CR LF.

    Raises `ChatError` (`Reason.MESSAGE_TOO_LONG` or `Reason.BAD_MESSAGE`) with what is wrong.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if len(text) > longest:
        raise _too_long("a message", text, longest, Reason.MESSAGE_TOO_LONG)
    if not text or text.isspace():
        raise ChatError(Reason.BAD_MESSAGE, "a message may not be empty or only white space")
    if not text.isprintable():
        _check_characters("a message", text, _CONTROL, Reason.BAD_MESSAGE)
    if not (text.isascii() or _VISIBLE.search(text)):
        raise ChatError(Reason.BAD_MESSAGE, "a message needs at least one visible character")
    return text


def clean_key(text: str, longest: int = LONGEST_KEY) -> str:
    """`text` as it is, if it is an idempotency key: 1 to `longest` characters.

    Raises `ChatError` (`Reason.BAD_KEY`) with what is wrong.
    """
    if not text:
        raise ChatError(Reason.BAD_KEY, "a key may not be empty; leave it out instead")
    if len(text) > longest:
        raise _too_long("a key", text, longest, Reason.BAD_KEY)
    if not text.isprintable():
        _check_characters("a key", text, _CONTROL, Reason.BAD_KEY)
    return text


def _too_long(what: str, text: str, longest: int, reason: Reason) -> ChatError:
    return ChatError(reason, f"{what} may have {longest} characters, this one has {len(text)}")


def _check_characters(what: str, text: str, control: re.Pattern[str], reason: Reason) -> None:
    """Of `text` that is not printable; in what is, there is nothing to refuse."""
    if found := control.search(text):
        raise ChatError(reason, f"{what} may not contain the control character {_code_point(found)}")
    if found := _SURROGATE.search(text):
        raise ChatError(reason, f"{what} may not contain {_code_point(found)}, half of a surrogate pair")


def _code_point(found: re.Match[str] | regex.Match[str]) -> str:
    return f"U+{ord(found[0]):04X}"
