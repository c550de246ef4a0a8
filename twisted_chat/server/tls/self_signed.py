"""A certificate for development, signed by itself: browsers warn of it once, all else is as in production."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkstemp
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from twisted_chat.server.tls import pem

FILE_NAME: Final = "self-signed.pem"
LIFETIME: Final = timedelta(days=30)
RENEW_BEFORE: Final = timedelta(days=15)
"""Left of its time when it is made anew: a day before `certificates.NEAR_EXPIRY` would complain about it."""


def development_names(host_name: str) -> tuple[str, ...]:
    """What a browser on this machine, or on its network, may call the server."""
    return tuple(dict.fromkeys(("localhost", host_name.lower(), "127.0.0.1", "::1")))


def make_self_signed(directory: Path, names: Iterable[str], now: datetime) -> None:
    """Make sure that `directory` holds a certificate for `names`, DNS names and addresses, that is good for a while.

    A suitable one from before is kept, so that a browser's exception for it stays good. Certificate and key are one
    file, readable by its owner only and replaced at once: processes that start together may all do this. Names that
    no certificate can carry are left out. Raises OSError where the directory cannot be made or written.
    """
    wanted = [name for name in map(_general_name, names) if name is not None]
    path = directory / FILE_NAME
    if _suitable(path, wanted, now):
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes it for the owner only, which os.replace keeps.
    descriptor, temporary = mkstemp(dir=directory, prefix=".", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_key_and_certificate(wanted, now))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _general_name(name: str) -> x509.GeneralName | None:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("idna").decode("ascii")) if name else None
    except ValueError:  # UnicodeError: a label that is empty, too long, or not for IDNA
        return None


def _suitable(path: Path, wanted: list[x509.GeneralName], now: datetime) -> bool:
    try:
        pairs, _ = pem.pair_up([pem.read_pem(path)], now)
    except pem.PemError:
        return False
    return any(
        pair.certificate.not_valid_before_utc <= now < pair.certificate.not_valid_after_utc - RENEW_BEFORE
        and set(wanted) <= set(_alternatives(pair.certificate))
        for pair in pairs
    )


def _alternatives(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()


def _key_and_certificate(names: list[x509.GeneralName], now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "twisted_chat development")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # for clocks that are late
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Firefox refuses a server's certificate that may sign others.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
