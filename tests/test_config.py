"""Where settings are read from, and what is said about mistakes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.config import Config, ConfigError, default, load
from twisted_chat.core.limits import Limits, Rate
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.settings import BY_NAME, SETTINGS, Setting


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


# All settings


@given(st.sampled_from(SETTINGS), st.text())
def test_any_text_is_a_value_or_a_readable_complaint(setting: Setting, text: str) -> None:
    try:
        load({setting.name: [text]}, {})
    except ConfigError as error:
        said = str(error)
    else:
        return
    assert said.startswith(f"--{setting.name}: {text!r} will not do; ")


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


def test_the_example_file_has_every_setting_with_its_default() -> None:
    example = Path(__file__).parents[1] / "etc" / "twisted-chat.toml"
    assert tomllib.loads(example.read_text(encoding="utf-8")) == {}, "it changes nothing as it is"
    lines = [line[1:] for line in example.read_text(encoding="utf-8").splitlines() if line[:1] == "#" != line[1:2]]
    table = tomllib.loads("\n".join(line for line in lines if not line.startswith(" ")))
    assert table.keys() == BY_NAME.keys()
