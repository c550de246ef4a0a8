from __future__ import annotations

import os
from pathlib import Path

import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from twisted_chat.auth.files import LARGEST, KeyFile, KeyFileError

POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")


def test_content_is_stripped(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xef\xbb\xbf \nkey\r\n")
    assert KeyFile.read(path).content == b"key"
    assert KeyFile.read(str(path)).content == b"key"


def test_what_cannot_be_read_names_the_file_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    with pytest.raises(KeyFileError) as refused:
        KeyFile.read(path)
    assert str(refused.value) == f"the key file {path} cannot be read: No such file or directory"
    with pytest.raises(KeyFileError, match="cannot be read: "):
        KeyFile.read(tmp_path)
    with pytest.raises(KeyFileError, match="cannot be read: "):
        KeyFile.read("null\0byte")


def test_large_files_are_no_key_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * LARGEST)
    assert len(KeyFile.read(path).content) == LARGEST
    path.write_bytes(b"k" * (LARGEST + 1))
    with pytest.raises(KeyFileError, match="is larger than 262144 bytes"):
        KeyFile.read(path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(("\ufeff" + "k" * 64).encode(encoding))
    with pytest.raises(KeyFileError, match="is UTF-16 text; save it as UTF-8"):
        KeyFile.read(path)


@POSIX
@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_secret_that_everyone_can_read_is_logged(tmp_path: Path, mode: int, warned: bool) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"hush")
    path.chmod(mode)
    with capturedLogs() as events:
        KeyFile.read(path).warn_if_exposed()
    lines = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
    expected = f"every user of this machine can read the secret in {path}; make it private: chmod 600 {path}"
    assert lines == ([expected] if warned else [])


def test_the_content_does_not_show(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"hush")
    assert "hush" not in repr(KeyFile.read(path))
