"""The certificates that TLS endpoints serve: by the name that a client asks for, renewed without a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Final

from cryptography import x509
from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twisted_chat.server.tls.pem import Files, Pair, PemError, list_files, pair_up, read_pem
from twisted_chat.server.tls.served import Served, Snapshot, choose, identity_of

INTERVAL: Final = 30.0
"""Seconds between two looks at the files."""
NEAR_EXPIRY: Final = timedelta(days=14)
ONE_DAY: Final = 86_400.0
MOST_PROBLEMS: Final = 5
"""Files that one error line names before it only counts them."""
LETS_ENCRYPT: Final = Path("/etc/letsencrypt/live")


class CertificateError(Exception):
    """No usable certificate: one line that names the place, what is wrong with each file, and what would be right."""


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
        self._candidates: list[Served] = []
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
        try:
            snapshot = self._load(self._snapshot.served())
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
        """When clients begin to refuse what is served for each name, in Unix seconds: its chain counts."""
        return {name: choice.expires.timestamp() for name, choice in self._snapshot.names.items()}

    def warnings(self) -> list[str]:
        """Return what clients may refuse of the certificates in use, and which files are not used, a line each."""
        now = self._now()
        in_use = list(self._snapshot.served())
        lines = [line for each in in_use for line in self._doubts(each, now)]
        used = {each.identity for each in in_use}
        lines += [
            f"{self._name(each)}: not used, there are newer certificates for {', '.join(each.names)}"
            for each in {each.identity: each for each in self._candidates}.values()
            if each.identity not in used
        ]
        return lines

    def _doubts(self, served: Served, now: datetime) -> Iterator[str]:
        for certificate in served.pair.chain:
            end = certificate.not_valid_after_utc
            if end - now < NEAR_EXPIRY:
                what = "has expired" if end <= now else "expires"
                yield f"{self._name(served)}: its intermediate {_subject(certificate)} {what} on {end:%Y-%m-%d}"
        if served.missing is not None:
            yield (
                f"{self._name(served)}: its chain ends with a certificate of {served.missing}, which is no root that "
                "this system knows; add the intermediate to the file, or clients may refuse it"
            )

    def _name(self, served: Served) -> Path:
        return served.path.relative_to(self.directory)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        options: CertificateOptions = self._snapshot.default.options
        return options.serverConnectionForTLS(tlsProtocol)

    def _context_for(self, server_name: bytes | None) -> SSL.Context | None:
        """The context for a name in SNI, or None for the default, which the connection has already."""
        name = (server_name or b"").decode("ascii", "replace").lower().rstrip(".")
        choice = self._snapshot.names.get(name) or self._snapshot.names.get("*." + name.partition(".")[2])
        return choice.options.getContext() if choice is not None else None

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
        pairs, problems = _read(self._files, now)
        known = {each.identity: each for each in before}
        candidates: list[Served] = []
        for pair in pairs:
            try:
                candidates.append(known.get(identity_of(pair)) or Served.of(pair))
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
        self._candidates = candidates
        boundaries = chain.from_iterable(
            (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
            for each in candidates
            for certificate in each.certificates
        )
        self._review_at = min((each for each in boundaries if each > now), default=None)
        return choose(candidates, now, self._context_for)

    def _out_of_time(self, served: Served, now: datetime) -> str:
        path = self._name(served)
        if now >= served.not_after:
            return f"{path}: expired on {served.not_after:%Y-%m-%d}"
        return f"{path}: not valid before {served.not_before:%Y-%m-%d %H:%M} UTC"

    def _log_state(self, message: str) -> None:
        self._log.info(message, directory=str(self.directory), names=sorted(self._snapshot.names))
        for problem in self.problems:
            self._log.warn("certificates of {directory}: {problem}", directory=str(self.directory), problem=problem)
        for warning in self.warnings():
            self._log.warn("certificates of {directory}: {warning}", directory=str(self.directory), warning=warning)

    def _report_expiry(self) -> None:
        """Once a day for each certificate that expires soon or has expired."""
        now, seconds = self._now(), self._reactor.seconds()
        served = {each.identity: each for each in self._snapshot.served()}
        self._reported = {identity: at for identity, at in self._reported.items() if identity in served}
        for identity, each in served.items():
            left = each.expires - now
            if left >= NEAR_EXPIRY or seconds < self._reported.get(identity, -ONE_DAY) + ONE_DAY:
                continue
            self._reported[identity] = seconds
            if left > timedelta(0):
                self._log.warn(
                    "the certificate for {names} expires in {days:.1f} days, on {expiry}; its file is {path}",
                    names=each.names,
                    days=left / timedelta(days=1),
                    expiry=each.expires.isoformat(),
                    path=str(each.path),
                )
            else:
                self._log.error(
                    "the certificate for {names} expired on {expiry}, clients refuse it; its file is {path}",
                    names=each.names,
                    expiry=each.expires.isoformat(),
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


def _read(files: Files, now: datetime) -> tuple[list[Pair], dict[Path, str]]:
    problems: dict[Path, str] = {}
    read = []
    for path, status in files.items():
        try:
            if isinstance(status, str):
                raise PemError(status)
            read.append(read_pem(path))
        except PemError as error:
            problems[path] = str(error)
    pairs, unpaired = pair_up(read, now)
    return pairs, unpaired | problems


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "without a name"


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
