"""PEM files of a directory, and which certificates, private keys and intermediates in them belong together.

What belongs together is found by the public key and by who signed what, never by file names: certbot's ``live/NAME/``,
a flat directory of pairs, and files that hold a certificate and its key are all the same here.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".key"})
MAX_DEPTH: Final = 3
"""Folders below the directory that are looked into: what Caddy and certbot need, and an end for links in a circle."""
MAX_ENTRIES: Final = 10_000
"""Entries looked at; a directory with more is not one of certificates."""
MAX_BYTES: Final = 1 << 20
"""The largest file that is read."""
MAX_CHAIN: Final = 8

Files = dict[Path, tuple[int, ...] | str]
"""What `list_files` found: what changes when a file does, or why it cannot be looked at."""

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_SENSELESS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for a certificate or key that it can make no sense of."""


class PemError(Exception):
    """What is wrong with a file or directory, in a few words that do not repeat its name."""


@dataclass(frozen=True, slots=True)
class PemFile:
    """The certificates and private keys of one file, in the order in which it has them."""

    path: Path
    certificates: tuple[x509.Certificate, ...]
    keys: tuple[PrivateKeyTypes, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its private key, and the intermediates up to its root, which clients have themselves."""

    path: Path
    certificate: x509.Certificate
    key: PrivateKeyTypes
    chain: tuple[x509.Certificate, ...]


def list_files(directory: Path) -> Files:
    """Every file that may hold certificates or keys. Raises `PemError` where `directory` cannot be listed."""
    found: Files = {}
    folders = [(directory, 0)]
    entries = 0
    while folders:
        folder, depth = folders.pop()
        try:
            content = sorted(folder.iterdir())
        except OSError as error:
            if folder == directory:
                raise PemError(_reason(error)) from error
            found[folder] = _reason(error)
            continue
        entries += len(content)
        if entries > MAX_ENTRIES:
            raise PemError(f"more than {MAX_ENTRIES:,} files and folders, so it is hardly one of certificates")
        for path in content:
            # Kubernetes keeps the files of one generation in a folder ..2026_11_22; links without dots lead there.
            if path.name.startswith("."):
                continue
            is_pem = path.suffix.lower() in SUFFIXES
            try:
                status = path.stat()
            except OSError as error:
                if is_pem:
                    found[path] = _reason(error)
                continue
            if stat.S_ISDIR(status.st_mode):
                if depth < MAX_DEPTH:
                    folders.append((path, depth + 1))
            elif is_pem and stat.S_ISREG(status.st_mode):
                # st_ctime_ns: permissions that change make a file readable without touching its content.
                found[path] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    return found


def read_pem(path: Path) -> PemFile:
    """The file's certificates and keys. Raises `PemError` where it is unreadable, incomplete, encrypted or empty.

    Other blocks (``EC PARAMETERS``, certificate requests) and text between the blocks are passed over.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PemError(_reason(error)) from error
    if len(data) > MAX_BYTES:
        raise PemError(f"larger than {MAX_BYTES:,} bytes")
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(data)]
    if data.count(b"-----BEGIN ") != len(blocks):
        raise PemError("cut off, or still being written")
    if not blocks:
        raise PemError("no PEM in it (DER is turned into PEM by: openssl x509 -inform der)")
    certificates = []
    keys = []
    for label, block in blocks:
        try:
            if label == b"CERTIFICATE":
                certificate = x509.load_pem_x509_certificate(block)
                # Both parse what loading leaves alone: what is wrong comes out here, where the file is known.
                names(certificate)
                _fingerprint(certificate.public_key())
                certificates.append(certificate)
            elif label.endswith(b"PRIVATE KEY"):
                if label.startswith(b"ENCRYPTED") or b"\nProc-Type: 4,ENCRYPTED" in block:
                    raise PemError("the private key is encrypted (decrypted by: openssl pkey -in FILE -out NEWFILE)")
                keys.append(load_pem_private_key(block, password=None))
        except _SENSELESS as error:
            raise PemError(f"its {label.decode().lower()} is not readable: {error}") from error
    return PemFile(path, tuple(certificates), tuple(keys))


def pair_up(files: Iterable[PemFile], now: datetime) -> tuple[list[Pair], dict[Path, str]]:
    """The usable pairs, and what is wrong with files whose key or certificate has no counterpart.

    A certificate that may sign others and has no key is an intermediate or a root, and nothing is wrong with it.
    """
    # Longest first: of certbot's cert.pem and fullchain.pem, which begin alike, the one that says its chain.
    ordered = sorted(files, key=lambda file: (-len(file.certificates), file.path))
    everything = [certificate for file in ordered for certificate in file.certificates]
    keys = {_fingerprint(key.public_key()): (key, file.path) for file in reversed(ordered) for key in file.keys}
    unmatched = {fingerprint: path for fingerprint, (_, path) in keys.items()}
    pairs: dict[x509.Certificate, Pair] = {}
    problems: dict[Path, str] = {}
    for file in ordered:
        for certificate in file.certificates:
            fingerprint = _fingerprint(certificate.public_key())
            if fingerprint in keys:
                unmatched.pop(fingerprint, None)
                if certificate not in pairs:
                    chain = _chain(certificate, [*file.certificates, *everything], now)
                    pairs[certificate] = Pair(file.path, certificate, keys[fingerprint][0], chain)
            elif not is_authority(certificate):
                problems[file.path] = f"no private key here fits the certificate of {', '.join(names(certificate))}"
    problems |= dict.fromkeys(unmatched.values(), "its private key fits no certificate here")
    return list(pairs.values()), problems


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses, in lower case; the common name where there are none of either."""
    found: list[str] = []
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        found += alternatives.get_values_for_type(x509.DNSName)
        found += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    if not found:
        found = [str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in found if name.strip(".")))


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it is meant to sign other certificates."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _chain(
    certificate: x509.Certificate, pool: Sequence[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    """Return the intermediates up to the root; of several with one key a valid one, first that of the own file."""
    chain: list[x509.Certificate] = []
    while len(chain) < MAX_CHAIN:
        last = chain[-1] if chain else certificate
        issuers = [each for each in pool if each not in chain and _signed(last, each)]
        if not issuers:
            break
        chain.append(max(issuers, key=lambda each: each.not_valid_before_utc <= now < each.not_valid_after_utc))
    return tuple(chain)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` is the intermediate that signed `certificate`. Roots are not sent: clients have their own."""
    if certificate.issuer != issuer.subject or issuer.subject == issuer.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_SENSELESS, InvalidSignature):
        return False
    return True


def _fingerprint(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
