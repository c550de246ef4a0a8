from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from twisted.logger import LogLevel, capturedLogs, formatEvent

from twisted_chat.auth.files import KeyFileError
from twisted_chat.auth.keys import SigningKey, VerificationKey, verification_keys

ALGORITHMS = pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
SECRET = b"hush" * 8
TO_JWK: dict[str, Callable[..., Any]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


def write(directory: Path, content: bytes | str | object) -> Path:
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path = directory / "key-file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


def pem(key: Any) -> bytes:
    public: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


def jwk(public_file: Path, **members: object) -> dict[str, object]:
    key = load_pem_public_key(public_file.read_bytes())
    public: dict[str, object] = TO_JWK[public_file.stem](key, as_dict=True)
    return public | members


def secret_jwk(secret: bytes = SECRET, **members: object) -> dict[str, object]:
    return {"kty": "oct", "k": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(), **members}


def refusal(path: Path, load: Callable[[Path], object] = verification_keys) -> str:
    """What is wrong with a file, without the beginning, which names it."""
    with pytest.raises(KeyFileError) as refused:
        load(path)
    line = str(refused.value)
    assert "\n" not in line
    assert "hush" not in line
    assert line.startswith(f"the key file {path} ")
    return line.removeprefix(f"the key file {path} ")


@ALGORITHMS
def test_a_pem_public_key_fixes_the_algorithm(public_files: dict[str, Path], algorithm: str) -> None:
    (key,) = verification_keys(public_files[algorithm])
    assert (key.algorithm, key.kid) == (algorithm, None)


@ALGORITHMS
def test_a_pem_private_key_signs(private_files: dict[str, Path], algorithm: str) -> None:
    assert SigningKey.from_file(private_files[algorithm]).algorithm == algorithm


def test_anything_else_is_a_secret(tmp_path: Path) -> None:
    path = write(tmp_path, b"  " + SECRET + b"\r\n")
    assert verification_keys(path) == (VerificationKey("HS256", SECRET),)
    assert SigningKey.from_file(path) == SigningKey("HS256", SECRET)


def test_keys_do_not_show() -> None:
    for key in (VerificationKey("HS256", SECRET, "k"), SigningKey("HS256", SECRET)):
        assert "hush" not in repr(key)


@ALGORITHMS
def test_a_server_takes_no_private_key(private_files: dict[str, Path], algorithm: str) -> None:
    path = private_files[algorithm]
    assert refusal(path) == (
        f"has a private key; give the server its public half only: openssl pkey -in {path} -pubout -out public.pem"
    )


def test_old_forms_of_private_keys_are_known_too(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert b"BEGIN EC PRIVATE KEY" in traditional
    path = write(tmp_path, traditional)
    assert refusal(path).startswith("has a private key")
    assert SigningKey.from_file(path).algorithm == "ES256"
    openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert refusal(write(tmp_path, openssh)).startswith("has a private key")


@ALGORITHMS
def test_a_public_key_cannot_sign(public_files: dict[str, Path], algorithm: str) -> None:
    line = refusal(public_files[algorithm], SigningKey.from_file)
    assert line == "has a public key, which cannot sign; give the private key that belongs to it"


def test_an_encrypted_key_has_to_be_decrypted_first(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    path = write(tmp_path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"p")))
    line = refusal(path, SigningKey.from_file)
    assert line == f"is encrypted; decrypt it first: openssl pkey -in {path} -out private.pem"


def test_a_certificate_is_no_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, moment, moment)
    path = write(tmp_path, builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    assert refusal(path) == (
        f"has a certificate; give the server its public key: openssl x509 -in {path} -pubkey -noout > public.pem"
    )


def test_short_secrets_are_refused_with_a_way_to_make_one(tmp_path: Path) -> None:
    expected = "has a secret of {} bytes, and 32 are the least; make one: openssl rand -base64 48"
    for load in (verification_keys, SigningKey.from_file):
        assert refusal(write(tmp_path, SECRET[:-1] + b"\n"), load) == expected.format(31)
        assert refusal(write(tmp_path, b""), load) == expected.format(0)


def test_public_keys_in_other_forms_are_no_secrets(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    refuse_as_no_secret(write(tmp_path, key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)))
    refuse_as_no_secret(write(tmp_path, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))


@pytest.mark.parametrize("last", [b"\n", b"\r", b" ", b"\t"])
def test_a_binary_public_key_that_ends_like_a_line_is_no_secret(tmp_path: Path, last: bytes) -> None:
    # Its last bytes, which any may be. Without one it would be no key any more, but a secret that everyone knows.
    beginning = ed25519.Ed25519PrivateKey.generate().public_key()
    der = beginning.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[:-1] + last
    assert load_der_public_key(der), "it is one"
    refuse_as_no_secret(write(tmp_path, der))


def refuse_as_no_secret(path: Path) -> None:
    expected = "has a key in a form that is not taken (PEM and JWK sets are), and that cannot be a secret"
    assert refusal(path).startswith(expected)
    assert refusal(path, SigningKey.from_file).startswith(expected)


def test_a_binary_secret_is_taken_as_it_is(tmp_path: Path) -> None:
    secret = bytes(range(32, 64)) + b"\x00 \n"
    assert [key.material for key in verification_keys(write(tmp_path, secret))] == [secret]
    assert SigningKey.from_file(write(tmp_path, secret)).material == secret


@pytest.mark.parametrize("content", ["-----BEGIN PUBLIC KEY-----\nhush\n-----END PUBLIC KEY-----", "-----BEGIN HUSH"])
def test_a_broken_pem_file_is_no_secret(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content + " " * 40 + "x" * 40)
    assert refusal(path) == "is not a PEM public key that can be read; it begins with -----BEGIN PUBLIC KEY-----"
    assert refusal(path, SigningKey.from_file).startswith("has a public key")


def test_a_broken_private_key_cannot_sign(tmp_path: Path) -> None:
    path = write(tmp_path, "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----")
    line = refusal(path, SigningKey.from_file)
    assert line == "is not a PEM private key that can be read; it begins with -----BEGIN PRIVATE KEY-----"


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    kinds = "has a key of another kind; RSA, EC on the curve P-256, and Ed25519 are taken"
    weak: dict[str, Any] = {
        kinds: ed448.Ed448PrivateKey.generate(),
        "has an EC key on the curve secp384r1; P-256 is taken": ec.generate_private_key(ec.SECP384R1()),
        "has an RSA key of 1024 bits, and 2048 are the least": rsa.generate_private_key(65537, 1024),
    }
    for line, key in weak.items():
        assert refusal(write(tmp_path, pem(key.public_key()))) == line
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert refusal(write(tmp_path, private), SigningKey.from_file) == line
    numbers = dsa.generate_private_key(1024).public_key()
    assert refusal(write(tmp_path, pem(numbers))) == kinds


def test_a_jwk_set_has_several_keys(tmp_path: Path, public_files: dict[str, Path]) -> None:
    document = {
        "keys": [
            *(jwk(path, kid=algorithm, use="sig") for algorithm, path in public_files.items()),
            secret_jwk(kid="secret", alg="HS256"),
        ]
    }
    with capturedLogs() as events:
        keys = verification_keys(write(tmp_path, document))
    assert [(key.algorithm, key.kid) for key in keys] == [
        ("RS256", "RS256"),
        ("ES256", "ES256"),
        ("EdDSA", "EdDSA"),
        ("HS256", "secret"),
    ]
    assert keys[3].material == SECRET
    assert events == []


def test_one_jwk_alone_is_taken_like_a_set(tmp_path: Path, public_files: dict[str, Path]) -> None:
    (key,) = verification_keys(write(tmp_path, jwk(public_files["ES256"], kid="1")))
    assert (key.algorithm, key.kid) == ("ES256", "1")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("hush", "is not an object"),
        ({}, "has a kty other than RSA, EC, OKP and oct"),
        ({"kty": ["RSA"]}, "has a kty other than RSA, EC, OKP and oct"),
        ({"kty": "AKP", "alg": "ML-DSA-44"}, "has a kty other than RSA, EC, OKP and oct"),
        (secret_jwk(alg="HS512"), "has an alg other than HS256"),
        (secret_jwk(alg="RS256"), "has an alg other than HS256"),
        ({"kty": "RSA", "alg": "HS256"}, "has an alg other than RS256"),
        (secret_jwk(use="enc"), "is not for signatures (use)"),
        (secret_jwk(kid=7), "has a kid that is not text"),
        ({"kty": "oct"}, "cannot be read"),
        ({"kty": "oct", "k": 5}, "cannot be read"),
        ({"kty": "RSA", "n": "hush"}, "cannot be read"),
        ({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, "cannot be read"),
        ({"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}, "cannot be read"),
        ({"kty": "OKP", "crv": "X25519", "x": "A" * 43}, "cannot be read"),
        (secret_jwk(b"short"), "has a secret of 5 bytes, and 32 are the least"),
    ],
)
def test_what_cannot_be_used_of_a_set_is_left_out_and_logged(tmp_path: Path, entry: object, reason: str) -> None:
    path = write(tmp_path, {"keys": [secret_jwk(), entry]})
    with capturedLogs() as events:
        keys = verification_keys(path)
    assert [key.material for key in keys] == [SECRET]
    (event,) = events
    assert event["log_level"] is LogLevel.warn
    assert formatEvent(event) == f"{path}: key 1 of the set is left out: it {reason}"
    line = "has no key that can be used; RS256, ES256 (P-256), EdDSA (Ed25519) and HS256 are taken"
    assert refusal(write(tmp_path, {"keys": [entry]})) == line


def test_weak_keys_of_a_set_are_left_out(tmp_path: Path) -> None:
    weak = [
        RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True),
        ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
        OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True),
    ]
    with capturedLogs() as events:
        keys = verification_keys(write(tmp_path, {"keys": [*weak, secret_jwk()]}))
    assert [key.algorithm for key in keys] == ["HS256"]
    assert len(events) == 3


@ALGORITHMS
def test_a_set_with_a_private_key_is_refused(tmp_path: Path, public_files: dict[str, Path], algorithm: str) -> None:
    path = write(tmp_path, {"keys": [secret_jwk(), jwk(public_files[algorithm], d="hush")]})
    assert refusal(path) == "has a private key; give the server the public keys only, without the member d"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            '{"keys": [{"kty": "oct", "k": "hush',
            "begins like a JWK set, but is not JSON (no secret may begin with { or [)",
        ),
        ("[" * 100_000, "begins like a JWK set, but is not JSON (no secret may begin with { or [)"),
        ("{" + "hush" * 10, "begins like a JWK set, but is not JSON (no secret may begin with { or [)"),
        ([secret_jwk()], 'is JSON, but no JWK set: {"keys": [...]}'),
        ({"keys": secret_jwk()}, 'is JSON, but no JWK set: {"keys": [...]}'),
        ({"hush": []}, 'is JSON, but no JWK set: {"keys": [...]}'),
        ({"keys": []}, "has no key that can be used; RS256, ES256 (P-256), EdDSA (Ed25519) and HS256 are taken"),
        ({"keys": [secret_jwk()] * 65}, "has 65 keys, and 64 are the most"),
    ],
)
def test_what_begins_like_json_must_be_a_set(tmp_path: Path, content: object, line: str) -> None:
    assert refusal(write(tmp_path, content)) == line


def test_a_set_cannot_sign(tmp_path: Path) -> None:
    line = refusal(write(tmp_path, {"keys": [secret_jwk()]}), SigningKey.from_file)
    assert line == "is JSON, which tokens are only verified with; sign with a secret or a PEM private key"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
def test_only_secrets_have_to_be_private(tmp_path: Path, public_files: dict[str, Path]) -> None:
    def lines(content: object) -> list[str]:
        path = write(tmp_path, content)
        path.chmod(0o644)
        with capturedLogs() as events:
            verification_keys(path)
        return [formatEvent(event) for event in events]

    assert lines(public_files["ES256"].read_bytes()) == []
    assert lines({"keys": [jwk(public_files["ES256"])]}) == []
    for content in (SECRET, {"keys": [secret_jwk()]}):
        (line,) = lines(content)
        assert re.match("every user of this machine can read the secret in .*; make it private: chmod 600 ", line)
