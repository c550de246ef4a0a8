"""The certificates that TLS endpoints serve: by the name that a client asks for, renewed without a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twisted_chat.core.address import is_address
from twisted_chat.server.tls.pem import Files, Pair, PemError, is_authority, list_files, names, pair_up, read_pem

INTERVAL: Final = 30.0
"""Seconds between two looks at the files."""
NEAR_EXPIRY: Final = timedelta(days=14)
ONE_DAY: Final = 86_400.0
MOST_PROBLEMS: Final = 5
"""Files that one error line names before it only counts them."""
LETS_ENCRYPT: Final = Path("/etc/letsencrypt/live")

# Forward secret AEAD suites only, so nothing that RFC 9113 appendix A forbids; those of TLS 1.3 are all of that kind.
_CIPHERS: Final = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")


class CertificateError(Exception):
    """No usable certificate: one line that names the place, what is wrong with each file, and what would be right."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A certificate ready for handshakes."""

    identity: bytes
    path: Path
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    authority: bool
    options: CertificateOptions

    def valid(self, now: datetime) -> bool:
        return self.not_before <= now < self.not_after

    def rank(self, now: datetime) -> tuple[bool, bool, datetime, datetime, bytes]:
        """Of several for one name the highest is served: a valid one, of those the one issued last."""
        return (self.valid(now), not self.authority, self.not_before, self.not_after, self.identity)

    def default_rank(self, now: datetime) -> tuple[bool, bool, bool, tuple[str, ...]]:
        """The lowest is the default. Who connects to an address sends no name, so one that has addresses suits best."""
        return (not self.valid(now), self.authority, not any(map(is_address, self.names)), self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What is served for which name; a reload makes another one and leaves this as it is."""

    names: Mapping[str, Served]
    default: Served

    def same_as(self, other: Snapshot) -> bool:
        mine, theirs = ({name: each.identity for name, each in one.names.items()} for one in (self, other))
        return mine == theirs and self.default.identity == other.default.identity


def utc_now() -> datetime:
    return datetime.now(UTC)


@implementer(IOpenSSLServerConnectionCreator)
class CertificateDirectory(Service):
    """The certificates of a directory, for `twisted.protocols.tls.TLSMemoryBIOFactory`.

    Loaded when made, which raises `CertificateError` where nothing valid is found. As a running service it looks for
    changed files every `INTERVAL` seconds. While a file is broken, half-written or without its counterpart, what was
    served before stays; only a certificate whose files are gone, with nothing else amiss, is served no longer.

    Connections keep the certificate that they began with. TLS 1.2 and 1.3 are spoken, with session tickets. Of what a
    client offers by ALPN the protocol factory chooses; one that is no `IProtocolNegotiationFactory` speaks HTTP/1.1.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Path,
        reactor: IReactorTime,
        *,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.directory: Final = directory
        self._reactor = reactor
        self._now = now
        self._poll_loop = LoopingCall(self._poll)
        self._poll_loop.clock = reactor
        self._files: Files | None = None
        self._review_at: datetime | None = None
        """When a certificate begins or ends to be valid, so that another may be the best for a name."""
        self._reported: dict[bytes, float] = {}
        self.problems: tuple[str, ...] = ()
        """What is amiss in the directory, each with the name of the file."""
        self._snapshot = self._load(())
        self._log_state("certificates of {directory}: {names}")

    def startService(self) -> None:
        super().startService()
        self._poll_loop.start(INTERVAL).addErrback(
            lambda failure: self._log.failure("certificates are no longer reloaded", failure=failure)
        )

    def stopService(self) -> None:
        super().stopService()
        if self._poll_loop.running:
            self._poll_loop.stop()

    def reload(self) -> bool:
        """Read the files again, as for SIGHUP; whether other certificates are served since. Bad files raise nothing."""
        before = self.problems
        served = {each.identity: each for each in self._snapshot.names.values()}
        served[self._snapshot.default.identity] = self._snapshot.default
        try:
            snapshot = self._load(served.values())
        except CertificateError as error:
            self.problems = (str(error),)
            snapshot = self._snapshot
        changed = not snapshot.same_as(self._snapshot)
        if changed:
            self._snapshot = snapshot
            self._log_state("certificates reloaded from {directory}: {names}")
        elif self.problems and self.problems != before:
            self._log_state("certificates of {directory} unchanged: {names}")
        return changed

    def expiries(self) -> Mapping[str, float]:
        """When the certificate served for each name expires, in Unix seconds."""
        return {name: each.not_after.timestamp() for name, each in self._snapshot.names.items()}

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return self._snapshot.default.options.serverConnectionForTLS(tlsProtocol)

    def _context_for(self, server_name: bytes | None) -> SSL.Context | None:
        """The context for a name in SNI, or None for the default, which the connection has already."""
        name = (server_name or b"").decode("ascii", "replace").lower().rstrip(".")
        served = self._snapshot.names.get(name) or self._snapshot.names.get("*." + name.partition(".")[2])
        return served.options.getContext() if served is not None else None

    def _poll(self) -> None:
        try:
            files = list_files(self.directory)
        except PemError:
            files = None
        if files != self._files or (self._review_at is not None and self._now() >= self._review_at):
            self.reload()
        self._report_expiry()

    def _load(self, before: Iterable[Served]) -> Snapshot:
        """What the files hold now; certificates served `before` stay candidates as long as something is amiss."""
        now = self._now()
        self._files = self._review_at = None
        try:
            # Listed before they are read: a file that changes in between is found changed by the next poll.
            self._files = list_files(self.directory)
        except PemError as error:
            raise CertificateError(f"no certificates in {self.directory}: {error}; {_WANTED}") from error
        pairs, problems = _read(self._files)
        known = {each.identity: each for each in before}
        candidates: list[Served] = []
        for pair in pairs:
            identity = _identity(pair)
            try:
                candidates.append(known.get(identity) or self._served(identity, pair))
            except (SSL.Error, TypeError, ValueError) as error:
                problems[pair.path] = f"OpenSSL does not take it: {openssl_reason(error)}"
        amiss = [f"{path.relative_to(self.directory)}: {problem}" for path, problem in sorted(problems.items())]
        valid = any(each.valid(now) for each in candidates)
        if not valid:
            amiss += [self._out_of_time(each, now) for each in candidates]
        if not valid and not amiss:
            amiss = ["it has no .pem, .crt, .cer or .key file"]
        self.problems = tuple(amiss)
        if not valid and not known:
            raise CertificateError(f"no usable certificate in {self.directory}: {_listed(amiss)}; {_WANTED}")
        if amiss:
            candidates += known.values()
        boundaries = chain.from_iterable((each.not_before, each.not_after) for each in candidates)
        self._review_at = min((each for each in boundaries if each > now), default=None)
        return _snapshot(candidates, now)

    def _served(self, identity: bytes, pair: Pair) -> Served:
        options = CertificateOptions(
            # Twisted's annotations name pyOpenSSL's own types, which pyOpenSSL deprecates in favour of these.
            privateKey=pair.key,  # type: ignore[arg-type]
            certificate=pair.certificate,  # type: ignore[arg-type]
            extraCertChain=list(pair.chain),  # type: ignore[arg-type]
            acceptableCiphers=_CIPHERS,
            acceptableProtocols=[b"http/1.1"],
            enableSessionTickets=True,
            contextForServerName=self._context_for,
        )
        options.getContext()  # made and kept now: what OpenSSL refuses must not come up in a handshake
        certificate = pair.certificate
        return Served(
            identity=identity,
            path=pair.path,
            names=names(certificate) or (pair.path.name,),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            authority=is_authority(certificate),
            options=options,
        )

    def _out_of_time(self, served: Served, now: datetime) -> str:
        path = served.path.relative_to(self.directory)
        if now >= served.not_after:
            return f"{path}: expired on {served.not_after:%Y-%m-%d}"
        return f"{path}: not valid before {served.not_before:%Y-%m-%d %H:%M} UTC"

    def _log_state(self, message: str) -> None:
        self._log.info(message, directory=str(self.directory), names=sorted(self._snapshot.names))
        for problem in self.problems:
            self._log.warn("certificates of {directory}: {problem}", directory=str(self.directory), problem=problem)

    def _report_expiry(self) -> None:
        """Once a day for each certificate that expires soon or has expired."""
        now, seconds = self._now(), self._reactor.seconds()
        served = {each.identity: each for each in self._snapshot.names.values()}
        self._reported = {identity: at for identity, at in self._reported.items() if identity in served}
        for identity, each in served.items():
            left = each.not_after - now
            if left >= NEAR_EXPIRY or seconds < self._reported.get(identity, -ONE_DAY) + ONE_DAY:
                continue
            self._reported[identity] = seconds
            if left > timedelta(0):
                self._log.warn(
                    "the certificate for {names} expires in {days:.1f} days, on {expiry}; its file is {path}",
                    names=each.names,
                    days=left / timedelta(days=1),
                    expiry=each.not_after.isoformat(),
                    path=str(each.path),
                )
            else:
                self._log.error(
                    "the certificate for {names} expired on {expiry}, clients refuse it; its file is {path}",
                    names=each.names,
                    expiry=each.not_after.isoformat(),
                    path=str(each.path),
                )


def default_directory(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Where certificates are looked for when no option says it; None where there is no such place.

    systemd's credentials, if there are certificates among them; ``certificates`` in the working directory; certbot's.
    """
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials and _holds_certificates(Path(credentials)):
        return Path(credentials)
    return next(filter(_is_directory, (cwd / "certificates", LETS_ENCRYPT)), None)


_WANTED: Final = (
    "wanted is a certificate chain and its private key in PEM files, such as fullchain.pem and privkey.pem from certbot"
)


def _read(files: Files) -> tuple[list[Pair], dict[Path, str]]:
    problems: dict[Path, str] = {}
    read = []
    for path, status in files.items():
        try:
            if isinstance(status, str):
                raise PemError(status)
            read.append(read_pem(path))
        except PemError as error:
            problems[path] = str(error)
    pairs, unpaired = pair_up(read)
    return pairs, unpaired | problems


def _snapshot(candidates: Iterable[Served], now: datetime) -> Snapshot:
    chosen: dict[str, Served] = {}
    for each in candidates:
        for name in each.names:
            best = chosen.get(name)
            if best is None or each.rank(now) > best.rank(now):
                chosen[name] = each
    default = min(chosen.values(), key=lambda each: each.default_rank(now))
    return Snapshot(MappingProxyType(chosen), default)


def _identity(pair: Pair) -> bytes:
    digest = sha256()
    for certificate in (pair.certificate, *pair.chain):
        digest.update(certificate.public_bytes(Encoding.DER))
    return digest.digest()


def _listed(problems: list[str]) -> str:
    line = "; ".join(problems[:MOST_PROBLEMS])
    return f"{line}; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else line


def openssl_reason(error: Exception) -> str:
    """OpenSSL's words out of pyOpenSSL's list of (library, function, reason)."""
    match error.args:
        case ([(_, _, str(reason)), *_],):
            return reason
    return str(error)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # below a directory that we may not enter
        return False


def _holds_certificates(directory: Path) -> bool:
    try:
        return any(path.suffix in {".pem", ".crt"} for path in islice(directory.iterdir(), 1000))
    except OSError:
        return False
