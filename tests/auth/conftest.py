"""Keys of every kind in files, made once: RSA keys take a while."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


@pytest.fixture(scope="session")
def private_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with a PEM private key, by algorithm."""
    directory = tmp_path_factory.mktemp("private")
    keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    files = {}
    for algorithm, key in keys.items():
        files[algorithm] = path = directory / f"{algorithm}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
    return files


@pytest.fixture(scope="session")
def public_files(private_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with the PEM public keys that belong to them, by algorithm."""
    directory = tmp_path_factory.mktemp("public")
    files = {}
    for algorithm, private in private_files.items():
        public = load_pem_private_key(private.read_bytes(), None).public_key()
        files[algorithm] = path = directory / f"{algorithm}.pem"
        path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return files


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file with a secret of 64 characters as openssl writes it: with a newline."""
    path = tmp_path / "secret"
    path.write_text("Zr0qUnSdQmVUj8l5nPzT1vT8cX0kE3bJ4yH6wG2aL9sD7fR5tK1mN3oP8iU6eW4q\n", encoding="ascii")
    path.chmod(0o600)
    return path
