"""What a renewal does, what a broken one does not do, and what is said about certificates that run out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from twisted.logger import LogEvent, LogLevel

from tests.server.tls.conftest import Client, Issued, Server
from twisted_chat.server.tls import certificates

DAY = timedelta(days=1)


# Renewal


def test_renewed_files_are_served_and_connections_stay(
    tmp_path: Path,
    log: Sequence[LogEvent],
    texts: Callable[[LogLevel], list[str]],
) -> None:
    before, after = Issued("a.example", begins=-2 * DAY), Issued("a.example", begins=-DAY, ends=90 * DAY)
    before.write(tmp_path, "a")
    server = Server(tmp_path)
    server.directory.startService()
    open_connection = Client(server.directory, "a.example").shake()
    assert open_connection.echo(b"one") == b"one"
    half_way = Client(server.directory, "a.example")
    after.write(tmp_path, "a")
    assert server.serves("a.example") == before.certificate
    server.poll()
    assert server.serves("a.example") == after.certificate
    assert open_connection.echo(b"two") == b"two"
    assert open_connection.certificate == before.certificate
    assert half_way.shake().echo(b"three") == b"three"
    assert server.directory.expiries() == {"a.example": after.certificate.not_valid_after_utc.timestamp()}
    assert len([line for line in texts(LogLevel.info) if line.startswith("certificates reloaded")]) == 1
    server.directory.stopService()
    assert server.clock.getDelayedCalls() == []


def test_reload_without_waiting_for_the_poll(tmp_path: Path) -> None:
    Issued("a.example", begins=-2 * DAY).write(tmp_path, "a")
    server = Server(tmp_path)
    assert not server.directory.reload()
    after = Issued("a.example", begins=-DAY)
    after.write(tmp_path, "a")
    assert server.directory.reload()
    assert server.serves("a.example") == after.certificate


def test_nothing_happens_when_nothing_changed(tmp_path: Path, log: Sequence[LogEvent]) -> None:
    Issued("a.example").write(tmp_path, "a")
    server = Server(tmp_path)
    server.directory.startService()
    first = Client(server.directory, "a.example").shake()
    first.echo(b"tickets come with the first answer")
    loaded = len(log)
    server.poll()
    (tmp_path / "a.crt").touch()
    server.poll()
    assert not server.directory.reload()
    assert len(log) == loaded
    # The same contexts: a session from before is resumed, which a new one could not.
    again = Client(server.directory, "a.example", context=first.context, session=first.tls.session).shake()
    assert again.tls.session_reused
    server.directory.stopService()


def test_half_written_files_leave_what_is_served(
    tmp_path: Path, log: Sequence[LogEvent], texts: Callable[[LogLevel], list[str]]
) -> None:
    a, b = Issued("a.example", begins=-2 * DAY), Issued("b.example", begins=-2 * DAY)
    a.write(tmp_path, "a")
    b.write(tmp_path, "b")
    server = Server(tmp_path)
    server.directory.startService()
    new_a, new_b = Issued("a.example", begins=-DAY), Issued("b.example", begins=-DAY)
    new_a.write(tmp_path, "a")
    (tmp_path / "a.crt").write_bytes(new_a.pem[: len(new_a.pem) // 2])
    new_b.write(tmp_path, "b")
    server.poll()
    assert server.serves("a.example") == a.certificate
    assert server.serves("b.example") == new_b.certificate  # a broken file is no reason to let another name expire
    assert server.directory.problems == (
        "a.crt: cut off, or still being written",
        "a.key: its private key fits no certificate here",
    )
    warned = texts(LogLevel.warn)
    assert f"certificates of {tmp_path}: a.crt: cut off, or still being written" in warned
    server.poll()
    server.poll()
    assert texts(LogLevel.warn) == warned  # told once
    (tmp_path / "a.crt").write_bytes(new_a.pem)
    server.poll()
    assert server.serves("a.example") == new_a.certificate
    assert not server.directory.problems
    server.directory.stopService()


@pytest.mark.parametrize("emptied", ["a.crt", "a.key"])
def test_an_emptied_file_takes_no_name_offline(tmp_path: Path, emptied: str) -> None:
    a, b = Issued("a.example"), Issued("b.example")
    a.write(tmp_path, "a")
    b.write(tmp_path, "b")
    server = Server(tmp_path)
    (tmp_path / emptied).write_bytes(b"")
    assert not server.directory.reload()
    assert server.serves("a.example") == a.certificate


@pytest.mark.parametrize("first", ["a.crt", "a.key"])
def test_a_pair_that_is_replaced_one_file_at_a_time(tmp_path: Path, first: str) -> None:
    before, after = Issued("a.example", begins=-2 * DAY), Issued("a.example", begins=-DAY)
    before.write(tmp_path, "a")
    Issued("b.example").write(tmp_path, "b")
    server = Server(tmp_path)
    (tmp_path / first).write_bytes(after.pem if first == "a.crt" else after.key_pem)
    assert not server.directory.reload()
    assert server.serves("a.example") == before.certificate
    after.write(tmp_path, "a")
    assert server.directory.reload()
    assert server.serves("a.example") == after.certificate


def test_the_directory_goes_away_for_a_while(
    tmp_path: Path, log: Sequence[LogEvent], texts: Callable[[LogLevel], list[str]]
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    issued = Issued("a.example")
    issued.write(live, "a")
    server = Server(live)
    server.directory.startService()
    live.rename(tmp_path / "elsewhere")
    server.poll()
    server.poll()
    assert server.serves("a.example") == issued.certificate
    assert len(texts(LogLevel.warn)) == 1
    assert "no such file or directory" in texts(LogLevel.warn)[0]
    (tmp_path / "elsewhere").rename(live)
    server.poll()
    assert not server.directory.problems
    server.directory.stopService()


def test_all_files_gone_leave_what_is_served(tmp_path: Path, texts: Callable[[LogLevel], list[str]]) -> None:
    issued = Issued("a.example")
    issued.write(tmp_path, "a")
    server = Server(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    assert not server.directory.reload()
    assert server.serves("a.example") == issued.certificate
    assert texts(LogLevel.warn) == [f"certificates of {tmp_path}: it has no .pem, .crt, .cer or .key file"]


def test_a_removed_certificate_is_served_no_longer(tmp_path: Path) -> None:
    Issued("a.example").write(tmp_path, "a")
    b = Issued("b.example")
    b.write(tmp_path, "b")
    server = Server(tmp_path)
    for file in tmp_path.glob("a.*"):
        file.unlink()
    assert server.directory.reload()
    assert server.serves("a.example") == b.certificate
    assert set(server.directory.expiries()) == {"b.example"}


def test_an_older_certificate_may_be_put_back(tmp_path: Path) -> None:
    good, bad = Issued("a.example", begins=-2 * DAY), Issued("a.example", begins=-DAY)
    bad.write(tmp_path, "a")
    server = Server(tmp_path)
    good.write(tmp_path, "a")
    assert server.directory.reload()
    assert server.serves("a.example") == good.certificate


def test_a_certificate_is_served_from_when_it_begins(tmp_path: Path) -> None:
    now, later = Issued("a.example"), Issued("a.example", begins=timedelta(hours=1))
    now.write(tmp_path, "now")
    later.write(tmp_path, "later")
    server = Server(tmp_path)
    server.directory.startService()
    server.clock.advance(3599 - certificates.INTERVAL)
    assert server.serves("a.example") == now.certificate
    server.poll()
    server.poll()
    assert server.serves("a.example") == later.certificate
    server.directory.stopService()


# Expiry


def test_expiry_is_told_once_a_day(
    tmp_path: Path, log: Sequence[LogEvent], texts: Callable[[LogLevel], list[str]]
) -> None:
    Issued("a.example", "b.example", ends=15 * DAY).write(tmp_path, "a")
    Issued("c.example", ends=400 * DAY).write(tmp_path, "c")
    server = Server(tmp_path)
    server.directory.startService()
    hours = int(16.5 * 24)
    told: list[tuple[int, LogLevel]] = []
    for hour in range(hours):
        seen = len(log)
        server.clock.pump([360] * 10)
        told += [(hour // 24, event["log_level"]) for event in log[seen:] if "path" in event]
    assert told == [(day, LogLevel.warn if day < 15 else LogLevel.error) for day in range(1, 17)]
    assert "('a.example', 'b.example') expires in 14.0 days" in texts(LogLevel.warn)[0]
    assert "('a.example', 'b.example') expired on" in texts(LogLevel.error)[0]
    assert server.serves("a.example").not_valid_after_utc < server.now()  # nothing better is there
    server.directory.stopService()


# Chains


def test_of_two_intermediates_with_one_key_the_valid_one_is_sent(tmp_path: Path) -> None:
    root = Issued(common_name="root", ca=True)
    old = Issued(common_name="between", issuer=root, ca=True, begins=-90 * DAY, ends=-DAY)
    new = Issued(common_name="between", issuer=root, ca=True, key=old.key)
    Issued("a.example", issuer=old).write(tmp_path, "a", old)
    (tmp_path / "new.pem").write_bytes(new.pem)
    server = Server(tmp_path)
    Client(server.directory, "a.example", root=root).shake()  # which verifies the chain
    assert server.directory.expiries()["a.example"] == new.certificate.not_valid_after_utc.timestamp()


def test_an_intermediate_that_expires_is_exchanged(tmp_path: Path) -> None:
    root = Issued(common_name="root", ca=True)
    old = Issued(common_name="between", issuer=root, ca=True, ends=DAY)
    new = Issued(common_name="between", issuer=root, ca=True, key=old.key)
    Issued("a.example", issuer=old).write(tmp_path, "a", old)
    (tmp_path / "new.pem").write_bytes(new.pem)
    server = Server(tmp_path)
    server.directory.startService()
    assert server.directory.expiries()["a.example"] == old.certificate.not_valid_after_utc.timestamp()
    server.clock.advance(DAY.total_seconds())
    assert server.directory.expiries()["a.example"] == new.certificate.not_valid_after_utc.timestamp()
    server.directory.stopService()


def test_what_clients_may_refuse_is_said(tmp_path: Path, texts: Callable[[LogLevel], list[str]]) -> None:
    root = Issued(common_name="root of nobody", ca=True)
    between = Issued(common_name="between", issuer=root, ca=True, begins=-90 * DAY, ends=-DAY)
    Issued("a.example", issuer=between).write(tmp_path, "a", between)
    (doubt, missing) = Server(tmp_path).directory.warnings()
    assert "CN=between has expired" in doubt
    assert "CN=root of nobody" in missing
    assert len([line for line in texts(LogLevel.warn) if doubt in line or missing in line]) == 2


def test_a_missing_intermediate_is_said(tmp_path: Path) -> None:
    root = Issued(common_name="root", ca=True)
    between = Issued(common_name="not in the file", issuer=root, ca=True)
    Issued("a.example", issuer=between).write(tmp_path, "a")
    (warning,) = Server(tmp_path).directory.warnings()
    assert "CN=not in the file" in warning
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "between.pem").write_bytes(between.pem)
    (warning,) = Server(tmp_path).directory.warnings()
    assert "CN=root" in warning, "roots are not sent, and this system does not know that one"


def test_files_that_are_not_used_are_named(tmp_path: Path) -> None:
    Issued("a.example", begins=-2 * DAY).write(tmp_path, "old")
    Issued("a.example").write(tmp_path, "new")
    (warning,) = Server(tmp_path).directory.warnings()
    assert warning.startswith("old.crt: not used")


def test_a_file_that_is_not_used_any_more_is_named_once(tmp_path: Path) -> None:
    Issued("a.example", begins=-2 * DAY).write(tmp_path, "old")
    server = Server(tmp_path)
    Issued("a.example").write(tmp_path, "new")
    (tmp_path / "broken.pem").write_bytes(b"-----BEGIN CERTIFICATE-----")
    server.directory.reload()
    assert len([line for line in server.directory.warnings() if "not used" in line]) == 1
