from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.auth import SigningKey, TokenKeys, make_token, token_from
from twisted_chat.auth.keys import VerificationKey
from twisted_chat.auth.tokens import LONGEST_TOKEN
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.permissions import EVERY_ROOM, NO_ROOM, Identity, Patterns

NOW = 1_763_796_000.5
SECRET = b"hush" * 8
KEYS = TokenKeys([VerificationKey("HS256", SECRET)])
SIGN = SigningKey("HS256", SECRET)
NOT_OURS = "the token's signature is not by a key of this server"
MALFORMED = "the token is not a JSON Web Token: three parts of base64url with dots between them"


def encoded(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: object, claims: object, secret: bytes = SECRET) -> str:
    """A token by hand, with the HMAC of `secret` whatever its header says."""
    content = f"{encoded(header)}.{encoded(claims)}"
    return f"{content}.{encoded(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def refusal(token: str, keys: TokenKeys = KEYS) -> str:
    with pytest.raises(ChatError) as refused:
        keys.verify(token, NOW)
    assert refused.value.reason is Reason.TOKEN_INVALID
    for part in token.split("."):
        assert len(part) < 8 or part not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_key_pair_makes_and_verifies_tokens(
    private_files: dict[str, Path], public_files: dict[str, Path], algorithm: str
) -> None:
    token = make_token(SigningKey.from_file(private_files[algorithm]), "ann", now=NOW)
    keys = TokenKeys.from_file(public_files[algorithm])
    assert keys.verify(token, NOW) == Identity("ann", "ann", None, EVERY_ROOM, EVERY_ROOM)
    assert repr(keys) == f"<TokenKeys: {algorithm}>"
    header, claims, signature = token.split(".")
    forged = encoded({"sub": "eve"})
    assert refusal(f"{header}.{forged}.{signature}", keys) == NOT_OURS
    assert refusal(f"{header}.{claims}.{signature[:40]}", keys) == NOT_OURS
    assert refusal(f"{header}.{claims}.", keys) == NOT_OURS


def test_a_secret_makes_and_verifies_tokens(secret_file: Path) -> None:
    token = make_token(
        SigningKey.from_file(secret_file),
        "user-7",
        handle="Ann",
        read=["team/*"],
        write=[],
        expires_in=60,
        audience="chat",
        now=NOW,
    )
    keys = TokenKeys.from_file(secret_file, audience="chat")
    assert keys.verify(token, NOW) == Identity("user-7", "Ann", 1_763_796_061.0, Patterns(["team/*"]), NO_ROOM)
    with pytest.raises(ChatError) as refused:
        keys.verify(token, NOW + 61)
    assert refused.value.reason is Reason.TOKEN_EXPIRED
    assert secret_file.read_text().strip() not in repr(keys)


def test_other_makers_of_tokens_are_understood() -> None:
    claims = {"sub": "ann", "exp": 1_763_796_060, "iss": "shop"}
    assert KEYS.verify(jwt.encode(claims, SECRET, "HS256", headers={"kid": "any"}), NOW).expires == 1_763_796_060.0
    assert KEYS.verify(signed({"alg": "HS256"}, claims), NOW).user == "ann"


def test_a_token_by_another_key_is_refused() -> None:
    assert refusal(signed({"alg": "HS256"}, {"sub": "ann"}, b"x" * 32)) == NOT_OURS


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS512", "RS256", "", None, 5, ["HS256"], {}])
def test_the_key_says_which_algorithm_not_the_token(algorithm: object) -> None:
    message = "the token must be signed with HS256"
    assert refusal(signed({"alg": algorithm}, {"sub": "ann"})) == message
    assert refusal(f"{encoded({'alg': algorithm})}.{encoded({'sub': 'ann'})}.") == message


def test_a_token_without_an_algorithm_is_refused() -> None:
    assert refusal(signed({}, {"sub": "ann"})) == "the token must be signed with HS256"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(public_files: dict[str, Path], algorithm: str) -> None:
    path = public_files[algorithm]
    keys = TokenKeys.from_file(path)
    for secret in (path.read_bytes(), path.read_bytes().strip()):
        token = signed({"alg": "HS256"}, {"sub": "eve"}, secret)
        assert refusal(token, keys) == f"the token must be signed with {algorithm}"
        assert refusal(signed({"alg": algorithm}, {"sub": "eve"}, secret), keys) == NOT_OURS
    unsigned = f"{encoded({'alg': 'none'})}.{encoded({'sub': 'eve'})}."
    assert refusal(unsigned, keys) == f"the token must be signed with {algorithm}"


def test_a_public_key_beside_a_secret_is_no_secret_either(public_files: dict[str, Path]) -> None:
    (public,) = TokenKeys.from_file(public_files["RS256"])._keys
    keys = TokenKeys([public, VerificationKey("HS256", SECRET)])
    token = signed({"alg": "HS256"}, {"sub": "eve"}, public_files["RS256"].read_bytes())
    assert refusal(token, keys) == NOT_OURS
    assert refusal(signed({"alg": "none"}, {}), keys) == "the token must be signed with HS256 or RS256"


def test_the_key_of_a_set_is_found_by_its_kid() -> None:
    old, new = b"old." * 8, b"new." * 8
    keys = TokenKeys([VerificationKey("HS256", old, "old"), VerificationKey("HS256", new, "new")])
    assert keys.verify(signed({"alg": "HS256", "kid": "old"}, {"sub": "ann"}, old), NOW).user == "ann"
    assert keys.verify(signed({"alg": "HS256", "kid": "new"}, {"sub": "ann"}, new), NOW).user == "ann"
    assert refusal(signed({"alg": "HS256", "kid": "old"}, {"sub": "ann"}, new), keys) == NOT_OURS
    message = "the token is signed with a key (kid) that this server does not have"
    assert refusal(signed({"alg": "HS256", "kid": "gone"}, {"sub": "ann"}, new), keys) == message


def test_without_a_kid_every_key_of_the_algorithm_may_be_the_one() -> None:
    old, new = b"old." * 8, b"new." * 8
    keys = TokenKeys([VerificationKey("HS256", old, "old"), VerificationKey("HS256", new)])
    assert keys.verify(signed({"alg": "HS256"}, {"sub": "ann"}, old), NOW).user == "ann"
    assert keys.verify(signed({"alg": "HS256", "kid": "gone"}, {"sub": "ann"}, new), NOW).user == "ann"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "...",
        "é.é.é",
        "\ud800.\ud800.\ud800",
        f"{encoded([])}.{encoded({})}.",
        f"{encoded(b'[' * 4000)}.{encoded({})}.",
        f"{encoded({'alg': 'HS256'})}.!!!!.AAAA",
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(token) == MALFORMED


@pytest.mark.parametrize("header", [{"kid": 5}, {"crit": ["exp"]}, {"crit": 5}])
def test_headers_that_ask_for_more_are_refused(header: dict[str, object]) -> None:
    message = "the header of the token has a kid or crit that is not understood"
    assert refusal(signed({"alg": "HS256"} | header, {"sub": "ann"})) == message


@pytest.mark.parametrize("claims", [[], "ann", None, b"{", b"", b"\xff", b"[" * 4000])
def test_claims_that_are_no_object_are_refused(claims: object) -> None:
    assert refusal(signed({"alg": "HS256"}, claims)) == "the token is signed, but its claims are not a JSON object"


def test_a_claim_that_is_wrong_is_refused() -> None:
    token = signed({"alg": "HS256"}, {"sub": "ann", "rooms": 5})
    assert refusal(token).startswith("the claim rooms of the token must be an object")


def test_a_token_is_as_long_as_the_bound_says_at_most() -> None:
    empty = len(signed({"alg": "HS256"}, {"sub": "ann", "x": ""}))
    fits = signed({"alg": "HS256"}, {"sub": "ann", "x": "x" * ((LONGEST_TOKEN - empty) // 4 * 3)})
    assert LONGEST_TOKEN - 4 < len(fits) <= LONGEST_TOKEN
    assert KEYS.verify(fits, NOW).user == "ann"
    assert refusal("x" * 9000) == "a token may have 8192 characters, this one has 9000"


@given(st.text(st.characters(), max_size=60) | st.text("eyJhbGciOiJIUzI1NiJ9.=-_", max_size=60))
def test_whatever_is_presented_is_refused(token: str) -> None:
    refusal(token)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_whatever_a_signed_token_says_there_is_an_answer(header: bytes, claims: bytes) -> None:
    refusal(signed(header, claims))
    refusal(signed({"alg": "HS256"}, claims))


def test_no_token_is_made_that_would_be_refused() -> None:
    for message, claims in {
        "the claim sub of the token must be text": {"user": ""},
        "the claim info.handle of the token is no handle": {"user": "ann", "handle": "a\nb"},
        "the claim rooms.read of the token is wrong": {"user": "ann", "read": ["/a"]},
        "the token expired 2 seconds ago": {"user": "ann", "expires_in": -2.0},
        "a token may have 8192 characters": {"user": "ann", "write": ["x" * 128] * 64},
    }.items():
        with pytest.raises(ChatError, match=message):
            make_token(SIGN, now=NOW, **claims)  # type: ignore[arg-type]  # each claim has its own type


@given(
    st.text(min_size=1, max_size=128).filter(lambda text: text.isprintable()),
    st.none() | st.lists(st.text("ab*", min_size=1, max_size=5), max_size=5),
    st.none() | st.lists(st.text("ab*", min_size=1, max_size=5), max_size=5),
    st.none() | st.floats(1.0, 1e9),
)
def test_a_token_that_is_made_says_what_was_asked_for(
    user: str, read: list[str] | None, write: list[str] | None, expires_in: float | None
) -> None:
    found = KEYS.verify(make_token(SIGN, user, read=read, write=write, expires_in=expires_in, now=NOW), NOW)
    assert found.user == found.author == user
    if read is None and write is None:
        assert (found.read, found.write) == (EVERY_ROOM, EVERY_ROOM)
    else:
        assert (found.read, found.write) == (Patterns(read or ()), Patterns(write or ()))
    if expires_in is None:
        assert found.expires is None
    else:
        assert found.expires is not None
        assert expires_in <= found.expires - NOW < expires_in + 1.0


@pytest.mark.parametrize(
    ("authorization", "query", "token"),
    [
        (None, [], None),
        ("", [], None),
        ("Bearer abc", [], "abc"),
        ("bearer  abc ", [], "abc"),
        ("BEARER abc", [], "abc"),
        ("Basic YTpi", [], None),
        ("Bearerabc", [], None),
        (None, [("token", "abc"), ("since", "x")], "abc"),
        (None, [("Token", "abc")], None),
        (None, [("token", "")], None),
        ("Basic YTpi", [("token", "abc")], "abc"),
        ("Bearer abc", [("token", "abc"), ("token", "abc")], "abc"),
        ("Bearer abc", [("token", "")], "abc"),
        ("Bearer a b", [], "a b"),
    ],
)
def test_a_token_is_in_the_header_or_in_the_query(
    authorization: str | None, query: list[tuple[str, str]], token: str | None
) -> None:
    assert token_from(authorization, query) == token


@pytest.mark.parametrize(
    ("authorization", "query", "message"),
    [
        ("Bearer", [], "the header Authorization: Bearer lacks its token"),
        ("Bearer  ", [("token", "abc")], "the header Authorization: Bearer lacks its token"),
        (
            "Bearer abc",
            [("token", "abd")],
            "the request has two different tokens; send one, in Authorization or in the query",
        ),
        (
            None,
            [("token", "abc"), ("token", "abd")],
            "the request has two different tokens; send one, in Authorization or in the query",
        ),
    ],
)
def test_two_tokens_or_half_a_header_are_refused(
    authorization: str | None, query: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(ChatError) as refused:
        token_from(authorization, query)
    assert (refused.value.reason, refused.value.message) == (Reason.BAD_REQUEST, message)
