from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.auth.claims import CLOCK_SKEW, identity
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.permissions import EVERY_ROOM, NO_ROOM, Identity, Patterns

NOW = 1_763_796_000.5


def refusal(claims: dict[str, object], audience: str | None = None) -> ChatError:
    with pytest.raises(ChatError) as refused:
        identity(claims, NOW, audience)
    return refused.value


def test_a_subject_is_enough() -> None:
    assert identity({"sub": "ann"}, NOW) == Identity("ann", "ann", None, EVERY_ROOM, EVERY_ROOM)


def test_every_claim_at_once() -> None:
    claims: dict[str, object] = {
        "sub": "user-7",
        "iss": "the shop",
        "jti": 5,
        "iat": 1_763_795_000,
        "nbf": 1_763_795_000,
        "exp": 1_763_796_001,
        "info": {"handle": " Ann ", "picture": None},
        "rooms": {"read": ["team/*", "lobby"], "write": ["team/a"], "moderate": 1},
    }
    read, write = Patterns(["team/*", "lobby"]), Patterns(["team/a"])
    assert identity(claims, NOW) == Identity("user-7", "Ann", 1_763_796_001.0, read, write)


@pytest.mark.parametrize(
    ("user", "handle"), [("ann", "ann"), (" ann ", "ann"), ("u" * 64, "u" * 64), ("u" * 65, None), ("a\u202e", None)]
)
def test_the_handle_is_the_subject_if_that_is_one(user: str, handle: str | None) -> None:
    assert identity({"sub": user}, NOW).handle == handle
    assert identity({"sub": user, "info": {}}, NOW).handle == handle
    assert identity({"sub": user, "info": {"handle": "Ann"}}, NOW).handle == "Ann"


@pytest.mark.parametrize(
    ("rooms", "read", "write"),
    [
        ({}, NO_ROOM, NO_ROOM),
        ({"read": ["a"]}, Patterns(["a"]), NO_ROOM),
        ({"write": ["a"]}, NO_ROOM, Patterns(["a"])),
        ({"read": [], "write": ["**"]}, NO_ROOM, EVERY_ROOM),
    ],
)
def test_what_rooms_does_not_list_is_not_allowed(rooms: object, read: Patterns, write: Patterns) -> None:
    found = identity({"sub": "ann", "rooms": rooms}, NOW)
    assert (found.read, found.write) == (read, write)


SUB = "the claim sub of the token must be text of 1 to 128 characters without control characters"
TIME = "the claim {} of the token must be a number of seconds (not milliseconds) since 1970"
NO_TIMES: list[object] = [
    None,
    "1763796001",
    True,
    -1,
    math.nan,
    math.inf,
    -math.inf,
    1_763_796_000_500,
    10**400,
    [],
]
PATTERNS = "the claim rooms.{} of the token must be a list of room patterns"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"sub": None}, SUB),
        ({"sub": 7}, SUB),
        ({"sub": ""}, SUB),
        ({"sub": "x" * 129}, SUB),
        ({"sub": "a\nb"}, SUB),
        ({"sub": "\ud800"}, SUB),
        *(({claim: wrong}, TIME.format(claim)) for claim in ("exp", "nbf", "iat") for wrong in NO_TIMES),
        ({"info": None}, "the claim info of the token must be an object"),
        ({"info": "Ann"}, "the claim info of the token must be an object"),
        ({"info": {"handle": None}}, "the claim info.handle of the token must be text"),
        (
            {"info": {"handle": " "}},
            "the claim info.handle of the token is no handle: a handle may not be empty",
        ),
        (
            {"info": {"handle": "x" * 65}},
            "the claim info.handle of the token is no handle: a handle may have 64 characters, this one has 65",
        ),
        ({"rooms": None}, 'the claim rooms of the token must be an object: {"read": [...], "write": [...]}'),
        ({"rooms": ["a"]}, 'the claim rooms of the token must be an object: {"read": [...], "write": [...]}'),
        ({"rooms": {"read": "a"}}, PATTERNS.format("read")),
        ({"rooms": {"read": None}}, PATTERNS.format("read")),
        ({"rooms": {"write": [1]}}, PATTERNS.format("write")),
        (
            {"rooms": {"write": ["a", ""]}},
            "the claim rooms.write of the token is wrong: a room pattern may not be empty; '**' matches every room",
        ),
        (
            {"rooms": {"read": ["a"] * 65}},
            "the claim rooms.read of the token is wrong: there may be 64 room patterns, these are 65",
        ),
        ({"aud": 7}, "the claim aud of the token must be text or a list of texts"),
        ({"aud": [None]}, "the claim aud of the token must be text or a list of texts"),
    ],
)
def test_a_wrong_claim_is_named(claims: dict[str, object], message: str) -> None:
    refused = refusal({"sub": "ann"} | claims)
    assert (refused.reason, refused.message) == (Reason.TOKEN_INVALID, message)


def test_a_token_without_a_subject_is_refused() -> None:
    assert refusal({}).message == SUB


def test_a_token_expires_at_its_second() -> None:
    assert identity({"sub": "ann", "exp": NOW + 0.25}, NOW).expires == NOW + 0.25
    assert refusal({"sub": "ann", "exp": NOW}).reason is Reason.TOKEN_EXPIRED
    refused = refusal({"sub": "ann", "exp": 1_763_795_900})
    assert refused.reason is Reason.TOKEN_EXPIRED
    assert refused.message == "the token expired 100 seconds ago; get a new one"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_clocks_may_differ_a_little(claim: str) -> None:
    identity({"sub": "ann", claim: NOW + CLOCK_SKEW}, NOW)
    refused = refusal({"sub": "ann", claim: NOW + CLOCK_SKEW + 1})
    assert refused.reason is Reason.TOKEN_INVALID
    assert refused.message == f"the token is not valid yet: its claim {claim} is 31 seconds in the future"


@pytest.mark.parametrize("named", ["chat", ["chat"], ["shop", "chat"]])
def test_a_token_for_this_audience_is_taken(named: object) -> None:
    assert identity({"sub": "ann", "aud": named}, NOW, "chat").user == "ann"


@pytest.mark.parametrize(("named", "audience"), [("shop", "chat"), (["shop"], "chat"), ([], "chat"), ("shop", None)])
def test_a_token_for_another_audience_is_not(named: object, audience: str | None) -> None:
    refused = refusal({"sub": "ann", "aud": named}, audience)
    assert refused.reason is Reason.TOKEN_INVALID
    assert refused.message == "the token is for another audience: its claim aud does not name this server"


def test_a_server_with_an_audience_wants_to_be_named() -> None:
    refused = refusal({"sub": "ann"}, "chat")
    assert refused.message == "the token has no claim aud, which must name this server"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["handle", "read", "write"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "info", "rooms"]), JSON))
def test_whatever_the_claims_there_is_an_answer(claims: dict[str, object]) -> None:
    claims.setdefault("sub", "ann")
    reason = None
    try:
        found = identity(claims, NOW)
    except ChatError as refused:
        reason = refused.reason
    else:
        assert found.user == claims["sub"]
        assert not found.server
        assert found.expires is None or found.expires > NOW
    assert reason in {None, Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED}
