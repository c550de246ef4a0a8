from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.auth import OriginError, Origins
from twisted_chat.core.errors import ChatError, Reason


def allowed(origins: Origins, origin: str | None, host: str | None) -> bool:
    try:
        origins.check(origin, host)
    except ChatError as refused:
        if refused.reason is not Reason.ORIGIN_NOT_ALLOWED:
            raise
        return False
    return True


def test_without_an_origin_it_is_no_page() -> None:
    assert allowed(Origins(), None, "chat.example")
    assert allowed(Origins(), None, None)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://chat.example", "chat.example"),
        ("http://chat.example", "chat.example"),
        ("https://Chat.Example", "cHAT.example"),
        ("https://chat.example", "chat.example:443"),
        ("https://chat.example:443", "chat.example"),
        ("http://chat.example", "chat.example:80"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[2001:DB8::1]", "[2001:db8::1]:80"),
        ("https://chat.example.", "chat.example."),
        ("https://my_host", "my_host"),
        ("capacitor://localhost", "localhost"),
    ],
)
def test_the_servers_own_pages_may_connect(origin: str, host: str) -> None:
    assert allowed(Origins(), origin, host)
    assert Origins(["*"]).cors_origin(origin, host) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "chat.example"),
        ("https://chat.example.evil.example", "chat.example"),
        ("https://chat.example", "chat.example.evil.example"),
        ("https://chat.example:8443", "chat.example"),
        ("https://chat.example", "chat.example:8443"),
        ("http://chat.example", "chat.example:443"),
        ("https://chat.example", "chat.example:80"),
        ("https://chat.example", None),
        ("https://chat.example", ""),
        ("https://chat.example", "chat.example:"),
        ("https://chat.example", "user@chat.example"),
        ("https://chat.example", "chat.example/"),
        ("null", "null"),
        ("null", "chat.example"),
        ("", ""),
        ("", "chat.example"),
        ("chat.example", "chat.example"),
        ("//chat.example", "chat.example"),
        ("https://chat.example/", "chat.example"),
        ("https://chat.example https://chat.example", "chat.example"),
        ("https://\u212aaty.example", "katy.example"),
        ("https://" + "a" * 600, "a" * 600),
    ],
)
def test_other_pages_may_not(origin: str, host: str | None) -> None:
    assert not allowed(Origins(), origin, host)
    assert Origins().cors_origin(origin, host) is None


def test_a_refusal_names_the_origin_and_the_option() -> None:
    with pytest.raises(ChatError) as refused:
        Origins().check("https://evil.example", "chat.example")
    assert refused.value.reason is Reason.ORIGIN_NOT_ALLOWED
    assert refused.value.message == (
        "a page of https://evil.example may not connect to this server; "
        "its option --allow-origin https://evil.example would allow it"
    )
    with pytest.raises(ChatError, match=re.escape("its option --allow-origin null would allow it")):
        Origins().check("null", "chat.example")


def test_what_is_no_origin_is_not_repeated() -> None:
    with pytest.raises(ChatError) as refused:
        Origins().check("https://<script>", "chat.example")
    assert refused.value.reason is Reason.ORIGIN_NOT_ALLOWED
    assert refused.value.message == "the Origin header is not an origin like https://example.com"


@pytest.mark.parametrize(
    ("option", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:443", "https://example.com"),
        ("https://EXAMPLE.com", "https://example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("null", "null"),
    ],
)
def test_allowed_pages_may_connect(option: str, origin: str) -> None:
    origins = Origins(["https://other.example", option])
    assert allowed(origins, origin, "chat.example")
    assert allowed(origins, "https://other.example", None)
    assert origins.cors_origin(origin, "chat.example") == origin


@pytest.mark.parametrize(
    ("option", "origin"),
    [
        ("https://example.com", "http://example.com"),
        ("https://example.com", "https://example.com:8443"),
        ("https://example.com", "https://a.example.com"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "https://a.example.com.evil.example"),
        ("https://*.example.com", "http://a.example.com"),
        ("https://*.example.com", "https://a.example.com:8443"),
        ("https://*.example.com", "https://*.example.com"),
        ("null", "https://null"),
        ("https://null", "null"),
    ],
)
def test_allowing_some_pages_allows_no_others(option: str, origin: str) -> None:
    assert not allowed(Origins([option]), origin, "chat.example")
    assert Origins([option]).cors_origin(origin, "chat.example") is None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "anything", ""])
def test_a_star_allows_every_page(origin: str) -> None:
    assert allowed(Origins(["*"]), origin, "chat.example")
    assert Origins(["*"]).cors_origin(origin, "chat.example") == "*"


def test_without_an_origin_there_is_nothing_to_answer() -> None:
    assert Origins(["*"]).cors_origin(None, "chat.example") is None


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("example.com", "it needs a scheme: 'http://example.com' or 'https://example.com'"),
        ("", "it needs a scheme: 'http://' or 'https://'"),
        ("*.example.com", "it needs a scheme: 'http://*.example.com' or 'https://*.example.com'"),
        ("https://example.com/", "it has no path: 'https://example.com'"),
        ("https://example.com/chat?x", "it has no path: 'https://example.com'"),
        ("https://*.example.com/", "it has no path: 'https://*.example.com'"),
        ("https://ann@example.com", "it has no user: 'https://example.com'"),
        ("wss://example.com", "it is the page's that counts: 'https://example.com'"),
        ("ws://localhost:8080", "it is the page's that counts: 'http://localhost:8080'"),
        ("https://m\u00fcller.example", "write the host in ASCII, as browsers send it: 'https://xn--...'"),
        ("https://*", "a star stands for whole labels at the start: 'https://*.example.com'"),
        ("https://a*.example.com", "a star stands for whole labels at the start: 'https://*.example.com'"),
        ("https://*.*.example.com", "a star stands for whole labels at the start: 'https://*.example.com'"),
        ("https://*.[::1]", "a star stands for whole labels at the start: 'https://*.example.com'"),
        ("https://example.com:", "it is a scheme, a host and perhaps a port"),
        ("https://example.com:99999", "it is a scheme, a host and perhaps a port"),
        ("https://example.com:https", "it is a scheme, a host and perhaps a port"),
        ("https://exa mple.com", "it is a scheme, a host and perhaps a port"),
        ("https://", "it is a scheme, a host and perhaps a port"),
        ("https:///chat", "it is a scheme, a host and perhaps a port"),
    ],
)
def test_what_is_no_origin_cannot_be_allowed(option: str, advice: str) -> None:
    with pytest.raises(OriginError) as refused:
        Origins(["https://ok.example", option])
    assert str(refused.value).startswith(f"{option!r} is no origin to allow: {advice}")


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z*.:/@\[\]0-9-]{0,20}", fullmatch=True), st.text(max_size=20))
def test_whatever_is_sent_or_configured_is_answered(text: str, host: str) -> None:
    allowed(Origins(), text, host)
    Origins().cors_origin(text, host)
    try:
        origins = Origins([text])
    except OriginError:
        return
    if "://*." not in text and text != "*":
        assert allowed(origins, text, host)
    assert not allowed(origins, "https://never.allowed.example", "other.example") or text in {"*"} | {
        f"https://*.{parent}" for parent in ("allowed.example", "example")
    }


@pytest.mark.parametrize("origin", ["file://", "content://", "app://", "FILE://"])
def test_a_scheme_alone_is_allowed_by_name(origin: str) -> None:
    Origins([origin]).check(origin, "chat.example")
    assert Origins([origin]).cors_origin(origin, "chat.example") == origin
    with pytest.raises(ChatError, match=re.escape(f"its option --allow-origin {origin} would allow it")):
        Origins().check(origin, "chat.example")
    for other in ("null", "about://", "https://chat.example.org"):
        with pytest.raises(ChatError):
            Origins([origin]).check(other, "chat.example")
