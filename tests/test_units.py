"""The files for operators: systemd units and the sample configuration, held against the programs that read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twisted_chat.config import Config, default, load
from twisted_chat.core.limits import Limits
from twisted_chat.options import WorkerOptions
from twisted_chat.settings import SETTINGS

ETC = Path(__file__).parent.parent / "etc"
SERVICE = ETC / "systemd" / "twisted-chat.service"
WORKER = ETC / "systemd" / "twisted-chat-worker@.service"
SOCKET = ETC / "systemd" / "twisted-chat.socket"
INSTANCES = ETC / "systemd" / "twisted-chat@.socket"
INSTANCE = ETC / "systemd" / "twisted-chat@.service.d"
SAMPLE = ETC / "twisted-chat.toml"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def unit(path: Path) -> RawConfigParser:
    """A unit's sections; of a key that is there twice, the last value."""
    parser = RawConfigParser(strict=False, delimiters=["="], comment_prefixes=["#"], empty_lines_in_values=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's documentation does it
    parser.read(path, encoding="utf-8")
    return parser


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with a program at the place of ours: `verify` wants one."""
    for path in (SERVICE, WORKER):
        text = path.read_text(encoding="utf-8")
        moved = text.replace("ExecStart=/opt/twisted-chat/bin/twistd ", f"ExecStart={sys.executable} ")
        assert moved != text
        tmp_path.joinpath(path.name).write_text(moved, encoding="utf-8")
    shutil.copy(SOCKET, tmp_path)
    # And what the documentation makes of them for a service for each core.
    shutil.copy(tmp_path / SERVICE.name, tmp_path / "twisted-chat@.service")
    shutil.copy(INSTANCES, tmp_path)
    shutil.copytree(INSTANCE, tmp_path / INSTANCE.name)
    return tmp_path


@needs_systemd
@pytest.mark.parametrize(
    "name", [SERVICE.name, WORKER.name, SOCKET.name, "twisted-chat@1.service", "twisted-chat@1.socket"]
)
def test_systemd_takes_the_units(installed: Path, name: str) -> None:
    result = analyze("verify", "--man=no", installed / name)
    # It may complain about units of the system that it runs on; those are not ours to judge.
    complaints = [line for line in result.stderr.splitlines() if "twisted-chat" in line]
    assert complaints == []


@needs_systemd
def test_what_systemd_does_not_know_is_found(installed: Path) -> None:
    service = installed / SERVICE.name
    service.write_text(service.read_text(encoding="utf-8").replace("[Service]", "[Service]\nNonsense=yes"), "utf-8")
    assert "Nonsense" in analyze("verify", "--man=no", service).stderr


@needs_systemd
@pytest.mark.parametrize("name", [SERVICE.name, WORKER.name])
def test_the_services_are_hardened(installed: Path, name: str) -> None:
    if "--offline" not in analyze("--help").stdout:
        pytest.skip("systemd before 250 rates only units that it has loaded")
    result = analyze("security", "--offline=yes", "--threshold=20", "--no-pager", installed / name)
    assert "Overall exposure level" in result.stdout, result.stderr
    assert result.returncode == 0, result.stdout


def test_the_service_starts_what_setup_installs() -> None:
    service = unit(SERVICE)["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/bin/twistd")
    assert arguments == ["--nodaemon", "--pidfile=", "chat", "--config", "/etc/twisted-chat.toml"]


def test_the_worker_starts_what_setup_installs() -> None:
    service = unit(WORKER)["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program == unit(SERVICE)["Service"]["ExecStart"].split()[0]
    assert arguments == ["--nodaemon", "--pidfile=", "chat-worker", "--config", "/etc/twisted-chat.toml"]


@pytest.mark.parametrize("path", [SERVICE, WORKER], ids=lambda path: path.name)
def test_systemd_waits_longer_than_a_stop_may_take(path: Path) -> None:
    assert float(unit(path)["Service"]["TimeoutStopSec"]) > Config().drain + 5


def test_there_are_descriptors_for_all_connections() -> None:
    assert int(unit(SERVICE)["Service"]["LimitNOFILE"]) >= 2 * Limits().connections


def test_the_socket_has_the_name_that_the_files_say() -> None:
    name = unit(SOCKET)["Socket"]["FileDescriptorName"]
    for path in (SERVICE, SOCKET, SAMPLE):
        assert f'"tls:systemd:domain=INET6:name={name}"' in path.read_text(encoding="utf-8")


def test_the_sockets_of_instances_share_a_port() -> None:
    one, many = unit(SOCKET)["Socket"], unit(INSTANCES)["Socket"]
    assert dict(many) == dict(one) | {"ReusePort": "yes"}


@needs_systemd
def test_a_mistake_in_what_makes_an_instance_is_found(installed: Path) -> None:
    drop_in = installed / INSTANCE.name / "instance.conf"
    drop_in.write_text(drop_in.read_text(encoding="utf-8") + "Nonsense=yes\n", encoding="utf-8")
    assert "Nonsense" in analyze("verify", "--man=no", installed / "twisted-chat@1.service").stderr


def test_the_socket_is_no_part_of_the_service() -> None:
    """The service must start where the socket is not used."""
    service = unit(SERVICE)
    for key in ("Requires", "Wants", "BindsTo"):
        assert "twisted-chat.socket" not in service["Unit"].get(key, "")
    assert "Sockets" not in service["Service"]


def uncommented() -> dict[str, str]:
    """The lines of the sample that set something."""
    text = SAMPLE.read_text(encoding="utf-8")
    found = re.findall(r"^#(([a-z-]+) = .+)$", text, re.MULTILINE)
    lines = {name: line for line, name in found}
    assert len(lines) == len(found), "a setting is there twice"
    return lines


def test_the_sample_has_every_setting() -> None:
    assert sorted(uncommented()) == sorted(setting.name for setting in SETTINGS)


def test_the_sample_sets_nothing() -> None:
    assert load({}, {}, SAMPLE) == Config()


def test_the_sample_says_the_defaults(tmp_path: Path) -> None:
    lines = uncommented()
    without_default = {setting.name for setting in SETTINGS if not default(setting)}
    path = tmp_path / "defaults.toml"
    path.write_text("\n".join(line for name, line in lines.items() if name not in without_default), encoding="utf-8")
    assert load({}, {}, path) == Config()


def test_the_examples_of_the_sample_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "examples.toml"
    path.write_text("\n".join(uncommented().values()), encoding="utf-8")
    config = load({}, {}, path)
    assert config.admin_port == "tcp:9100:interface=127.0.0.1"
    assert config.allow_origin == ("https://example.org", "https://*.example.org")
    assert config.certificates == Path("/etc/letsencrypt/live")
    bare = [setting for setting in SETTINGS if not default(setting)]
    limits: dict[str, Any] = {setting.limit: None for setting in bare if setting.limit is not None}
    fields = {setting.attribute: getattr(Config(), setting.attribute) for setting in bare if setting.limit is None}
    assert limits
    assert replace(config, **fields, limits=replace(config.limits, **limits)) == Config()


def test_a_worker_may_wait_for_redis() -> None:
    assert unit(WORKER)["Service"]["TimeoutStartSec"] == "infinity"


def test_workers_have_admin_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = WORKER.read_text(encoding="utf-8")
    found = re.search(r"^#   Environment=TWISTED_CHAT_ADMIN_PORT=(\S+)$", text, re.MULTILINE)
    assert found is not None
    assert f"TWISTED_CHAT_ADMIN_PORT={found[1]}\n" in (ETC.parent / "docs" / "consumers.rst").read_text(
        encoding="utf-8"
    )
    endpoints = set()
    for number in "12":
        monkeypatch.setenv("TWISTED_CHAT_ADMIN_PORT", found[1].replace("%i", number))
        options = WorkerOptions()
        options.parseOptions(["--config", str(SAMPLE)])
        assert options.config.admin_port is not None
        endpoints.add(options.config.admin_port)
    assert endpoints == {f"tcp:910{number}:interface=127.0.0.1" for number in "12"}
