"""Certificates that are ready for handshakes; of several for one name each client is served one that it can use."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions

from twisted_chat.core.address import is_address
from twisted_chat.server.tls.alpn import select_protocol
from twisted_chat.server.tls.pem import Pair, is_authority, names

# Forward secret AEAD suites only, so nothing that RFC 9113 appendix A forbids; those of TLS 1.3 are all of that kind.
_CIPHERS: Final = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")

_NO_ISSUER: Final = 20
"""X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, verify(1)."""

ContextForName = Callable[[bytes | None], SSL.Context | None]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A certificate with its key and the chain that is sent with it."""

    identity: bytes
    pair: Pair
    names: tuple[str, ...]
    authority: bool
    missing: str | None
    """The issuer that no client is sent and this system does not know as a root: clients may not know it either."""

    @classmethod
    def of(cls, pair: Pair) -> Served:
        """Describe `pair`. Raises what OpenSSL does for a certificate or key that it refuses."""
        _check(pair)
        certificate = pair.certificate
        return cls(
            identity=identity_of(pair),
            pair=pair,
            names=names(certificate) or (pair.path.name,),
            authority=is_authority(certificate),
            missing=_missing_issuer(pair.chain[-1] if pair.chain else certificate),
        )

    @property
    def path(self) -> Path:
        return self.pair.path

    @property
    def kind(self) -> str:
        """The kind of its key: OpenSSL keeps one certificate of each, and chooses by what a client can verify."""
        return type(self.pair.key).__name__

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Itself, then its chain."""
        return (self.pair.certificate, *self.pair.chain)

    @property
    def not_before(self) -> datetime:
        return self.pair.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.pair.certificate.not_valid_after_utc

    @property
    def expires(self) -> datetime:
        """When clients begin to refuse it: the first end of a certificate in its chain."""
        return min(each.not_valid_after_utc for each in self.certificates)

    def valid(self, now: datetime) -> bool:
        return self.not_before <= now < self.not_after

    def rank(self, now: datetime) -> tuple[bool, bool, bool, datetime, datetime, bytes]:
        """Of several for one name the highest is served: a valid one, of those the one issued last."""
        return (self.valid(now), now < self.expires, not self.authority, self.not_before, self.not_after, self.identity)

    def default_rank(self, now: datetime) -> tuple[bool, bool, bool, tuple[str, ...]]:
        """The lowest is the default. Who connects to an address sends no name, so one that has addresses suits best."""
        return (not self.valid(now), self.authority, not any(map(is_address, self.names)), self.names)


class Choice:
    """The certificates for one name, of different kinds of keys, the best first; and the context that has all."""

    __slots__ = ("identities", "options", "served")

    def __init__(self, served: Sequence[Served], context_for_name: ContextForName) -> None:
        self.served: Final = tuple(served)
        self.identities: Final = tuple(each.identity for each in served)
        first = served[0].pair
        self.options: Final = CertificateOptions(
            # Twisted's annotations name pyOpenSSL's own types, which pyOpenSSL deprecates in favour of these.
            privateKey=first.key,  # type: ignore[arg-type]
            certificate=first.certificate,  # type: ignore[arg-type]
            acceptableCiphers=_CIPHERS,
            acceptableProtocols=[b"http/1.1"],
            enableSessionTickets=True,
            contextForServerName=context_for_name,
        )
        # Made and kept now: nothing of it can be changed after the first connection.
        context = self.options.getContext()
        context.set_alpn_select_callback(select_protocol)
        for each in served:
            _install(context, each.pair)

    @property
    def expires(self) -> datetime:
        return min(each.expires for each in self.served)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What is served for which name; a reload makes another one and leaves this as it is."""

    names: Mapping[str, Choice]
    default: Choice

    def same_as(self, other: Snapshot) -> bool:
        mine, theirs = ({name: each.identities for name, each in one.names.items()} for one in (self, other))
        return mine == theirs and self.default.identities == other.default.identities

    def served(self) -> Iterator[Served]:
        """Give each certificate that is in use, once."""
        found = {each.identity: each for choice in (self.default, *self.names.values()) for each in choice.served}
        yield from found.values()


def choose(candidates: Iterable[Served], now: datetime, context_for_name: ContextForName) -> Snapshot:
    """Take the best of each kind for each name; a kind whose best is not valid only where no other kind is."""
    best: dict[str, dict[str, Served]] = {}
    for each in candidates:
        for name in each.names:
            kinds = best.setdefault(name, {})
            known = kinds.get(each.kind)
            if known is None or each.rank(now) > known.rank(now):
                kinds[each.kind] = each
    made: dict[tuple[bytes, ...], Choice] = {}

    def choice(kinds: Iterable[Served]) -> Choice:
        ranked = sorted(kinds, key=lambda each: (each.rank(now)[:3], _is_elliptic(each), each.rank(now)), reverse=True)
        usable = [each for each in ranked if each.rank(now)[:3] == ranked[0].rank(now)[:3]]
        key = tuple(each.identity for each in usable)
        if key not in made:
            made[key] = Choice(usable, context_for_name)
        return made[key]

    chosen = {name: choice(kinds.values()) for name, kinds in best.items()}
    return Snapshot(chosen, min(chosen.values(), key=lambda each: each.served[0].default_rank(now)))


def identity_of(pair: Pair) -> bytes:
    """Return a digest of the certificate and its chain."""
    digest = sha256()
    for certificate in (pair.certificate, *pair.chain):
        digest.update(certificate.public_bytes(Encoding.DER))
    return digest.digest()


def _is_elliptic(served: Served) -> bool:
    """Whether it is one of the cheaper ones, which a client gets that can use both."""
    return isinstance(served.pair.key, ec.EllipticCurvePrivateKey)


def _check(pair: Pair) -> None:
    """Raise what OpenSSL raises for a pair that it does not take: that must not come up in a handshake."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(pair.certificate)
    context.use_privatekey(pair.key)  # type: ignore[arg-type]  # TypeError for kinds that are not for TLS
    context.check_privatekey()


def _install(context: SSL.Context, pair: Pair) -> None:
    """Add a pair with a chain of its own; the chain that pyOpenSSL can add otherwise is one for all pairs."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(b"".join(each.public_bytes(Encoding.PEM) for each in (pair.certificate, *pair.chain)))
        file.flush()
        context.use_certificate_chain_file(file.name)
    context.use_privatekey(pair.key)  # type: ignore[arg-type]  # as above; it was checked


def _missing_issuer(last: x509.Certificate) -> str | None:
    """Return who issued the end of a chain, if that is no root which this system knows."""
    roots = _system_roots()
    if last.issuer == last.subject or roots is None:
        return None
    try:
        crypto.X509StoreContext(roots, crypto.X509.from_cryptography(last)).verify_certificate()
    except crypto.X509StoreContextError as error:
        if error.errors[0] == _NO_ISSUER:
            return last.issuer.rfc4514_string()
    return None


@cache
def _system_roots() -> crypto.X509Store | None:
    """Return the roots that programs on this system trust; None where it has none to compare with."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        return None
    store = crypto.X509Store()
    try:
        store.load_locations(paths.cafile, paths.capath)
    except crypto.Error:
        return None
    return store
