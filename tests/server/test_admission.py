"""Who comes in: addresses that limits count, origins, and who a request is from."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.http_headers import Headers

from twisted_chat.auth import ApiKeys, Origins, SigningKey, TokenKeys, make_token
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.core.permissions import ANYONE, SERVER
from twisted_chat.server.admission import Admission
from twisted_chat.server.http.connection import HttpConnection

NOW = 1_795_000_000.0
PROXY = IPv4Address("TCP", "192.0.2.1", 443)
API_KEY = "k" * 40


class Request:
    """What admission looks at of one."""

    def __init__(
        self,
        *headers: tuple[str, str],
        query: tuple[tuple[str, str], ...] = (),
        peer: IAddress = PROXY,
    ) -> None:
        self.requestHeaders = Headers()
        for name, value in headers:
            self.requestHeaders.addRawHeader(name, value)
        self.args: dict[bytes, list[bytes]] = {}
        for name, value in query:
            self.args.setdefault(name.encode(), []).append(value.encode())
        self._peer = peer
        self.channel = SimpleNamespace(connection=HttpConnection())

    def getClientAddress(self) -> IAddress:
        return self._peer


def admission(**fields: Any) -> Any:
    """Rules that let everyone in, but for `fields`. (`Any`, so that it takes our requests.)"""
    rules: dict[str, Any] = {
        "origins": Origins(),
        "tokens": None,
        "api_keys": None,
        "limits": Limits(),
        "trusted_proxies": 0,
        "clock": lambda: 0.0,
        "wall_clock": lambda: NOW,
    }
    return Admission(**rules | fields)


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(ChatError) as error:
        call()
    return error.value.reason


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    (tmp_path / "key").write_text(secrets.token_hex(32))
    (tmp_path / "key").chmod(0o600)
    return SigningKey.from_file(tmp_path / "key")


@pytest.fixture
def tokens(key: SigningKey, tmp_path: Path) -> TokenKeys:
    return TokenKeys.from_file(tmp_path / "key")


@pytest.fixture
def api_keys(tmp_path: Path) -> ApiKeys:
    (tmp_path / "api-keys").write_text(API_KEY)
    (tmp_path / "api-keys").chmod(0o600)
    return ApiKeys.from_file(tmp_path / "api-keys")


# Addresses


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8:1:2:3::4", 1), "2001:db8:1:2::/64"),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 1), "192.0.2.1"),
        (UNIXAddress(b"/run/chat.sock"), None),
    ],
)
def test_the_address_of_a_connection(peer: IAddress, address: str | None) -> None:
    assert admission().address(Request(peer=peer)) == address


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, ["198.51.100.7"], "192.0.2.1"),  # anyone can write it
        (1, [], "192.0.2.1"),
        (1, [""], "192.0.2.1"),
        (1, ["198.51.100.7"], "198.51.100.7"),
        (1, ["10.0.0.1, 198.51.100.7"], "198.51.100.7"),
        (1, ["10.0.0.1", "198.51.100.7"], "198.51.100.7"),
        (2, ["10.0.0.1,198.51.100.7 , 203.0.113.9,"], "198.51.100.7"),
        (2, ["198.51.100.7"], "198.51.100.7"),
        (1, ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (1, ["unknown"], "unknown"),
        (1, ["10.0.0.1:99, 198.51.100.7:40000"], "198.51.100.7"),
        (1, ["[2001:db8:1:2:3::4]:40000"], "2001:db8:1:2::/64"),
        (1, ["[2001:db8:1:2:3::4]"], "2001:db8:1:2::/64"),
    ],
)
def test_the_address_behind_proxies(proxies: int, forwarded: list[str], address: str) -> None:
    request = Request(*(("X-Forwarded-For", value) for value in forwarded))
    assert admission(trusted_proxies=proxies).address(request) == address


def test_a_proxy_on_a_unix_socket_tells_the_address() -> None:
    request = Request(("X-Forwarded-For", "198.51.100.7"), peer=UNIXAddress(None))
    assert admission(trusted_proxies=1).address(request) == "198.51.100.7"


# Origins


def test_origins() -> None:
    host = ("Host", "chat.example")
    rules = admission(origins=Origins(["https://site.example"]))
    rules.check_origin(Request(host))
    rules.check_origin(Request(host, ("Origin", "https://chat.example")))
    rules.check_origin(Request(host, ("Origin", "https://site.example")))
    foreign = Request(host, ("Origin", "https://foreign.example"))
    assert refusal(lambda: rules.check_origin(foreign)) is Reason.ORIGIN_NOT_ALLOWED
    assert (
        rules.allowed_origin(Request(host, ("Origin", "https://site.example")).requestHeaders) == "https://site.example"
    )
    assert rules.allowed_origin(foreign.requestHeaders) is None


def test_of_two_origins_neither_is_overlooked() -> None:
    two = Request(("Host", "a.example"), ("Origin", "https://a.example"), ("Origin", "https://evil.example"))
    assert refusal(lambda: admission().check_origin(two)) is Reason.ORIGIN_NOT_ALLOWED


# Identity


def test_an_open_server_lets_anyone_in() -> None:
    assert admission().identify(Request()) is ANYONE
    assert admission().identify(Request(("Authorization", "Bearer whatever"))) is ANYONE


def test_tokens(tokens: TokenKeys, key: SigningKey) -> None:
    rules = admission(tokens=tokens)
    token = make_token(key, "u1", handle="ann", now=NOW, expires_in=60)
    for request in (Request(("Authorization", f"Bearer {token}")), Request(query=(("token", token),))):
        identity = rules.identify(request)
        assert (identity.user, identity.handle, identity.server) == ("u1", "ann", False)
    assert refusal(lambda: rules.identify(Request())) is Reason.TOKEN_REQUIRED
    assert refusal(lambda: rules.identify(Request(("Authorization", "Bearer x")))) is Reason.TOKEN_INVALID
    late = make_token(key, "u1", now=NOW - 3600, expires_in=60)
    assert refusal(lambda: rules.identify(Request(query=(("token", late),)))) is Reason.TOKEN_EXPIRED
    two = Request(("Authorization", f"Bearer {token}"), query=(("token", late),))
    assert refusal(lambda: rules.identify(two)) is Reason.BAD_REQUEST


def test_api_keys(tokens: TokenKeys, api_keys: ApiKeys) -> None:
    rules = admission(tokens=tokens, api_keys=api_keys)
    assert rules.identify(Request(("X-API-Key", API_KEY))) is SERVER
    wrong = Request(("X-API-Key", "wrong"))
    assert refusal(lambda: rules.identify(wrong)) is Reason.API_KEY_INVALID
    twice = Request(("X-API-Key", API_KEY), ("X-API-Key", "wrong"))
    assert refusal(lambda: rules.identify(twice)) is Reason.API_KEY_INVALID
    without = admission(tokens=tokens)
    assert refusal(lambda: without.identify(Request(("X-API-Key", API_KEY)))) is Reason.API_KEY_INVALID
    assert refusal(lambda: admission().identify(wrong)) is Reason.API_KEY_INVALID, "on an open server too"


# Sessions


def test_a_session(tokens: TokenKeys, key: SigningKey) -> None:
    token = make_token(key, "u1", handle="ann", now=NOW)
    rules = admission(tokens=tokens)
    session = rules.session(Request(query=(("token", token),)), "lobby", "bob")
    assert (session.room, session.handle, session.identity.user) == ("lobby", "ann", "u1")
    assert admission().session(Request(), "lobby", "bob").handle == "bob"
    assert admission().session(Request(), "lobby").handle is None


def test_sessions_of_one_address_share_a_rate() -> None:
    rules = admission(limits=Limits(messages_per_address=Rate(1.0, 2)), trusted_proxies=1)

    def speak(address: str | None) -> str:
        peer = PROXY if address else UNIXAddress(None)
        headers = [("X-Forwarded-For", address)] if address else []
        handle: str = rules.session(Request(*headers, peer=peer), "lobby").speak("ann", 0.0)
        return handle

    for address in ("198.51.100.7", "198.51.100.7", "198.51.100.8", None, None, None):
        assert speak(address) == "ann"
    assert refusal(lambda: speak("198.51.100.7")) is Reason.RATE_LIMITED


def test_requests_on_one_connection_share_its_rate() -> None:
    rules, request = admission(limits=Limits(messages_per_connection=Rate(1.0, 2))), Request()
    for _ in range(2):
        rules.session(request, "lobby").speak("ann", 0.0)
    assert refusal(lambda: rules.session(request, "another").speak("ann", 0.0)) is Reason.RATE_LIMITED
    assert rules.session(Request(), "lobby").speak("ann", 0.0) == "ann"


def test_the_connection_of_a_proxy_is_not_one_clients() -> None:
    rules = admission(limits=Limits(messages_per_connection=Rate(1.0, 1)), trusted_proxies=1)
    request = Request(("X-Forwarded-For", "198.51.100.7"))
    for _ in range(3):
        assert rules.session(request, "lobby").speak("ann", 0.0) == "ann"


def test_other_rules_count_from_now_on(tokens: TokenKeys, key: SigningKey, api_keys: ApiKeys) -> None:
    rules = admission()
    rules.replace(origins=Origins(["https://site.example"]), tokens=tokens, api_keys=api_keys)
    assert refusal(lambda: rules.identify(Request())) is Reason.TOKEN_REQUIRED
    assert rules.identify(Request(("X-API-Key", API_KEY))) is SERVER
    rules.check_origin(Request(("Host", "chat.example"), ("Origin", "https://site.example")))
    rules.replace(origins=Origins(), tokens=None, api_keys=None)
    assert rules.identify(Request()) is ANYONE
