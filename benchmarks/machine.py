"""Where it ran, and what."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.installation import BUILD, NODE_MODULES

OURS = ("twisted-chat", "twisted", "autobahn", "h2", "txredisapi", "hiredis")
PEERS = ("daphne", "channels", "channels_redis", "django", "websockets", "uvloop", "socketify", "priority")
NODE = ("ws", "socket.io")


def facts() -> dict[str, str]:
    """Processor, number of processors, memory, kernel, whether others were using it when this was asked."""
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.machine(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{int((_line('/proc/meminfo', 'MemTotal') or '0').split()[0]) / 1048576:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "busy before it began": f"{os.getloadavg()[0]:.1f} processes",
    }


def versions() -> dict[str, str]:
    """Of what is installed, ours and the peers'."""
    found = {"Python": platform.python_version()}
    for name in OURS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found |= _of_peers() | _of_node()
    for name, command in (("Redis", "redis-server"), ("nginx", "nginx"), ("C compiler", "cc")):
        if shutil.which(command) is not None:
            done = subprocess.run(
                [command, "-v" if command == "nginx" else "--version"], capture_output=True, text=True
            )
            said = re.search(r"\d+\.\d[\w.]*", done.stdout or done.stderr)
            found[name] = said[0] if said else "unknown"
    return found


def _of_peers() -> dict[str, str]:
    python = BUILD / "venv" / "bin" / "python"
    if not python.exists():
        return {}
    done = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=False
    )
    installed = {each["name"].lower().replace("-", "_"): each["version"] for each in json.loads(done.stdout or "[]")}
    return {name: installed[name] for name in PEERS if name in installed}


def _of_node() -> dict[str, str]:
    found = {}
    if shutil.which("node") is not None:
        found["Node.js"] = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    for name in NODE:
        package = NODE_MODULES / name / "package.json"
        if package.exists():
            found[name] = json.loads(package.read_text())["version"]
    return found


def _line(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
