"""What start is refused for, each with its reason."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from tests.server.tls.conftest import Issued, Server
from twisted_chat.server.tls.certificates import CertificateError

DAY = timedelta(days=1)


# What start is refused for


def block(label: str, base64: str = "AAAA") -> bytes:
    return f"-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "it has no .pem, .crt, .cer or .key file"),
        ({"README": b"hello"}, "it has no .pem, .crt, .cer or .key file"),
        ({"a.pem": b""}, "a.pem: no PEM in it"),
        ({"a.crt": b"\x30\x82\x01"}, "a.crt: no PEM in it (DER is turned into PEM by: openssl x509 -inform der)"),
        ({"a.pem": block("CERTIFICATE")[:-9]}, "a.pem: cut off, or still being written"),
        ({"a.pem": block("CERTIFICATE")}, "a.pem: its certificate is not readable: "),
        ({"a.pem": block("PRIVATE KEY")}, "a.pem: its private key is not readable: "),
        ({"a.pem": block("ENCRYPTED PRIVATE KEY")}, "a.pem: the private key is encrypted"),
        ({"a.pem": bytes(1 << 20) + b"\n"}, "a.pem: larger than 1,048,576 bytes"),
    ],
)
def test_start_is_refused(tmp_path: Path, files: dict[str, bytes], problem: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CertificateError) as raised:
        Server(tmp_path)
    message = str(raised.value)
    assert message.startswith(f"no usable certificate in {tmp_path}: ")
    assert problem in message
    assert message.endswith("such as fullchain.pem and privkey.pem from certbot")
    assert "\n" not in message


def test_start_is_refused_for_what_does_not_fit_together(tmp_path: Path) -> None:
    Issued("a.example").write(tmp_path, "a")
    (tmp_path / "a.key").write_bytes(Issued("a.example").key_pem)
    with pytest.raises(CertificateError) as raised:
        Server(tmp_path)
    assert "a.crt: no private key here fits the certificate of a.example; " in str(raised.value)
    assert "a.key: its private key fits no certificate here; " in str(raised.value)


def test_start_is_refused_for_an_encrypted_key(tmp_path: Path) -> None:
    issued = Issued("a.example")
    issued.write(tmp_path, "a")
    encryption = BestAvailableEncryption(b"secret")
    for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        (tmp_path / "a.key").write_bytes(issued.key.private_bytes(Encoding.PEM, kind, encryption))
        with pytest.raises(CertificateError, match=r"a\.key: the private key is encrypted \(decrypted by: openssl"):
            Server(tmp_path)


def test_start_is_refused_for_times_that_do_not_fit(tmp_path: Path) -> None:
    expired, future = Issued("a.example", begins=-90 * DAY, ends=-DAY), Issued("b.example", begins=DAY)
    expired.write(tmp_path, "a")
    future.write(tmp_path, "b")
    with pytest.raises(CertificateError) as raised:
        Server(tmp_path)
    assert f"a.crt: expired on {expired.certificate.not_valid_after_utc:%Y-%m-%d}" in str(raised.value)
    assert f"b.crt: not valid before {future.certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC" in str(raised.value)


def test_start_is_refused_for_what_openssl_does_not_take(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    Issued("a.example", key=weak).write(tmp_path, "a")
    with pytest.raises(CertificateError, match=r"a\.crt: OpenSSL does not take it: ee key too small;"):
        Server(tmp_path)


def test_start_is_refused_without_a_directory(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"no certificates in .*nowhere: no such file or directory; wanted"):
        Server(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificateError, match=r"file: not a directory; wanted"):
        Server(tmp_path / "file")


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "fullchain.pem").symlink_to("gone.pem")
    with pytest.raises(CertificateError, match=r"fullchain\.pem: no such file or directory;"):
        Server(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    Issued("a.example").write(tmp_path, "a")
    (tmp_path / "a.key").chmod(0)
    with pytest.raises(CertificateError, match=r"a\.key: permission denied"):
        Server(tmp_path)


def test_of_many_problems_the_first_are_named(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.pem").write_bytes(b"")
    with pytest.raises(CertificateError, match=r"0\.pem: .*4\.pem: [^;]*; and 3 more; wanted"):
        Server(tmp_path)


def test_an_expired_certificate_does_not_keep_the_others_from_being_served(tmp_path: Path) -> None:
    expired = Issued("a.example", begins=-90 * DAY, ends=-DAY)
    valid = Issued("b.example")
    expired.write(tmp_path, "a")
    valid.write(tmp_path, "b")
    server = Server(tmp_path)
    assert server.serves("b.example") == valid.certificate
    assert server.serves() == valid.certificate
    # Its clients get an error that says what is wrong, which another name's certificate would not.
    assert server.serves("a.example") == expired.certificate
