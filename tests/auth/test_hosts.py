from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.auth import HostError, Hosts
from twisted_chat.core.errors import ChatError, Reason


def answered(hosts: Hosts, host: str | None) -> bool:
    try:
        hosts.check(host)
    except ChatError as refused:
        if refused.reason is not Reason.HOST_NOT_ALLOWED:
            raise
        return False
    return True


LOCAL = [
    "localhost",
    "LocalHost:8080",
    "localhost.",
    "chat.localhost:3000",
    "127.0.0.1",
    "127.0.0.1:8080",
    "127.1.2.3",
    "192.0.2.7:80",
    "[::1]",
    "[::1]:8080",
    "[::FFFF:127.0.0.1]:8080",
    "[2001:db8::1]",
]

FOREIGN = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evillocalhost",
    "my_host",
    "127.0.0.1, evil.example",
    "localhost:80:80",
    "localhost/x",
    "[::1].evil.example",
    "[evil.example]",
    "[]",
    ":8080",
    "127.0.0.1:evil",
    "\u212aelvin.example",
    "x" * 4_096,
]


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("named", [[], ["chat.example"]])
def test_localhost_and_addresses_are_always_answered(host: str, named: list[str]) -> None:
    assert answered(Hosts(named), host)


@pytest.mark.parametrize("host", [None, ""])
def test_without_a_host_it_is_no_browser(host: str | None) -> None:
    assert answered(Hosts(), host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_not(host: str) -> None:
    assert not answered(Hosts(), host)
    assert not answered(Hosts(["chat.example", "*.chat.example"]), host)
    assert answered(Hosts(["*"]), host)
    assert Hosts(["*"]).every
    assert not Hosts().every


@pytest.mark.parametrize(
    ("named", "host"),
    [
        ("chat.example", "chat.example"),
        ("chat.example", "Chat.Example.:8443"),
        ("Chat.Example.", "chat.example"),
        ("*.chat.example", "a.chat.example:8443"),
        ("*.chat.example", "a.b.chat.example"),
        ("*.Chat.example", "A.chat.example."),
        ("my_host", "my_host:80"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_named_ones_are_answered_on_any_port(named: str, host: str) -> None:
    assert answered(Hosts(["other.example", named]), host)


@pytest.mark.parametrize(
    ("named", "host"),
    [
        ("chat.example", "a.chat.example"),
        ("*.chat.example", "chat.example"),
        ("*.chat.example", ".chat.example"),
        ("*.chat.example", "evilchat.example"),
        ("chat.example", "chat.example.evil.example"),
    ],
)
def test_what_only_looks_like_them_is_not(named: str, host: str) -> None:
    assert not answered(Hosts([named]), host)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "[2001:db8::1]"])
def test_addresses_may_be_named_too(address: str) -> None:
    assert not answered(Hosts([address]), "evil.example")


def test_a_refusal_says_what_was_asked_for_and_how_to_allow_it() -> None:
    with pytest.raises(ChatError) as refused:
        Hosts().check("Evil.Example:8080")
    assert refused.value.message == (
        "this server does not answer to the host evil.example; its option --allow-host evil.example would allow it"
    )


@pytest.mark.parametrize("host", ["a'b", "<b>", "x" * 4_096, "127.0.0.1, evil.example"])
def test_what_is_no_host_is_not_repeated(host: str) -> None:
    with pytest.raises(ChatError, match=r"^the Host header is not a host like chat\.example\.com$"):
        Hosts().check(host)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("https://chat.example", "it has no scheme, port or path: 'chat.example'"),
        ("chat.example:8443", "it has no scheme, port or path: 'chat.example'"),
        ("http://chat.example:80/chat", "it has no scheme, port or path: 'chat.example'"),
        ("chat.example/", "it has no scheme, port or path: 'chat.example'"),
        ("https://*.chat.example", "it has no scheme, port or path: '*.chat.example'"),
        (".chat.example", "every host below is '*.chat.example'"),
        ("chat.*", "a star stands for whole labels at the start: '*.example.com'"),
        ("*chat.example", "a star stands for whole labels at the start: '*.example.com'"),
        ("bücher.example", "write it in ASCII, as browsers send it: 'xn--...'"),
        ("chat example", "it is a name or an address: 'chat.example.com'"),
        ("a..b", "it is a name or an address: 'chat.example.com'"),
        ("[::1", "it is a name or an address: 'chat.example.com'"),
        ("x" * 300, "it is a name or an address: 'chat.example.com'"),
    ],
)
def test_what_cannot_be_named(text: str, advice: str) -> None:
    with pytest.raises(HostError, match=re.escape(f"{text!r} is no host to allow: {advice}")):
        Hosts(["good.example", text])


@given(st.text())
def test_any_text_is_answered_or_refused(text: str) -> None:
    answered(Hosts(["*.chat.example"]), text)


@given(st.from_regex(r"(\*\.)?[a-z0-9-]{1,20}(\.[a-z0-9-]{1,20}){0,3}", fullmatch=True))
def test_what_is_named_is_answered(named: str) -> None:
    assert answered(Hosts([named]), named.replace("*", "a"))
