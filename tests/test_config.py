"""Settings: where they are read from, how their texts are read, and what is said about mistakes."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_chat.config import BY_NAME, SETTINGS, Config, ConfigError, Setting, default, did_you_mean, load
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.relay.interface import HistoryLimits


def value(name: str, *texts: str) -> Any:
    """What a setting is when it is given like this."""
    setting = BY_NAME[name]
    config = load({name: texts}, {})
    if name.startswith("limit-"):
        return getattr(config.limits, setting.attribute.removeprefix("limit_"))
    return getattr(config, setting.attribute)


def complaint(given: Mapping[str, Sequence[str]], environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(given, environ or {})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chat.toml"


def refused(file: Path, text: str) -> str:
    """What is said about a file with this in it."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load({}, {}, file)
    assert "\n" not in str(error.value)
    return str(error.value)


# Where settings come from


def test_nothing_is_everything_by_default() -> None:
    assert load({}, {}) == Config()
    assert Config().history == HistoryLimits()
    assert Config().limits == Limits()


def test_an_option_goes_before_the_environment_and_that_before_the_file(file: Path) -> None:
    file.write_text('drain = 1\nlog-format = "json"\ntrusted-proxies = 1\n')
    environ = {"TWISTED_CHAT_DRAIN": "2", "TWISTED_CHAT_LOG_FORMAT": "text", "OTHER": "x"}
    config = load({"drain": ["3"]}, environ, file)
    assert (config.drain, config.log_format, config.trusted_proxies) == (3.0, "text", 1)


def test_lists_replace_each_other(file: Path) -> None:
    file.write_text('port = ["tcp:1", "tcp:2"]\n')
    assert load({}, {}, file).port == ("tcp:1", "tcp:2")
    assert load({}, {"TWISTED_CHAT_PORT": " tcp:3  tcp:4 "}, file).port == ("tcp:3", "tcp:4")
    assert load({"port": ["tcp:5"]}, {"TWISTED_CHAT_PORT": "tcp:3"}, file).port == ("tcp:5",)


def test_the_environment_names_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text("drain = 7\n")
    assert load({}, {"TWISTED_CHAT_CONFIG": str(file)}).drain == 7.0
    (tmp_path / "other.toml").write_text("drain = 8\n")
    assert load({}, {"TWISTED_CHAT_CONFIG": str(file)}, tmp_path / "other.toml").drain == 8.0, "an option names another"


def test_what_a_file_says_in_its_own_types(file: Path) -> None:
    file.write_text(
        'self-signed = true\nport = "tcp:1"\ndrain = 2.5\nlimit-connections = 5\n'
        'allow-origin = ["https://a.example", "https://b.example"]\n'
        'limit-messages-per-connection = "2.5:7"\ndatabase-bytes = "2m"\ncertificates = "live"\n'
    )
    config = load({}, {}, file)
    assert config.self_signed
    assert config.port == ("tcp:1",)
    assert config.drain == 2.5
    assert config.allow_origin == ("https://a.example", "https://b.example")
    assert config.database_bytes == 2 << 20
    assert config.certificates == Path("live")
    assert (config.limits.connections, config.limits.messages_per_connection) == (5, Rate(2.5, 7))


def test_systemd_hands_keys_over_by_name(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load({}, environ) == Config()
    (tmp_path / "token-key").touch()
    (tmp_path / "api-keys").touch()
    config = load({}, environ)
    assert (config.token_key_file, config.api_key_file) == (tmp_path / "token-key", tmp_path / "api-keys")
    assert load({"token-key-file": ["other"]}, environ).token_key_file == Path("other")


# Mistakes


def test_a_mistake_names_its_place(file: Path) -> None:
    right = "give seconds from 0 up, or for example 90s, 15m, 12h, 7d"
    assert complaint({"drain": ["soon"]}) == f"--drain: 'soon' will not do; {right}"
    assert complaint({}, {"TWISTED_CHAT_DRAIN": "soon"}) == f"TWISTED_CHAT_DRAIN: 'soon' will not do; {right}"
    assert refused(file, 'drain = "soon"') == f"{file}: drain: 'soon' will not do; {right}"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TWISTED_CHAT_DRIAN", "; did you mean 'drain'?"),
        ("TWISTED_CHAT_LIMIT_CONNECTION", "; did you mean 'limit-connections'?"),
        ("TWISTED_CHAT_XYZZY", ""),
        ("TWISTED_CHAT_", ""),
    ],
)
def test_an_unknown_variable(variable: str, meant: str) -> None:
    assert complaint({}, {variable: "1"}) == f"{variable}: there is no such setting{meant}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = [", "--config: {file} is not TOML: "),
        ("\ufeffport = 'tcp:1'", "--config: {file} is not TOML: "),
        ("ports = 'tcp:1'", "{file}: there is no setting 'ports'; did you mean 'port'?"),
        ("[chat]\ndrain = 1", "{file}: there is no setting 'chat'"),
        ("drain = {}", "{file}: drain: give text, a number, true or false, or a list of texts"),
        ("drain = 2026-11-22", "{file}: drain: give text, a number, true or false, or a list of texts"),
        ("port = [['tcp:1']]", "{file}: port: give text, a number, true or false, or a list of texts"),
        ("port = []", "{file}: port: it may not be empty"),
        ("drain = [1, 2]", "{file}: drain: give it once"),
        ("drain = []", "{file}: drain: give it once"),
        ("drain = true", "{file}: drain: 'yes' will not do; give seconds"),
        ("self-signed = 'perhaps'", "{file}: self-signed: 'perhaps' will not do; say yes or no"),
        ("relay = ''", "{file}: relay: '' will not do; it may not be empty"),
    ],
)
def test_what_is_wrong_with_a_file(file: Path, text: str, said: str) -> None:
    assert refused(file, text).startswith(said.format(file=file))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as error:
            load({}, {}, path)
        assert str(error.value) == f"--config: {path} cannot be read: {why}"
    (tmp_path / "latin-1.toml").write_bytes("relay = 'sqlite:é'".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not TOML: "):
        load({}, {}, tmp_path / "latin-1.toml")


@pytest.mark.parametrize("name", ["drain", "log-format"])
def test_what_is_given_twice(name: str) -> None:
    assert complaint({name: ["1", "2"]}).startswith(f"--{name}: ")


def test_the_variable_that_others_use_for_redis() -> None:
    environ = {"REDIS_URL": "redis://cache.example/1"}
    assert load({}, environ).relay == ("redis://cache.example/1",)
    assert load({"relay": ["memory:"]}, environ).relay == ("memory:",)
    assert load({}, environ | {"TWISTED_CHAT_RELAY": "redis://a redis://b"}).relay == ("redis://a", "redis://b")
    assert load({}, {"REDIS_URL": ""}).relay == ("sqlite:",)


def test_an_empty_list() -> None:
    assert complaint({}, {"TWISTED_CHAT_PORT": "  "}) == "TWISTED_CHAT_PORT: it may not be empty"


# How texts are read


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("15m", 900.0), ("12h", 43_200.0), ("7d", 604_800.0), ("0", 0.0)],
)
def test_seconds(text: str, seconds: float) -> None:
    assert value("drain", text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1w", "inf", "nan", "1e999", "1m30s"])
def test_no_seconds(text: str) -> None:
    assert "give seconds from 0 up" in complaint({"drain": [text]})


def test_the_least_of_seconds_is_said() -> None:
    assert value("limit-handshake-timeout", "0.1") == 0.1
    assert "give seconds from 0.1 up" in complaint({"limit-handshake-timeout": ["0.05"]})


@pytest.mark.parametrize(("text", "count"), [("65536", 65_536), ("64k", 65_536), ("2M", 2 << 20), ("1g", 1 << 30)])
def test_bytes(text: str, count: int) -> None:
    assert value("limit-body-bytes", text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5k", "1kb", "100", "1_000_000"])
def test_no_bytes(text: str) -> None:
    assert "give bytes from 1024 up, or for example 64k, 16m, 2g" in complaint({"limit-body-bytes": [text]})


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "17", "²", "1_0", " 1"])
def test_no_whole_number(text: str) -> None:
    assert "give a whole number from 0 to 16" in complaint({"trusted-proxies": [text]})


def test_a_whole_number_without_upper_bound() -> None:
    assert value("limit-connections", "123456789") == 123_456_789
    assert "give a whole number from 1 up" in complaint({"limit-connections": ["0"]})
    assert "give a whole number from 1 up" in complaint({"limit-connections": ["9" * 5_000]}), "however long it is"


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
    assert "give messages per second, and after a colon" in complaint({"limit-messages-per-address": [text]})


@pytest.mark.parametrize(
    ("text", "on"), [("yes", True), ("TRUE", True), ("on", True), ("1", True), ("no", False), ("0", False)]
)
def test_switches(text: str, on: bool) -> None:
    assert load({}, {"TWISTED_CHAT_SELF_SIGNED": text}).self_signed is on


def test_choices() -> None:
    assert value("log-format", "json") == "json"
    assert complaint({"log-format": ["xml"]}) == "--log-format: 'xml' will not do; choose from text, json"
    assert value("log-level", "warn") == "warn"
    assert complaint({"log-level": ["loud"]}) == (
        "--log-level: 'loud' will not do; choose from debug, info, warn, error"
    )


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(SETTINGS), st.text())
def test_any_text_is_a_value_or_a_readable_complaint(setting: Setting, text: str) -> None:
    try:
        load({setting.name: [text]}, {})
    except ConfigError as error:
        said = str(error)
    else:
        return
    assert said.startswith(f"--{setting.name}: {text!r} will not do; ")


# The table itself


def test_every_setting_reads_what_it_has_by_default() -> None:
    for setting in SETTINGS:
        text = default(setting)
        if text:
            texts = text.split() if setting.many else [text]
            assert load({setting.name: texts}, {}) == Config(), setting.name


def test_every_setting_is_a_field_and_every_field_a_setting() -> None:
    names = {setting.attribute for setting in SETTINGS}
    limits = {f"limit_{each.name}" for each in fields(Limits)}
    assert names == limits | {each.name for each in fields(Config)} - {"limits"}


def test_names_are_one_in_all_places() -> None:
    setting = BY_NAME["limit-messages-per-address"]
    assert (setting.attribute, setting.variable) == (
        "limit_messages_per_address",
        "TWISTED_CHAT_LIMIT_MESSAGES_PER_ADDRESS",
    )
    assert not setting.is_switch
    assert BY_NAME["self-signed"].is_switch


def test_the_example_file_has_every_setting_with_its_default() -> None:
    example = Path(__file__).parents[1] / "etc" / "twisted-chat.toml"
    assert tomllib.loads(example.read_text(encoding="utf-8")) == {}, "it changes nothing as it is"
    lines = [line[1:] for line in example.read_text(encoding="utf-8").splitlines() if line[:1] == "#" != line[1:2]]
    table = tomllib.loads("\n".join(line for line in lines if not line.startswith(" ")))
    assert table.keys() == BY_NAME.keys()


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert value("processes", "3") == 3
    assert complaint({"processes": ["many"]}).endswith("'many' will not do; give a whole number from 1 to 256, or auto")
    assert complaint({"processes": ["0"]}).startswith("--processes: '0' will not do")
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
