"""How the texts of settings are read, what is said about those that will not do, and how settings are called."""

from __future__ import annotations

import os
from typing import Any

import pytest

from twisted_chat.core.limits import Rate
from twisted_chat.settings import BY_NAME, did_you_mean


def value(name: str, text: str) -> Any:
    return BY_NAME[name].parse(text)


def complaint(name: str, text: str) -> str:
    with pytest.raises(ValueError, match=r"^(give|choose|say) ") as error:
        BY_NAME[name].parse(text)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("15m", 900.0), ("12h", 43_200.0), ("7d", 604_800.0), ("0", 0.0)],
)
def test_seconds(text: str, seconds: float) -> None:
    assert value("drain", text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1w", "inf", "nan", "1e999", "1m30s"])
def test_no_seconds(text: str) -> None:
    assert "give seconds from 0 up" in complaint("drain", text)


def test_the_least_of_seconds_is_said() -> None:
    assert value("limit-handshake-timeout", "0.1") == 0.1
    assert "give seconds from 0.1 up" in complaint("limit-handshake-timeout", "0.05")


@pytest.mark.parametrize(("text", "count"), [("65536", 65_536), ("64k", 65_536), ("2M", 2 << 20), ("1g", 1 << 30)])
def test_bytes(text: str, count: int) -> None:
    assert value("limit-body-bytes", text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5k", "1kb", "100", "1_000_000"])
def test_no_bytes(text: str) -> None:
    assert "give bytes from 1024 up, or for example 64k, 16m, 2g" in complaint("limit-body-bytes", text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "17", "²", "1_0", " 1"])
def test_no_whole_number(text: str) -> None:
    assert "give a whole number from 0 to 16" in complaint("trusted-proxies", text)


def test_a_whole_number_without_upper_bound() -> None:
    assert value("limit-connections", "123456789") == 123_456_789
    assert "give a whole number from 1 up" in complaint("limit-connections", "0")
    assert "give a whole number from 1 up" in complaint("limit-connections", "9" * 5_000), "however long it is"


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10:30", Rate(10.0, 30)), ("0.5:1", Rate(0.5, 1)), ("10", Rate(10.0, 20)), ("0.1", Rate(0.1, 1))],
)
def test_rates(text: str, rate: Rate) -> None:
    assert value("limit-messages-per-address", text) == rate


@pytest.mark.parametrize(
    "text", ["", ":", "0", "0:5", "5:0", "-1:5", "inf", "nan:1", "5:1.5", "5:", "1:2:3", "fast", "1e308", "1:1e9"]
)
def test_no_rates(text: str) -> None:
    assert "give how many a second, and after a colon" in complaint("limit-messages-per-address", text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("64k:1m", Rate(65_536.0, 1 << 20)), ("1m", Rate(1_048_576.0, 2 << 20)), ("1:1", Rate(1.0, 1))],
)
def test_byte_rates(text: str, rate: Rate) -> None:
    assert value("limit-incoming-bytes-per-address", text) == rate


@pytest.mark.parametrize("text", ["", ":", "0", "0:5", "5:0", "-1:5", "1.5", "1m:", "1k:2k:3k", "fast"])
def test_no_byte_rates(text: str) -> None:
    assert "give bytes per second, and after a colon" in complaint("limit-incoming-bytes-per-address", text)


@pytest.mark.parametrize(
    ("text", "on"), [("yes", True), ("TRUE", True), ("on", True), ("1", True), ("no", False), ("0", False)]
)
def test_switches(text: str, on: bool) -> None:
    assert value("self-signed", text) is on


def test_choices() -> None:
    assert value("log-format", "json") == "json"
    assert complaint("log-format", "xml") == "choose from text, json"
    assert value("log-level", "warn") == "warn"
    assert complaint("log-level", "loud") == "choose from debug, info, warn, error"


def test_names_are_one_in_all_places() -> None:
    setting = BY_NAME["limit-messages-per-address"]
    assert (setting.attribute, setting.variable) == (
        "limit_messages_per_address",
        "TWISTED_CHAT_LIMIT_MESSAGES_PER_ADDRESS",
    )
    assert not setting.is_switch
    assert BY_NAME["self-signed"].is_switch


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert value("processes", "3") == 3
    assert complaint("processes", "many") == "give a whole number from 1 to 256, or auto"
    assert complaint("processes", "0") == "give a whole number from 1 to 256, or auto"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5, 7}, raising=False)
    assert value("processes", "auto") == 3
    # Other systems do not tell how many of them may be used.
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert value("processes", "auto") == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert value("processes", "auto") == 1


def test_what_was_meant() -> None:
    assert did_you_mean("histroy-age") == "; did you mean 'history-age'?"
    assert did_you_mean("") == ""
