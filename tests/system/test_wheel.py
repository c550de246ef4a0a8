"""What is installed: a wheel, in an environment of its own, has everything that a server needs, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

import twisted_chat
from tests.twistd import until

PATIENCE = 120.0
SOURCES = Path(twisted_chat.__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command says that succeeds."""
    ended = subprocess.run(
        command, cwd=cwd, env=_environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TWISTED_CHAT_"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what a build leaves behind does not get into the checkout."""
    if not (SOURCES / "setup.py").exists():
        pytest.skip("needs the sources")
    copy = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(SOURCES / name, copy)
    for name in ("twisted_chat", "twisted", "tests"):
        leftovers = shutil.ignore_patterns("__pycache__", ".*", "dropin.cache")
        shutil.copytree(SOURCES / name, copy / name, ignore=leftovers)
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-build-isolation"),
            *("--no-index", "--no-deps", "--wheel-dir", "dist", "."),
        ],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (path,) = (copy / "dist").iterdir()
    return path


def test_what_is_in_it(wheel: Path) -> None:
    assert re.fullmatch(r"twisted_chat-[0-9.]+-py3-none-any\.whl", wheel.name)
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        assert re.search("^License(-Expression)?: MIT$", archive.read(metadata).decode(), re.MULTILINE)
    package = {
        str(path.relative_to(SOURCES))
        for path in (SOURCES / "twisted_chat").rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.parts[1:])
    }
    plugin = "twisted/plugins/twisted_chat_plugin.py"
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed == {*package, plugin}, "no tests, and above all no twisted/plugins/__init__.py"


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it; what the wheel depends on is ours."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, symlinks=os.name == "posix")
    executable = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = (sys.executable, "-m", "pip", "--python", str(executable))
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=directory)
    site = run(executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=directory).strip()
    # Our own .pth files, and with them the editable install of the checkout, are not read from there.
    ours = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    Path(site, "dependencies.pth").write_text("\n".join(ours), encoding="utf-8")
    return executable


TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


@contextmanager
def serving(python: Path, directory: Path, port: int) -> Iterator[Callable[[], str]]:
    """A server of the wheel; its log."""
    command = [str(python), "-c", TWISTD, "-n", "--pidfile=", "chat", "-p", f"tcp:{port}:interface=127.0.0.1"]
    log = directory / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=directory, env=_environment(), stdout=file, stderr=file) as process,
    ):
        try:
            yield log.read_text
        finally:
            process.terminate()


def test_it_serves(python: Path, tmp_path: Path, port: int) -> None:
    where = run(python, "-c", "import twisted_chat; print(twisted_chat.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(python.parents[1]), "and not from the checkout"
    assert re.search(r"^ +chat +\S", run(python, "-c", TWISTD, "--help", cwd=tmp_path), re.MULTILINE)
    assert run(python, "-m", "twisted_chat", "--version", cwd=tmp_path) == f"twisted_chat {twisted_chat.__version__}\n"
    with (
        serving(python, tmp_path, port) as log,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as client,
    ):
        until(lambda: "open http://" in log())
        assert client.post("/chat/lobby", json={"handle": "ann", "message": "hi"}).status_code == 201
        page = client.get("/chat/lobby", headers={"accept": "text/html"}).text
        files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
        assert len(files) > 2
        assert {client.get(file).status_code for file in [*files, "/static/chat-client.js"]} == {200}
