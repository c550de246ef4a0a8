"""One spelling of each path: the others are recognised, and said which is the one."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.paths import is_canonical, other_spelling


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/chat",
        b"/chat/",
        b"/chat/lobby",
        b"/chat/lobby/",
        b"/chat/...",
        b"/.well-known/x",
        b"/chat/caf%C3%A9",
        b"/chat/a%20b",
        b"/chat/100%25",
        b"/chat/%2563hat",
        b"/chat/a%5Cb",
        b"/chat/a%3Fb%23c",
        b"/chat/user:42",
        b"/chat/user%3A42",
        b"/chat/a;b=c",
        b"/chat/a%3Bb=c",
        b"/chat/!$&'()*+,;=:@",
        b"/chat/%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A%40",
        b'/chat/"<>[]^`{|}',
        b"/chat/%22%3C%3E%5B%5D%5E%60%7B%7C%7D",
    ],
)
def test_canonical(path: bytes) -> None:
    assert other_spelling(path) is None
    assert is_canonical(path)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        (b"//", b"/"),
        (b"//chat/lobby", b"/chat/lobby"),
        (b"/chat//lobby", b"/chat/lobby"),
        (b"/chat/lobby//", b"/chat/lobby/"),
        (b"/%63hat/lobby", b"/chat/lobby"),
        (b"/chat/%6Cobby", b"/chat/lobby"),
        (b"/chat/a%2Db%2E%5F%7E", b"/chat/a-b._~"),
        (b"/chat/a%2Fb", b"/chat/a/b"),
        (b"/chat%2Flobby", b"/chat/lobby"),
        (b"/chat/%2flobby", b"/chat/lobby"),
        (b"/chat/caf%c3%a9", b"/chat/caf%C3%A9"),
        (b"/chat/cafe%CC%81", b"/chat/caf%C3%A9"),
        ("/chat/caf\u00e9".encode(), b"/chat/caf%C3%A9"),
        (b"/chat/a\\b", b"/chat/a%5Cb"),
        (b"/chat/a%5cb", b"/chat/a%5Cb"),
        (b"/chat/user%3a42", b"/chat/user:42"),
        (b"/chat/100%", b"/chat/100%25"),
        (b"/chat/%zz", b"/chat/%25zz"),
        (b"/chat/a b", b"/chat/a%20b"),
        (b"/chat/a#b", b"/chat/a%23b"),
    ],
)
def test_other_spellings(path: bytes, canonical: bytes) -> None:
    assert other_spelling(path) == canonical
    assert not is_canonical(path)
    assert other_spelling(canonical) is None


@pytest.mark.parametrize(
    "path", [b"/chat/.", b"/chat/..", b"/./chat", b"/a/../b", b"/%2e%2E/b", b"/a%2F..", b"/a%00", b"/a%C2%85", b"/%FF"]
)
def test_no_form_at_all(path: bytes) -> None:
    with pytest.raises(ValueError, match=r"path|utf-8"):
        other_spelling(path)
    assert not is_canonical(path)


SIGN = st.sampled_from("abz09-._~/%:@+!\\ \u00e9e\u0301?#&") | st.characters(codec="utf-8")


@given(st.text(SIGN, max_size=20), st.data())
def test_of_two_spellings_that_differ_in_more_than_signs_one_is_canonical(text: str, data: st.DataObject) -> None:
    """Encode what has to be encoded, and some of the rest, in either case: either it is the same, or it is noticed."""
    written = "".join(
        quote(character, safe="/")
        if not data.draw(st.booleans())
        else "".join(f"%{byte:02x}" for byte in character.encode())
        for character in text
    )
    path = b"/" + written.encode("ascii")
    try:
        canonical = other_spelling(path)
    except ValueError:
        return
    if canonical is None:
        # Every server and proxy that decodes it reads the same segments.
        assert "//" not in unquote(path.decode())
        assert unicodedata.is_normalized("NFC", unquote(path.decode()))
        assert path.count(b"/") == unquote(path.decode()).count("/")
    else:
        assert other_spelling(canonical) is None
