from __future__ import annotations

import hmac
import re
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.auth import ApiKeys, KeyFileError
from twisted_chat.core.errors import ChatError, Reason

ONE, TWO = "0123456789abcdef", "fedcba9876543210:/+=#"


def key_file(directory: Path, content: str) -> Path:
    path = directory / "api-keys"
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_each_key_of_the_file_is_good(tmp_path: Path) -> None:
    keys = ApiKeys.from_file(key_file(tmp_path, f"# of the shop\n{ONE}\n\n  # of the tests\r\n  {TWO}  \n"))
    keys.check(ONE)
    keys.check(TWO)
    assert repr(keys) == "<ApiKeys: 2>"


@pytest.mark.parametrize(
    "presented", ["0123456789abcde", "0123456789abcdef0", "# of the shop", " " + ONE, ONE.upper(), "\udcff", "x" * 9999]
)
def test_what_is_no_key_is_refused(presented: str) -> None:
    with pytest.raises(ChatError) as refused:
        ApiKeys([ONE, TWO]).check(presented)
    assert refused.value.reason is Reason.API_KEY_INVALID
    assert refused.value.message == "the API key is not one of this server's"


@pytest.mark.parametrize("presented", [None, ""])
def test_no_key_at_all_is_said_so(presented: str | None) -> None:
    with pytest.raises(ChatError) as refused:
        ApiKeys([ONE]).check(presented)
    assert refused.value.reason is Reason.API_KEY_INVALID
    assert refused.value.message == "this needs an API key, and none was given"


def test_without_keys_none_is_good() -> None:
    with pytest.raises(ChatError):
        ApiKeys([]).check(ONE)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = mock.Mock(side_effect=hmac.compare_digest)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    ApiKeys([ONE, TWO]).check(ONE)
    assert compare.call_count == 2


@given(st.text(), st.lists(st.text(min_size=1), max_size=5))
def test_only_the_keys_are_good(presented: str, keys: list[str]) -> None:
    if presented in keys:
        ApiKeys(keys).check(presented)
    else:
        with pytest.raises(ChatError):
            ApiKeys(keys).check(presented)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no API key; make one: openssl rand -hex 32"),
        ("# nothing\n\n", "has no API key; make one: openssl rand -hex 32"),
        (f"{ONE}\nhushhushhush\n", "has an API key of 12 characters (at least 16) in line 2"),
        (f"# long\n{'hush' * 257}\n", "has an API key of 1028 characters (at most 1024) in line 2"),
        (f"{ONE} # hush\n", "has white space or characters other than ASCII inside an API key in line 1"),
        (f"{ONE}\u00e9\n", "has white space or characters other than ASCII inside an API key in line 1"),
        ("\n".join(f"{number:016}" for number in range(257)), "has 257 API keys, and 256 are the most"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, content: str, message: str) -> None:
    path = key_file(tmp_path, content)
    with pytest.raises(KeyFileError, match=re.escape(f"the key file {path} {message}")) as refused:
        ApiKeys.from_file(path)
    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)
