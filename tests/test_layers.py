"""Who imports whom: upward imports, and I/O in the pure layers, fail here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "twisted_chat"

MAY_IMPORT: dict[str, set[str]] = {
    "core": {"core"},
    "wire": {"core", "wire"},
    "waiting": set(),
    "relay": {"core", "waiting", "relay"},
    "message_metrics": set(),
    "metrics": {"core", "message_metrics"},
    "direct": set(),
    "clock": set(),
    "garbage": {"core"},
    "subscriber": {"core", "wire", "direct"},
    "fanout": {"core", "wire", "direct", "subscriber"},
    "hub": {"core", "wire", "relay", "message_metrics", "metrics", "subscriber", "fanout"},
    "control": {"core", "relay", "hub"},
    "nodes": {"core", "relay"},
    "auth": {"core", "auth"},
    "logs": set(),
    "life": set(),
    "open_files": set(),
    "systemd": {"life"},
    "settings": {"core"},
    "config": {"core", "relay", "settings"},
    "option_help": {"config", "settings"},
    "pid_file": set(),
    "options": {"config", "option_help", "pid_file", "settings"},
    "consumers": {"core", "wire", "direct", "waiting", "relay", "metrics", "subscriber", "fanout", "hub", "consumers"},
    "server": {
        *("core", "wire", "direct", "hub", "metrics", "subscriber", "control", "nodes", "auth", "logs"),
        *("consumers", "server"),
    },
    "client": {"core", "auth"},
    "bench": {"client", "clock"},
    "testing": {"core", "consumers"},
    "listening": {"config", "auth", "open_files", "server"},
    "signals": {"listening"},
    "processes": {
        *("config", "life", "settings", "listening", "logs", "metrics", "processes", "server", "signals", "systemd"),
    },
}
"""By the first name below `twisted_chat`."""

MAY_IMPORT_ALL = {"__init__", "__main__", "chat", "service", "worker"}
"""Where all meets."""

PURE = {"core", "wire"}
IMPURE = {"twisted", "autobahn", "socket", "os", "time", "threading", "asyncio", "sqlite3", "random", "pathlib", "io"}
ONLY_INTERFACE = {"hub": "relay", "config": "relay", "control": "relay", "nodes": "relay"}
"""Who may know of relays only what `relay.interface` says."""


def modules() -> Iterator[Path]:
    yield from PACKAGE.rglob("*.py")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in modules()])
def test_imports_point_one_way(path: Path) -> None:
    here = layer(path)
    if here in MAY_IMPORT_ALL:
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "twisted_chat":
            if rest[0] == "__version__":
                continue
            assert rest[0] in MAY_IMPORT[here], f"{path.name} imports {name}"
            if ONLY_INTERFACE.get(here) == rest[0]:
                assert rest[1] == "interface", f"{path.name} imports {name}"
        elif here in PURE:
            assert top not in IMPURE, f"{path.name}, which is pure, imports {name}"


def test_four_modules_of_the_server_speak_autobahn() -> None:
    users = {path.relative_to(PACKAGE).as_posix() for path in modules() if any("autobahn" in i for i in imports(path))}
    speaking = {f"server/{name}.py" for name in ("compression", "websocket", "websocket_protocol", "websocket_reading")}
    assert users == speaking | {"bench.py"}  # which is a client


def test_twisted_s_own_http2_is_not_used() -> None:
    found = {name for path in modules() for name in imports(path)}
    assert not [name for name in found if name.startswith(("twisted.web._http2", "priority"))]


def test_the_rules_name_what_exists() -> None:
    assert {layer(path) for path in modules()} == MAY_IMPORT.keys() | MAY_IMPORT_ALL
