"""The command line of ``twistd chat``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from twisted_chat import __version__
from twisted_chat.config import Config, ConfigError, default
from twisted_chat.core.limits import Rate
from twisted_chat.options import Options
from twisted_chat.settings import BY_NAME, GROUPS, SETTINGS


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("TWISTED_CHAT_", "CREDENTIALS_")):
            monkeypatch.delenv(name)


def parse(*arguments: str) -> Config:
    options = Options()
    options.parseOptions(list(arguments))
    return options.config


def complaint(*arguments: str) -> str:
    with pytest.raises(SystemExit) as error:
        parse(*arguments)
    assert isinstance(error.value.code, str)
    assert "\n" not in error.value.code
    return error.value.code


def test_no_options() -> None:
    assert parse() == Config()


def test_options() -> None:
    config = parse(
        *("--port", "tcp:1", "-p", "tls:2", "--relay=memory:", "--self-signed", "--drain", "5s"),
        *("--limit-messages-per-connection", "1:2", "--allow-origin", "https://a.example"),
    )
    assert config.port == ("tcp:1", "tls:2")
    assert config.relay == ("memory:",)
    assert config.self_signed
    assert config.drain == 5.0
    assert config.limits.messages_per_connection == Rate(1.0, 2)
    assert config.allow_origin == ("https://a.example",)


def test_the_last_of_several_counts_where_there_can_be_one() -> None:
    assert parse("--drain", "1", "--drain", "2").drain == 2.0


def test_options_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chat.toml"
    file.write_text("drain = 1\nhistory-count = 1\nlog-format = 'json'\n")
    monkeypatch.setenv("TWISTED_CHAT_HISTORY_COUNT", "2")
    config = parse("--config", str(file), "--drain", "3")
    assert (config.drain, config.history_count, config.log_format) == (3.0, 2, "json")


def test_what_is_reloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "chat.toml"
    file.write_text("drain = 1\nhistory-count = 1\n")
    options = Options()
    options.parseOptions(["--config", str(file), "--drain", "3"])
    file.write_text("drain = 4\nhistory-count = 5\n")
    config = options.reload()
    assert (config.drain, config.history_count) == (3.0, 5)
    assert options.config.history_count == 1, "what was read at first is still there"
    file.write_text("drain =")
    with pytest.raises(ConfigError, match="is not TOML"):
        options.reload()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--histroy-age", "1"],
            "there is no option --histroy-age; did you mean 'history-age'? See twistd chat --help",
        ),
        (["--xyzzy"], "there is no option --xyzzy. See twistd chat --help"),
        (["-z"], "option -z not recognized. See twistd chat --help"),
        (["--relay"], "option --relay requires argument. See twistd chat --help"),
        (["--self-signed=no"], "option --self-signed must not have an argument. See twistd chat --help"),
        (["start"], "'start': only options are taken here, see twistd chat --help"),
        (["--drain", "soon"], "--drain: 'soon' will not do; give seconds from 0 up, or for example 90s, 15m, 12h, 7d"),
        (["--config", "nowhere.toml"], "--config: nowhere.toml cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_ends_with_one_line(arguments: list[str], said: str) -> None:
    assert complaint(*arguments) == f"twistd chat: {said}"


def test_help_names_every_setting_and_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = re.sub(r"\s+", " ", str(Options()))
    for setting in SETTINGS:
        assert f"--{setting.name}" in text
        if default(setting) and not setting.is_switch:
            assert f"[default: {default(setting)}]" in text
    assert "-p, --port ENDPOINT" in text
    assert "--config FILE" in text


def test_every_setting_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(BY_NAME)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse("--version")
    assert error.value.code == 0
    assert capsys.readouterr().out == f"twisted_chat {__version__}\n"
