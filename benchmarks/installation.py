"""Everything that the benchmarks need besides the project: compiled, or installed, into `BUILD`, which git ignores.

What cannot be had is `MissingError`: whoever needs it is left out of the run, and named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE / "native"
PEERS: Final = HERE / "peers"
BUILD: Final = HERE / "build"
NODE_MODULES: Final = BUILD / "node" / "node_modules"
NCHAN: Final = BUILD / "nchan"

PACKAGES: Final = {
    "channels": ("daphne>=4", "channels>=4", "channels_redis>=4", "django>=5"),
    "websockets": ("websockets>=15", "uvloop"),
    "socketify": ("socketify",),
    "twisted": ("twisted[tls,http2]>=26.10",),
}
"""What pip installs for each peer written in Python."""


class MissingError(Exception):
    """One line: what is not there, and what would bring it."""


def compile_native() -> None:
    """The load generator and the servers in C, where they are older than their sources. Raises `MissingError`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingError("there is no C compiler (cc) to make the load generator; install gcc or clang")
    BUILD.mkdir(exist_ok=True)
    _compile(compiler, "wsload", "-lssl", "-lcrypto")
    _compile(compiler, "cserver", "-lcrypto")


def _compile(compiler: str, name: str, *libraries: str) -> None:
    target, sources = BUILD / name, sorted(NATIVE.glob(f"{name}*.c"))
    newest = max(path.stat().st_mtime for path in NATIVE.iterdir())
    if target.exists() and target.stat().st_mtime >= newest:
        return
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), *map(str, sources), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and ("openssl/" in done.stderr or "-lssl" in done.stderr or "-lcrypto" in done.stderr):
        raise MissingError(f"{name} cannot be compiled without the headers of OpenSSL; install libssl-dev")
    if done.returncode:
        raise RuntimeError(f"{name} does not compile:\n{done.stderr.strip()}")


def python_for(peer: str) -> str:
    """The interpreter that has this peer's packages: that of the peers' own environment. Raises `MissingError`."""
    environment = BUILD / "venv"
    python = environment / "bin" / "python"
    if not python.exists():
        _run(peer, sys.executable, "-m", "venv", str(environment))
    done = environment / f"{peer}.installed"
    wanted = "\n".join(PACKAGES[peer])
    if not done.exists() or done.read_text() != wanted:
        _run(peer, str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[peer])
        done.write_text(wanted)
    return str(python)


def node() -> str:
    """Node.js; `NODE_MODULES` has what the peers written for it need. Raises `MissingError`."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        raise MissingError("there is no Node.js with npm; install nodejs and npm")
    wanted, installed = PEERS / "package.json", NODE_MODULES.parent / "package.json"
    if not NODE_MODULES.is_dir() or not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        NODE_MODULES.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, installed)
        _run("Node.js", npm, "install", "--prefix", str(NODE_MODULES.parent), "--no-audit", "--no-fund", "--silent")
    return program


def nchan() -> tuple[str, Path]:
    """nginx and its module nchan: those of the system, else Debian's packages unpacked here. Raises `MissingError`."""
    program, module = shutil.which("nginx"), Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    if program is not None and module.exists():
        return program, module
    unpacked, module = NCHAN / "usr" / "sbin" / "nginx", NCHAN / module.relative_to("/")
    if not module.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise MissingError("there is no nginx with nchan, and no Debian to take it from")
        NCHAN.mkdir(parents=True, exist_ok=True)
        _run("nchan", "apt-get", "download", "nginx", "libnginx-mod-nchan", directory=NCHAN)
        for package in NCHAN.glob("*.deb"):
            _run("nchan", "dpkg-deb", "-x", str(package), str(NCHAN))
    return str(unpacked), module


def redis_server() -> str:
    """The program. Raises `MissingError`."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise MissingError("there is no redis-server; install redis")
    return program


def _run(what: str, *command: str, directory: Path = HERE) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MissingError(f"{what} cannot be installed: {' '.join(last) or command[0]}")
