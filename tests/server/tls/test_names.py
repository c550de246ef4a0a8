"""Which name gets which certificate, and where they come from. Every handshake here is a real one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from tests.server.tls.conftest import Client, Issued, Server
from twisted_chat.server.tls import certificates
from twisted_chat.server.tls.certificates import default_directory

DAY = timedelta(days=1)


def test_is_what_twisted_asks_for(tmp_path: Path) -> None:
    Issued("a.example").write(tmp_path, "a")
    verifyObject(IOpenSSLServerConnectionCreator, Server(tmp_path).directory)


# Which name gets which certificate


def test_names(tmp_path: Path) -> None:
    plain, wild, other = Issued("a.example"), Issued("*.B.example", "b.example"), Issued("x.c.example")
    for number, each in enumerate((other, plain, wild)):
        each.write(tmp_path, str(number))
    server = Server(tmp_path)
    assert server.serves("a.example") == plain.certificate
    assert server.serves("A.Example") == plain.certificate
    assert server.serves("a.example.") == plain.certificate
    assert server.serves("b.example") == wild.certificate
    assert server.serves("www.b.EXAMPLE") == wild.certificate
    assert server.serves("x.c.example") == other.certificate
    # A wildcard is for one label, so these have none; the default is the first in the order of the alphabet.
    assert server.serves("www.www.b.example") == wild.certificate
    assert server.serves("y.c.example") == wild.certificate
    assert server.serves("example") == wild.certificate
    assert server.serves() == wild.certificate
    assert set(server.directory.expiries()) == {"a.example", "*.b.example", "b.example", "x.c.example"}


def test_an_exact_name_wins_over_a_wildcard(tmp_path: Path) -> None:
    wild, exact = Issued("*.example.org", begins=-DAY), Issued("a.example.org", begins=-2 * DAY)
    wild.write(tmp_path, "wild")
    exact.write(tmp_path, "exact")
    server = Server(tmp_path)
    assert server.serves("a.example.org") == exact.certificate
    assert server.serves("b.example.org") == wild.certificate


def test_addresses_are_the_default_because_their_clients_send_no_name(tmp_path: Path) -> None:
    named, addressed = Issued("a.example"), Issued("192.0.2.7", "2001:db8:0::7")
    named.write(tmp_path, "a")
    addressed.write(tmp_path, "z")
    server = Server(tmp_path)
    assert server.serves() == addressed.certificate
    assert server.serves("a.example") == named.certificate
    assert set(server.directory.expiries()) == {"a.example", "192.0.2.7", "2001:db8::7"}


def test_a_certificate_with_a_common_name_only(tmp_path: Path) -> None:
    old, named = Issued(common_name="Old.example"), Issued("a.example")
    old.write(tmp_path, "old")
    named.write(tmp_path, "named")
    server = Server(tmp_path)
    assert server.serves("old.example") == old.certificate
    assert server.serves("a.example") == named.certificate


def test_a_certificate_without_any_name_is_served_too(tmp_path: Path) -> None:
    nameless = Issued()
    nameless.write(tmp_path, "nameless")
    server = Server(tmp_path)
    assert server.serves("a.example") == nameless.certificate
    assert list(server.directory.expiries()) == ["nameless.crt"]


def test_of_several_for_a_name_the_last_issued_that_is_valid(tmp_path: Path) -> None:
    Issued("a.example", begins=-400 * DAY, ends=4000 * DAY).write(tmp_path, "made-by-hand")
    before = Issued("a.example", begins=-80 * DAY, ends=10 * DAY)
    before.write(tmp_path, "before")
    Issued("a.example", begins=-2 * DAY, ends=-DAY).write(tmp_path, "short")
    Issued("a.example", begins=DAY, ends=90 * DAY).write(tmp_path, "future")
    renewed = Issued("a.example", begins=-3 * DAY, ends=47 * DAY, key=before.key)
    renewed.write(tmp_path, "renewed")
    server = Server(tmp_path)
    assert server.serves("a.example") == renewed.certificate
    assert server.directory.expiries() == {"a.example": (server.now() + 47 * DAY).timestamp()}
    assert not server.directory.problems


# What is found in a directory


def test_certbots_directory(tmp_path: Path) -> None:
    root = Issued(common_name="root", ca=True)
    intermediate = Issued(issuer=root, common_name="intermediate", ca=True)
    live, archive = tmp_path / "live", tmp_path / "archive"
    for name in ("a.example", "b.example"):
        (live / name).mkdir(parents=True)
        (archive / name).mkdir(parents=True)
        leaf = Issued(name, issuer=intermediate)
        content = {"cert": leaf.pem, "chain": intermediate.pem, "fullchain": leaf.pem + intermediate.pem}
        for kind, pem in {**content, "privkey": leaf.key_pem}.items():
            (archive / name / f"{kind}1.pem").write_bytes(pem)
            (live / name / f"{kind}.pem").symlink_to(f"../../archive/{name}/{kind}1.pem")
        (live / name / "README").write_text("-----BEGIN nothing")
    (live / "README").write_text("This directory contains your keys and certificates.")
    server = Server(live)
    assert not server.directory.problems
    for name in ("a.example", "b.example"):
        # Verification needs the intermediate: it was sent.
        assert Client(server.directory, name, root=root).shake().echo(b"hello") == b"hello"


def test_the_chain_is_put_together_from_other_files(tmp_path: Path) -> None:
    root = Issued(common_name="root", ca=True)
    first = Issued(issuer=root, common_name="first", ca=True)
    # Of the same name as the one that signed, as a renewed intermediate is.
    namesake = Issued(issuer=root, common_name="second", ca=True)
    second = Issued(issuer=first, common_name="second", ca=True)
    leaf = Issued("a.example", issuer=second)
    leaf.write(tmp_path, "a")
    (tmp_path / "intermediates.pem").write_bytes(namesake.pem + second.pem + first.pem)
    # A root that is its own issuer, with its key: neither sent, nor served for its name before a real one, nor a hang.
    root.write(tmp_path, "0-root")
    server = Server(tmp_path)
    assert server.serves() == leaf.certificate
    assert Client(server.directory, "a.example", root=root).shake().echo(b"x") == b"x"


def test_a_certificate_and_its_key_in_one_file_with_parameters(tmp_path: Path) -> None:
    issued = Issued("a.example")
    traditional = issued.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    content = parameters + traditional + b"subject=CN = a.example\n" + issued.pem
    (tmp_path / "a.PEM").write_bytes(content.replace(b"\n", b"\r\n"))
    (tmp_path / "notes.txt").write_text("not a certificate")
    server = Server(tmp_path)
    assert server.serves("a.example") == issued.certificate
    assert not server.directory.problems


# Where certificates are looked for


def test_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials, working, certbots = tmp_path / "credentials", tmp_path / "cwd", tmp_path / "live"
    monkeypatch.setattr(certificates, "LETS_ENCRYPT", certbots)
    for directory in (credentials, working):
        directory.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert default_directory(environ, working) is None
    certbots.mkdir()
    assert default_directory(environ, working) == certbots
    (working / "certificates").mkdir()
    assert default_directory(environ, working) == working / "certificates"
    (credentials / "api-key").write_text("secret")
    assert default_directory(environ, working) == working / "certificates"
    (credentials / "https.pem").write_text("")
    assert default_directory(environ, working) == credentials
    assert default_directory({}, working) == working / "certificates"
    assert default_directory({"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")}, working) == working / "certificates"
