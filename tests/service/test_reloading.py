"""SIGHUP: what is read again, and what stays when that is wrong."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.logger import Logger

from tests.application import Application
from tests.service.conftest import Built
from twisted_chat.auth import SigningKey, make_token
from twisted_chat.config import Config, ConfigError

CONFIG = Config(port=("tcp:8080:interface=127.0.0.1",), relay=("memory:",), drain=4.0)


def key_file(path: Path) -> Path:
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path


def test_a_reload(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_file(tmp_path / "key")
    config = replace(CONFIG, token_key_file=key)
    configs = [config]
    failing: list[Exception] = []

    def reload() -> Config:
        if failing:
            raise failing.pop()
        return configs[-1]

    built = build(config, reload=reload)
    built.start()

    def status() -> bytes:
        token = make_token(SigningKey.from_file(key), "u1", now=0.0)
        headers = f"Host: chat.example\r\nOrigin: https://site.example\r\nAuthorization: Bearer {token}\r\n"
        return built.get("/chat/lobby", headers=headers)[9:12]

    assert status() == b"421"
    configs.append(replace(config, allow_host=("chat.example",)))
    built.service.reload()
    assert status() == b"403"
    configs.append(replace(configs[-1], allow_origin=("https://site.example",)))
    built.service.reload()
    assert said()[-1].startswith("certificates, keys, origins, hosts and log level reloaded; other settings change")
    assert status() == b"200"
    key_file(key)
    assert status() == b"401"
    built.service.reload()
    assert status() == b"200"

    failing.append(ConfigError("chat.toml: there is no setting 'x'"))
    built.service.reload()
    assert said()[-1] == "not reloaded, what was in use stays: chat.toml: there is no setting 'x'"
    assert status() == b"200"
    configs.append(replace(config, allow_origin=("wrong",), token_key_file=None))
    built.service.reload()
    assert said()[-1].startswith("not reloaded, what was in use stays: 'wrong' is no origin to allow")
    assert status() == b"200"
    configs.append(replace(config, allow_host=("wrong:80",), token_key_file=None))
    built.service.reload()
    assert said()[-1].startswith("not reloaded, what was in use stays: 'wrong:80' is no host to allow")
    assert status() == b"200"


def test_certificates_are_reloaded_with_the_rest(
    build: Callable[..., Built], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    built = build(replace(CONFIG, port=("tls:443",), self_signed=True), environ={"STATE_DIRECTORY": str(tmp_path)})
    (tmp_path / "self-signed" / "self-signed.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    built.service.reload()
    assert any("self-signed.pem: cut off, or still being written" in line for line in said())


def test_the_level_of_the_log(build: Callable[..., Built], tmp_path: Path) -> None:
    levels = ["debug"]
    file, application = tmp_path / "log", Application()
    built = build(reload=lambda: replace(CONFIG, log_level=levels[-1]), twistd={"logfile": str(file)})
    built.service.setServiceParent(application)
    source = Logger("here", observer=application.observer)
    source.debug("too early")
    built.service.reload()
    source.debug("seen")
    levels.append("error")
    built.service.reload()
    source.warn("too late")
    assert [line.split()[-1] for line in file.read_text().splitlines()] == ["seen"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_sighup_reloads(build: Callable[..., Built], said: Callable[[], list[str]]) -> None:
    before = signal.getsignal(signal.SIGHUP)
    built = build()
    built.start()
    assert signal.getsignal(signal.SIGHUP) is before, "not before the reactor runs"
    try:
        built.reactor.run()
        signal.raise_signal(signal.SIGHUP)
        assert said()[-1].startswith("certificates, keys, origins, hosts and log level reloaded")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_sighup_nothing_listens_for_it(build: Callable[..., Built], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    built = build()
    built.start()
    assert built.reactor.whenRunningHooks == []
