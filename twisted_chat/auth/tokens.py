"""Tokens: JSON Web Tokens (RFC 7519) that say who a client is, verified by the keys of this server."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import jwt

from twisted_chat.auth.claims import Claims, identity, invalid
from twisted_chat.auth.keys import SigningKey, VerificationKey, verification_keys
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.permissions import Identity

if TYPE_CHECKING:
    from jwt.types import Options  # PyJWT 2.10 does not have it yet

LONGEST_TOKEN: Final = 8_192


class TokenKeys:
    """The keys that the tokens of this server's clients are signed with."""

    def __init__(self, keys: Sequence[VerificationKey], audience: str | None = None) -> None:
        self._keys = tuple(keys)
        self._audience = audience

    def __repr__(self) -> str:
        return f"<TokenKeys: {', '.join(key.algorithm for key in self._keys)}>"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], audience: str | None = None) -> TokenKeys:
        """The keys in the file at `path`: a PEM public key, a JWK set, or else a secret of 32 bytes or more.

        `audience`: what the claim ``aud`` must name; None: a token may not have one. Raises `KeyFileError`.
        """
        return cls(verification_keys(path), audience)

    def verify(self, token: str, now: float) -> Identity:
        """Who a token is about, at `now` (Unix seconds).

        Raises `ChatError` (`Reason.TOKEN_INVALID` or `Reason.TOKEN_EXPIRED`) that says what is wrong with it, but does
        not repeat it.
        """
        _check_length(token)
        return identity(self._claims(token), now, self._audience)

    def _claims(self, token: str) -> Claims:
        header = _header(token)
        for key in self._candidates(header):
            try:
                # Only the signature: the claims are checked against `now`, which PyJWT would take from the clock.
                return jwt.decode(token, key.material, algorithms=[key.algorithm], options=_ONLY_SIGNATURE)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, RecursionError):
                raise invalid("the token is signed, but its claims are not a JSON object") from None
        raise invalid("the token's signature is not by a key of this server")

    def _candidates(self, header: Mapping[str, object]) -> list[VerificationKey]:
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        if not fitting:
            right = " or ".join(sorted({key.algorithm for key in self._keys}))
            raise invalid(f"the token must be signed with {right}")
        named = [key for key in fitting if kid is None or key.kid is None or key.kid == kid]
        if not named:
            raise invalid("the token is signed with a key (kid) that this server does not have")
        return named


_ONLY_SIGNATURE: Final[Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def make_token(
    key: SigningKey,
    user: str,
    *,
    now: float,
    expires_in: float | None = None,
    handle: str | None = None,
    read: Sequence[str] | None = None,
    write: Sequence[str] | None = None,
    audience: str | None = None,
) -> str:
    """A token for `user`, good from `now` (Unix seconds) for `expires_in` seconds (None: for ever).

    `read` and `write` are room patterns; with neither, every room may be read and written; with one of them only that
    is allowed. Raises `ChatError` as `TokenKeys.verify` would, rather than make a token that is refused.
    """
    claims: dict[str, object] = {"sub": user, "iat": math.floor(now)}
    if expires_in is not None:
        claims["exp"] = math.ceil(now + expires_in)
    if audience is not None:
        claims["aud"] = audience
    if handle is not None:
        claims["info"] = {"handle": handle}
    rooms = {name: list(patterns) for name, patterns in (("read", read), ("write", write)) if patterns is not None}
    if rooms:
        claims["rooms"] = rooms
    identity(claims, now, audience)
    token = jwt.encode(claims, key.material, algorithm=key.algorithm)
    _check_length(token)
    return token


def token_from(authorization: str | None, query: Iterable[tuple[str, str]]) -> str | None:
    """The token of a request: from ``Authorization: Bearer …``, or from ``token=…`` in the query.

    `query` is as `urllib.parse.parse_qsl` makes it. Other kinds of authorization are not for us: a proxy in front may
    ask for them. Raises `ChatError` (`Reason.BAD_REQUEST`) when there are two different tokens, or ``Bearer`` alone.
    """
    tokens = {value for name, value in query if name == "token" and value}
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        credentials = credentials.strip()
        if not credentials:
            raise ChatError(Reason.BAD_REQUEST, "the header Authorization: Bearer lacks its token")
        tokens.add(credentials)
    if len(tokens) > 1:
        raise ChatError(
            Reason.BAD_REQUEST, "the request has two different tokens; send one, in Authorization or in the query"
        )
    return tokens.pop() if tokens else None


def _check_length(token: str) -> None:
    if len(token) > LONGEST_TOKEN:
        raise invalid(f"a token may have {LONGEST_TOKEN} characters, this one has {len(token)}")


def _header(token: str) -> Mapping[str, object]:
    malformed = "the token is not a JSON Web Token: three parts of base64url with dots between them"
    if not token.isascii():
        raise invalid(malformed)
    try:
        return jwt.get_unverified_header(token)
    except (jwt.DecodeError, RecursionError):
        raise invalid(malformed) from None
    except jwt.PyJWTError:
        raise invalid("the header of the token has a kid or crit that is not understood") from None
