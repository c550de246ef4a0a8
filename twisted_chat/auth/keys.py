"""The keys that tokens are verified and signed with, from the files that hold them.

A file's content decides what it is: PEM, JSON (a JWK set, RFC 7517), or else a secret. The key fixes the
algorithm (RFC 8725 section 3.1): RSA is RS256, EC on P-256 is ES256, Ed25519 is EdDSA, a secret is HS256. What a token
says about itself never chooses one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from twisted.logger import Logger

from twisted_chat.auth.files import KeyFile

SHORTEST_SECRET: Final = 32
"""Bytes: as many as the hash of HS256 has (RFC 7518 section 3.2)."""
SHORTEST_RSA: Final = 2_048
MOST_KEYS: Final = 64

_log = Logger()

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """What tokens are verified with. `kid` None: tokens need not name it."""

    algorithm: str
    material: PublicKey | bytes = field(repr=False)
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What tokens are signed with."""

    algorithm: str
    material: PrivateKey | bytes = field(repr=False)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> SigningKey:
        """The secret or PEM private key in the file at `path`; raises `KeyFileError`."""
        file = KeyFile.read(path)
        if _is_json(file):
            file.refuse("is JSON, which tokens are only verified with; sign with a secret or a PEM private key")
        if not _is_pem(file):
            return cls("HS256", _secret(file))
        if not _is_private_pem(file):
            file.refuse("has a public key, which cannot sign; give the private key that belongs to it")
        file.warn_if_exposed()
        key = _private_key(file)
        return cls(_algorithm_or_refuse(file, key), key)


def verification_keys(path: str | os.PathLike[str]) -> tuple[VerificationKey, ...]:
    """The keys in the file at `path`, one or more; raises `KeyFileError`."""
    file = KeyFile.read(path)
    if _is_json(file):
        return tuple(_jwk_set(file))
    if _is_pem(file):
        key = _public_key(file)
        return (VerificationKey(_algorithm_or_refuse(file, key), key),)
    return (VerificationKey("HS256", _secret(file)),)


def _is_json(file: KeyFile) -> bool:
    # Also what only begins like JSON: half of a public JWK set must not become a secret.
    return file.content.startswith((b"{", b"["))


def _is_pem(file: KeyFile) -> bool:
    return b"-----BEGIN " in file.content


def _is_private_pem(file: KeyFile) -> bool:
    return b"PRIVATE KEY-----" in file.content


def _secret(file: KeyFile) -> bytes:
    if problem := _secret_problem(file.content):
        file.refuse(f"{problem}; make one: openssl rand -base64 48")
    file.warn_if_exposed()
    return file.content


def _secret_problem(secret: bytes) -> str | None:
    if len(secret) < SHORTEST_SECRET:
        return f"has a secret of {len(secret)} bytes, and {SHORTEST_SECRET} are the least"
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError:
        # An SSH or DER key: who knows a public one could sign tokens with it.
        return "has a key in a form that is not taken (PEM and JWK sets are), and that cannot be a secret"
    return None


def _public_key(file: KeyFile) -> PublicKey:
    if _is_private_pem(file):
        file.refuse(
            "has a private key; give the server its public half only: "
            f"openssl pkey -in {file.path} -pubout -out public.pem"
        )
    if b"-----BEGIN CERTIFICATE-----" in file.content:
        file.refuse(
            "has a certificate; give the server its public key: "
            f"openssl x509 -in {file.path} -pubkey -noout > public.pem"
        )
    try:
        key = load_pem_public_key(file.content)
    except (ValueError, UnsupportedAlgorithm):
        file.refuse("is not a PEM public key that can be read; it begins with -----BEGIN PUBLIC KEY-----")
    if not isinstance(key, PublicKey):
        file.refuse(_OTHER_KIND)
    return key


def _private_key(file: KeyFile) -> PrivateKey:
    try:
        key = load_pem_private_key(file.content, password=None)
    except TypeError:
        file.refuse(f"is encrypted; decrypt it first: openssl pkey -in {file.path} -out private.pem")
    except (ValueError, UnsupportedAlgorithm):
        file.refuse("is not a PEM private key that can be read; it begins with -----BEGIN PRIVATE KEY-----")
    if not isinstance(key, PrivateKey):
        file.refuse(_OTHER_KIND)
    return key


_OTHER_KIND: Final = "has a key of another kind; RSA, EC on the curve P-256, and Ed25519 are taken"


def _algorithm_or_refuse(file: KeyFile, key: PublicKey | PrivateKey) -> str:
    if problem := _problem(key):
        file.refuse(problem)
    return _algorithm(key)


def _algorithm(key: PublicKey | PrivateKey) -> str:
    if isinstance(key, RSAPublicKey | RSAPrivateKey):
        return "RS256"
    return "ES256" if isinstance(key, EllipticCurvePublicKey | EllipticCurvePrivateKey) else "EdDSA"


def _problem(key: PublicKey | PrivateKey) -> str | None:
    if isinstance(key, RSAPublicKey | RSAPrivateKey) and key.key_size < SHORTEST_RSA:
        return f"has an RSA key of {key.key_size} bits, and {SHORTEST_RSA} are the least"
    if isinstance(key, EllipticCurvePublicKey | EllipticCurvePrivateKey) and not isinstance(key.curve, SECP256R1):
        return f"has an EC key on the curve {key.curve.name}; P-256 is taken"
    return None


def _jwk_set(file: KeyFile) -> Iterator[VerificationKey]:
    try:
        document = json.loads(file.content)
    except (ValueError, RecursionError):
        file.refuse("begins like a JWK set, but is not JSON (no secret may begin with { or [)")
    if isinstance(document, dict) and "kty" in document:
        document = {"keys": [document]}
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        file.refuse('is JSON, but no JWK set: {"keys": [...]}')
    if len(entries) > MOST_KEYS:
        file.refuse(f"has {len(entries)} keys, and {MOST_KEYS} are the most")
    found = 0
    for index, entry in enumerate(entries):
        key = _jwk(file, entry)
        if isinstance(key, VerificationKey):
            found += 1
            yield key
        else:
            _log.warn(
                "{path}: key {index} of the set is left out: it {reason}", path=str(file.path), index=index, reason=key
            )
    if not found:
        file.refuse("has no key that can be used; RS256, ES256 (P-256), EdDSA (Ed25519) and HS256 are taken")


_ALGORITHM_OF_TYPE: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA", "oct": "HS256"}


def _jwk(file: KeyFile, entry: object) -> VerificationKey | str:
    """One key of a set, or why it is left out."""
    if not isinstance(entry, dict):
        return "is not an object"
    kind = entry.get("kty")
    algorithm = _ALGORITHM_OF_TYPE.get(kind) if isinstance(kind, str) else None
    kid = entry.get("kid")
    if algorithm is None:
        return "has a kty other than RSA, EC, OKP and oct"
    if entry.get("alg", algorithm) != algorithm:
        return f"has an alg other than {algorithm}"
    if entry.get("use", "sig") != "sig":
        return "is not for signatures (use)"
    if not isinstance(kid, str | None):
        return "has a kid that is not text"
    if kind != "oct" and "d" in entry:
        file.refuse("has a private key; give the server the public keys only, without the member d")
    try:
        # The exceptions' texts show the key.
        material = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return "cannot be read"
    if isinstance(material, bytes):
        file.warn_if_exposed()
        problem = _secret_problem(material)
    elif isinstance(material, PublicKey):
        problem = _problem(material)
    else:
        problem = _OTHER_KIND
    return problem or VerificationKey(algorithm, material, kid)
