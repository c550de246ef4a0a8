"""The routing that is named on the command line; and Django, which is a stand-in here that says what is asked of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.loading import load_routing

LOAD = """
import os, sys
from pathlib import Path
from twisted_chat.consumers.loading import load_routing
loaded = load_routing(sys.argv[1], os.environ, Path.cwd())
if loaded.around:
    loaded.around()
print(sorted(loaded.router.channels()), "django" in sys.modules)
"""


def run(directory: Path, name: str, script: str = LOAD, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, name], cwd=directory, env=environ, capture_output=True, text=True, check=False
    )


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "application.py").write_text(
        "def consumer(message): ...\n\n\nclass Place:\n    routing = {'mine': consumer}\n\n\nrouting = Place.routing\n"
    )
    return tmp_path


@pytest.fixture
def django(application: Path) -> Path:
    package = application / "django"
    package.mkdir()
    (package / "__init__.py").write_text("def setup():\n    print('set up')\n")
    (package / "db.py").write_text("def close_old_connections():\n    print('closed')\n")
    return application


@pytest.mark.parametrize("name", ["application:routing", "application:Place.routing"])
def test_without_django_it_is_never_imported(django: Path, name: str) -> None:
    result = run(django, name)
    assert result.stdout == "['mine'] False\n", result.stderr


def test_with_django(django: Path) -> None:
    result = run(django, "application:routing", DJANGO_SETTINGS_MODULE="mysite.settings")
    assert result.stdout == "set up\nclosed\n['mine'] True\n", result.stderr


def test_settings_without_django(application: Path) -> None:
    hidden = f"import sys; sys.modules['django'] = None\n{LOAD}"
    result = run(application, "application:routing", hidden, DJANGO_SETTINGS_MODULE="mysite.settings")
    assert "DJANGO_SETTINGS_MODULE is 'mysite.settings', and Django is not installed here" in result.stderr


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "broken", "'broken' will not do; give MODULE:NAME"),
        ("", "no_such_module:routing", "no_such_module:routing: ModuleNotFoundError: No module named 'no_such_module'"),
        ("", "broken:routing", "broken:routing: AttributeError: module 'broken' has no attribute 'routing'"),
        ("x = 1\nimport nothing_there", "broken:x", "No module named 'nothing_there' (.*broken.py, line 2)"),
        ("import json\njson.loads('{')", "broken:x", "broken:x: JSONDecodeError: .*broken.py, line 2)"),
        ("x = 1\n1 / 0", "broken:x", "broken:x: ZeroDivisionError: division by zero (.*broken.py, line 2)"),
        ("x = {'a': 7}", "broken:x", "broken:x: the consumer of a cannot be called: 7"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, said: str
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(RoutingError) as error:
        load_routing(name, {}, tmp_path)
    message = str(error.value)
    assert "\n" not in message
    beginning, _, end = said.partition(".*")
    assert beginning in message
    assert message.endswith(end)
    sys.modules.pop("broken", None)
