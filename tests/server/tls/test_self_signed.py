"""The development certificate: what it is for, and that it stays as long as it can."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from twisted_chat.server.tls.certificates import NEAR_EXPIRY, CertificateDirectory
from twisted_chat.server.tls.pem import names, read_pem
from twisted_chat.server.tls.self_signed import FILE_NAME, RENEW_BEFORE, development_names, make_self_signed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = development_names("laptop")


def made(directory: Path) -> bytes:
    return (directory / FILE_NAME).read_bytes()


def test_names() -> None:
    assert development_names("Laptop.local") == ("localhost", "laptop.local", "127.0.0.1", "::1")
    assert development_names("localhost") == ("localhost", "127.0.0.1", "::1")


def test_is_served_under_all_its_names_without_complaint(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "self-signed"
    make_self_signed(directory, NAMES, NOW)
    served = CertificateDirectory(directory, Clock(), now=lambda: NOW)
    assert served.expiries() == dict.fromkeys(NAMES, (NOW + 30 * DAY).timestamp())
    assert not served.problems
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]


@pytest.mark.skipif(os.name != "posix", reason="permissions are something else here")
def test_only_the_owner_reads_the_key(tmp_path: Path) -> None:
    directory = tmp_path / "self-signed"
    make_self_signed(directory, NAMES, NOW)
    assert stat.S_IMODE((directory / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_is_kept_until_it_would_be_complained_about(tmp_path: Path) -> None:
    make_self_signed(tmp_path, NAMES, NOW)
    first = made(tmp_path)
    last_day = NOW + 30 * DAY - RENEW_BEFORE
    make_self_signed(tmp_path, NAMES[:1], last_day - timedelta(seconds=1))
    assert made(tmp_path) == first
    make_self_signed(tmp_path, NAMES, last_day)
    assert made(tmp_path) != first
    assert RENEW_BEFORE > NEAR_EXPIRY


@pytest.mark.parametrize("age", [-DAY, 31 * DAY])
def test_is_made_anew_when_the_time_does_not_fit(tmp_path: Path, age: timedelta) -> None:
    make_self_signed(tmp_path, NAMES, NOW)
    first = made(tmp_path)
    make_self_signed(tmp_path, NAMES, NOW + age)
    assert made(tmp_path) != first


def test_is_made_anew_for_other_names(tmp_path: Path) -> None:
    make_self_signed(tmp_path, NAMES, NOW)
    make_self_signed(tmp_path, development_names("desktop"), NOW)
    (certificate,) = read_pem(tmp_path / FILE_NAME).certificates
    assert names(certificate) == ("localhost", "desktop", "127.0.0.1", "::1")


def test_is_made_anew_when_broken(tmp_path: Path) -> None:
    make_self_signed(tmp_path, NAMES, NOW)
    (tmp_path / FILE_NAME).write_bytes(made(tmp_path)[:100])
    make_self_signed(tmp_path, NAMES, NOW)
    assert len(read_pem(tmp_path / FILE_NAME).keys) == 1


def test_names_that_no_certificate_can_carry_are_left_out(tmp_path: Path) -> None:
    make_self_signed(tmp_path, ["localhost", "", "x" * 64, "bücher.example", "my_host", "::1"], NOW)
    (certificate,) = read_pem(tmp_path / FILE_NAME).certificates
    assert names(certificate) == ("localhost", "xn--bcher-kva.example", "my_host", "::1")
    first = made(tmp_path)
    make_self_signed(tmp_path, ["localhost", "x" * 64, "bücher.example"], NOW)
    assert made(tmp_path) == first


def test_a_place_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(OSError, match=FILE_NAME):
        make_self_signed(tmp_path, NAMES, NOW)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
