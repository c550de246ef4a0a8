"""What is found in a directory of PEM files, and what is passed over."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twisted_chat.server.tls import pem
from twisted_chat.server.tls.pem import PemError, list_files, names, pair_up, read_pem
from twisted_chat.server.tls.self_signed import FILE_NAME, make_self_signed

START = datetime.now(UTC)
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A key and its certificate."""
    directory = tmp_path_factory.mktemp("content")
    make_self_signed(directory, ["a.example", "192.0.2.1"], datetime.now(UTC))
    return (directory / FILE_NAME).read_bytes()


def relative(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in list_files(directory)}


def test_files_are_listed_by_their_suffix(tmp_path: Path) -> None:
    for name in ("a.pem", "b.crt", "c.cer", "d.KEY", "README", "e.txt", "f.csr", ".g.pem", "pem"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.pem").mkdir()
    assert relative(tmp_path) == {"a.pem", "b.crt", "c.cer", "d.KEY"}


def test_folders_are_looked_into_to_a_depth(tmp_path: Path) -> None:
    (tmp_path / "1/2/3/4").mkdir(parents=True)
    for folder in ("1", "1/2", "1/2/3", "1/2/3/4"):
        (tmp_path / folder / "a.pem").write_text("")
    assert relative(tmp_path) == {"1/a.pem", "1/2/a.pem", "1/2/3/a.pem"}


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("")
    (tmp_path / "again").symlink_to(".")
    (tmp_path / "self.pem").symlink_to("self.pem")
    found = list_files(tmp_path)
    assert {path.name for path in found} == {"a.pem", "self.pem"}
    assert isinstance(found[tmp_path / "self.pem"], str)


def test_a_kubernetes_secret_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..2026_11_22/tls.crt").write_text("")
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    assert relative(tmp_path) == {"tls.crt"}


def test_a_directory_that_is_hardly_one_of_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pem, "MAX_ENTRIES", 3)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    assert list_files(tmp_path) == {}
    (tmp_path / "0/more").write_text("")
    with pytest.raises(PemError, match="more than 3 files"):
        list_files(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pem")
    assert list_files(tmp_path) == {}


def test_every_change_of_a_file_shows(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("1")
    seen = [list_files(tmp_path)]
    file.write_text("22")
    seen.append(list_files(tmp_path))
    replacement = tmp_path / "new"
    replacement.write_text("33")
    replacement.rename(file)
    seen.append(list_files(tmp_path))
    file.unlink()
    file.symlink_to("gone")
    seen.append(list_files(tmp_path))
    assert all(seen[i] != seen[j] for i in range(len(seen)) for j in range(i))
    assert list_files(tmp_path) == seen[-1]


@pytest.mark.skipif(os.name != "posix", reason="permissions are something else here")
def test_changed_permissions_show(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("")
    before = list_files(tmp_path)
    file.chmod(0o400)
    assert list_files(tmp_path) != before


def test_what_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(PemError, match=r"^no such file or directory$"):
        list_files(tmp_path / "gone")


def test_a_file_is_read_in_its_order(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(b"text before\n" + content)
    read = read_pem(path)
    assert read.path == path
    assert len(read.keys) == 1
    assert [names(each) for each in read.certificates] == [("a.example", "192.0.2.1")]


def test_every_beginning_of_a_file_is_refused_or_lacks_its_end(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pem"
    complete = len(content.rstrip())
    for length in range(0, complete, 7):
        path.write_bytes(content[:length])
        try:
            read = read_pem(path)
        except PemError:
            continue
        # Cut between the blocks, or in the next one's first line: then the pair is incomplete.
        assert not pair_up([read], START)[0]


def test_a_pair_over_two_files(tmp_path: Path, content: bytes) -> None:
    start = content.index(CERTIFICATE)
    (tmp_path / "key.pem").write_bytes(content[:start])
    (tmp_path / "cert.pem").write_bytes(content[start:])
    key, certificate = read_pem(tmp_path / "key.pem"), read_pem(tmp_path / "cert.pem")
    pairs, problems = pair_up([key, certificate], START)
    assert [(pair.path, pair.certificate, pair.chain) for pair in pairs] == [
        (certificate.path, certificate.certificates[0], ())
    ]
    assert problems == {}
    assert pair_up([key], START) == ([], {key.path: "its private key fits no certificate here"})
    assert pair_up([certificate], START) == (
        [],
        {certificate.path: "no private key here fits the certificate of a.example, 192.0.2.1"},
    )


def test_copies_make_one_pair(tmp_path: Path, content: bytes) -> None:
    files = [tmp_path / "a.pem", tmp_path / "b.pem"]
    for file in files:
        file.write_bytes(content)
    pairs, problems = pair_up(map(read_pem, files), START)
    assert [pair.path for pair in pairs] == files[:1]
    assert problems == {}


def test_an_encrypted_key_is_never_asked_a_password_for(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(content.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"))
    with pytest.raises(PemError, match="the private key is encrypted"):
        read_pem(path)
    header = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n"
    path.write_bytes(header + b"-----END EC PRIVATE KEY-----\n")
    with pytest.raises(PemError, match="the private key is encrypted"):
        read_pem(path)
