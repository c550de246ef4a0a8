"""What the server was told to do: options, environment and file, in that order of precedence, validated once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twisted_chat.core.limits import Limits, Rate
from twisted_chat.relay.interface import HistoryLimits, WhenFull
from twisted_chat.settings import BY_NAME, ENVIRONMENT_PREFIX, SETTINGS, Setting, did_you_mean


class ConfigError(Exception):
    """One readable line: the setting, where it was given, its value, and what would be right."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that `service.ChatService` is built from. Times are seconds."""

    port: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    certificates: Path | None = None
    self_signed: bool = False
    compression: bool = False
    relay: tuple[str, ...] = ("sqlite:",)
    history_count: int = HistoryLimits().count
    history_age: float = HistoryLimits().age
    database_bytes: int = 1 << 30
    when_full: str = WhenFull.REFUSE.value
    token_key_file: Path | None = None
    token_audience: str | None = None
    api_key_file: Path | None = None
    allow_origin: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    trusted_proxies: int = 0
    routing: str | None = None
    consumers: str = "local"
    threads: int = 8
    admin_port: str | None = None
    processes: int = 1
    drain: float = 10.0
    log_format: str = "text"
    log_level: str = "info"
    limits: Limits = field(default_factory=Limits)

    @property
    def history(self) -> HistoryLimits:
        return HistoryLimits(self.history_count, self.history_age)


def default(setting: Setting) -> str:
    """A setting's default as text, for help and documents; empty where there is none."""
    config = Config()
    value = getattr(config, setting.attribute) if setting.limit is None else getattr(config.limits, setting.limit)
    match value:
        case Rate(per_second, burst):
            return f"{per_second:g}:{burst}"
        case tuple():
            return " ".join(value)
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case None:
            return ""
    return str(value)


def load(given: Mapping[str, Sequence[str]], environ: Mapping[str, str], config_file: Path | None = None) -> Config:
    """The configuration from options (`given`: setting name to texts), environment and file.

    Raises `ConfigError`.
    """
    if config_file is None and (named := environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")):
        config_file = Path(named)
    in_file = {} if config_file is None else _read_file(config_file)
    _check_environment(environ)
    values: dict[str, Any] = _from_credentials(environ)
    if environ.get("REDIS_URL"):
        values["relay"] = (environ["REDIS_URL"],)
    limits: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.name in given:
            source, texts = f"--{setting.name}", given[setting.name]
        elif setting.variable in environ:
            text = environ[setting.variable]
            source, texts = setting.variable, text.split() if setting.many else [text]
        elif setting.name in in_file:
            source, texts = f"{config_file}: {setting.name}", in_file[setting.name]
        else:
            continue
        value = _parse(setting, source, texts)
        if setting.limit is None:
            values[setting.attribute] = value
        else:
            limits[setting.limit] = value
    return replace(Config(**values), limits=Limits(**limits))


def _parse(setting: Setting, source: str, texts: Sequence[str]) -> Any:
    parsed = []
    for text in texts:
        try:
            parsed.append(setting.parse(text))
        except ValueError as error:
            raise ConfigError(f"{source}: {text!r} will not do; {error}") from None
    if setting.many:
        if not parsed:
            raise ConfigError(f"{source}: it may not be empty")
        return tuple(parsed)
    if len(parsed) != 1:
        raise ConfigError(f"{source}: give it once")
    return parsed[0]


def _read_file(path: Path) -> dict[str, list[str]]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"--config: {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: {path} is not TOML: {error}") from None
    for name in table:
        if name not in BY_NAME:
            raise ConfigError(f"{path}: there is no setting {name!r}{did_you_mean(name)}")
    return {name: _texts(f"{path}: {name}", value) for name, value in table.items()}


def _texts(source: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = []
    for item in values:
        if isinstance(item, bool):
            texts.append("yes" if item else "no")
        elif isinstance(item, str | int | float):
            texts.append(str(item))
        else:
            raise ConfigError(f"{source}: give text, a number, true or false, or a list of texts")
    return texts


def _check_environment(environ: Mapping[str, str]) -> None:
    known = {setting.variable for setting in SETTINGS} | {f"{ENVIRONMENT_PREFIX}CONFIG"}
    for variable in environ:
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known:
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", "-")
            raise ConfigError(f"{variable}: there is no such setting{did_you_mean(name)}")


def _from_credentials(environ: Mapping[str, str]) -> dict[str, Any]:
    """Key files that systemd hands over by name (LoadCredential=)."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return {}
    found = {"token_key_file": Path(directory, "token-key"), "api_key_file": Path(directory, "api-keys")}
    return {name: path for name, path in found.items() if path.exists()}
