"""The documentation, held against the code: tables, commands in two languages, and the tour of the README, run."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from twisted_chat.config import default
from twisted_chat.consumers.metrics import ConsumerMetrics, watch_clients, watch_queue
from twisted_chat.consumers.queue import QueueLimits
from twisted_chat.core.errors import Reason
from twisted_chat.metrics import Metrics
from twisted_chat.options import Options, WorkerOptions
from twisted_chat.processes.totals import SupervisorMetrics
from twisted_chat.server.http import limits as http_limits
from twisted_chat.server.http import upgrade as websocket_upgrade
from twisted_chat.settings import SETTINGS, Setting

ROOT = Path(__file__).parent.parent
README = ROOT / "README.rst"
README_ES = ROOT / "README.es.rst"
DOCS = ROOT / "docs"
IN_SPANISH = [(DOCS / path.name, path) for path in sorted((DOCS / "es").glob("*.rst"))]
"""(English, Spanish) of each page that there is in both."""
EXAMPLES = sorted((ROOT / "examples").glob("*/README.rst"))

PATIENCE = 90.0
"""Seconds for a program to say what is expected of it; long, because the machine may be busy."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_blocks(path: Path) -> list[tuple[str, str]]:
    """(language, text) of each ``code-block``."""
    blocks = []
    lines = iter(text_of(path).splitlines())
    for line in lines:
        if not line.startswith(".. code-block:: "):
            continue
        body = itertools.takewhile(lambda inner: not inner or inner.startswith("   "), lines)
        blocks.append((line.split()[2], "\n".join(inner[3:] for inner in body).strip("\n")))
    return blocks


def commands(path: Path) -> list[str]:
    """The shell blocks, without comments, which are translated."""
    return [re.sub(r"\s+# .*", "", text) for language, text in code_blocks(path) if language == "sh"]


def prose(path: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"(?m)^\.\. code-block::.*\n(?:\n|   .*\n)*", "", text_of(path))


def literals(path: Path) -> Counter[str]:
    """How often the prose has each name of code, option or file."""
    return Counter(" ".join(name.split()) for name in re.findall(r"``([^`]+)``", prose(path)))


def linked(path: Path) -> list[str]:
    """The pages that the prose leads to, wherever they are."""
    return [Path(target).name for target in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", prose(path))]


def rows(text: str) -> list[list[str]]:
    """The cells of the first ``list-table`` in `text`, without its header; lines of a cell are joined."""
    table = text.partition(".. list-table::")[2]
    # What follows the table is not indented.
    table = re.split(r"\n(?=\S)", table, maxsplit=1)[0]
    found = [re.split(r"\n     -", row) for row in re.split(r"\n   \* -", table)[1:]]
    return [[" ".join(cell.split()) for cell in row] for row in found[1:]]


def marked(path: Path, what: str) -> list[list[str]]:
    """The rows of the table that a comment in the source calls `what`."""
    begin, end = f".. {what}, checked by tests/test_docs.py\n", f".. end of the {what.removeprefix('the ')}\n"
    _, found, rest = text_of(path).partition(begin)
    assert found, f"{path.name} has no comment {begin!r}"
    table, found, _ = rest.partition(end)
    assert found, f"{path.name} has no comment {end!r}"
    return rows(table)


# Tables


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script that makes tables."""
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.rst", "docs/options.rst"])
def test_the_tables_of_options_are_those_of_the_settings(tables: ModuleType, name: str) -> None:
    assert name in tables.FILES
    text = text_of(ROOT / name)
    assert text == tables.replaced(text), "run: python docs/tables.py"


def test_the_table_is_made_of_names_defaults_and_help(tables: ModuleType) -> None:
    table = rows(tables.options_table())
    assert [row[0] for row in table] == [f"``{f'--{each.name} {each.placeholder}'.strip()}``" for each in SETTINGS]
    assert [row[1].strip("`") for row in table] == [default(each) for each in SETTINGS]
    assert [row[2].replace("\\", "") for row in table] == [" ".join(each.help.split()) for each in SETTINGS]


def test_a_text_without_a_place_for_the_table_is_told_so(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="between which lines"):
        tables.replaced("no marks here")


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.limit is not None], ids=lambda each: each.name)
def test_the_table_of_limits_has_each_with_its_default(setting: Setting) -> None:
    [(named, defaults)] = [
        (re.findall(r"``--([a-z-]+)``", name), initial.partition(", or ")[0].split(", "))
        for name, initial, *_ in rows(text_of(DOCS / "limits.rst"))
        if re.match(rf"``--.*{setting.name}``", name)
    ]
    expected = default(setting) or setting.help.partition("Default: ")[2].partition(",")[0]
    assert dict(zip(named, defaults, strict=True))[setting.name] == expected


def test_the_spanish_table_has_the_same_options_and_defaults() -> None:
    _, _, rest = text_of(README_ES).partition("\nOpciones\n")
    table = rows(rest)
    assert [row[0] for row in table] == [f"``{f'--{each.name} {each.placeholder}'.strip()}``" for each in SETTINGS]
    assert [row[1].strip("`") for row in table] == [default(each) for each in SETTINGS]
    assert all(row[2] for row in table)


def test_the_table_of_errors_is_that_of_the_reasons() -> None:
    table = marked(DOCS / "protocol.rst", "table of errors")
    expected = [
        [f"``{each.code}``", str(each.http), str(each.close), "yes" if each.reconnect else "no"] for each in Reason
    ]
    assert [row[:4] for row in table] == expected
    assert all(row[4] for row in table)


def test_the_table_of_the_http_layer_has_its_refusals() -> None:
    limits = http_limits.HttpLimits()
    refusals = [
        http_limits.malformed(""),
        http_limits.body_too_large(limits),
        http_limits.header_too_large(limits),
        http_limits.target_too_long(limits),
        http_limits.handshake_timeout(limits),
        http_limits.body_timeout(limits),
        http_limits.expectation_failed(),
        http_limits.not_implemented(""),
    ]
    expected = {f"``{each.code}``": str(each.status) for each in refusals}
    expected |= {"``bad_handshake``": "400, 426", "``upgrade_missing``": "426", "``too_many_unfinished``": "429, 503"}
    table = marked(DOCS / "protocol.rst", "table of refusals of the HTTP layer")
    assert {row[0]: row[1] for row in table} == expected
    # These are all that there are: each is made by one call with its code as text.
    made = re.findall(
        r'Refusal\(\s*(?:\d+|status),\s*"(\w+)"',
        "".join(text_of(Path(str(module.__file__))) for module in (http_limits, websocket_upgrade)),
    )
    assert {f"``{code}``" for code in made} == expected.keys()


def test_the_table_of_metrics_has_all_of_ours() -> None:
    metrics = Metrics()
    registry: CollectorRegistry = metrics.registry
    ConsumerMetrics(registry)
    some: Any = Mock(waiting=0, waiting_bytes=0, delayed=0, delayed_bytes=0, paused=0, kept_bytes=0)
    watch_queue(metrics, some, QueueLimits())
    watch_clients(metrics, some)
    ours = {family.name for family in registry.collect() if family.name.startswith("twisted_chat_")}
    supervisor = SupervisorMetrics().families()
    ours |= {name for name, *_ in supervisor if name.startswith("twisted_chat_")}
    # Known when the service says where to ask.
    names = ["rooms", "members", "outbox_bytes", "outbox_bytes_limit", "requests_waiting", "websockets_throttled"]
    names += ["unfinished_bytes", "stored_bytes", "stored_bytes_limit", "evicted_rooms"]
    ours |= {f"twisted_chat_{name}" for name in names}
    table = marked(DOCS / "deployment.rst", "table of metrics")
    listed = {
        re.sub(r"(_total|_info)?({.*})?$", "", name) for row in table for name in re.findall(r"``([^`]+)``", row[0])
    }
    assert listed == {re.sub(r"_info$", "", name) for name in ours}


# Redis


def test_the_user_of_redis_may_do_what_the_relay_does_and_no_more() -> None:
    [block] = [text for _, text in code_blocks(DOCS / "scaling.rst") if "ACL SETUSER" in text]
    allowed = {name.upper() for name in re.findall(r"\+([a-z|]+)", block)}
    code = ROOT / "twisted_chat" / "relay" / "redis"
    used = {name for path in code.rglob("*.lua") for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text_of(path))}
    modules = "".join(text_of(path) for path in code.glob("*.py"))
    # A command is the first of several arguments, or of none that follow; SCRIPT LOAD and the like are two words.
    for first, second in re.findall(r'execute\w*[(,]\s*"([A-Z]+)"(?:, "([A-Z]+)")?', modules):
        used.add(f"{first}|{second}" if second else first)
    used |= set(re.findall(r'b"((?:UN)?SUBSCRIBE)"', modules))
    # These are methods of txredisapi, or written by the connection itself; those without a password are always allowed.
    used |= {name.upper() for name in re.findall(r"protocol\.(ping|select|role)\(", modules)}
    used |= {"EVALSHA", "PING"}
    assert allowed == used


def test_the_user_of_redis_may_do_what_the_queue_of_consumers_does_and_no_more() -> None:
    allowed = {
        name.upper()
        for page in ("scaling", "consumers")
        for _, text in code_blocks(DOCS / f"{page}.rst")
        if "ACL SETUSER" in text
        for name in re.findall(r"\+([a-z|]+)", text)
    }
    more = {
        name.upper()
        for _, text in code_blocks(DOCS / "consumers.rst")
        if "ACL SETUSER" in text
        for name in re.findall(r"\+([a-z|]+)", text)
    }
    code = ROOT / "twisted_chat" / "consumers" / "redis"
    used = {name for path in code.rglob("*.lua") for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text_of(path))}
    modules = "".join(text_of(path) for path in code.glob("*.py"))
    used |= set(re.findall(r'execute\w*\(\s*\*?\(?"([A-Z]+)"', modules))
    assert used <= allowed
    assert more <= used


# Two languages


@pytest.mark.parametrize(("english", "spanish"), [(README, README_ES), *IN_SPANISH])
def test_both_languages_show_the_same(english: Path, spanish: Path) -> None:
    assert [language for language, _ in code_blocks(spanish)] == [language for language, _ in code_blocks(english)]
    assert commands(spanish) == commands(english)


@pytest.mark.parametrize(("english", "spanish"), [(README, README_ES), *IN_SPANISH])
def test_both_languages_have_the_same_sections_and_items(english: Path, spanish: Path) -> None:
    sections = r"(?m)^([=-])\1{3,}$"
    assert re.findall(sections, prose(spanish)) == re.findall(sections, prose(english))
    items = r"(?m)^ *(?:\* )?- "
    assert len(re.findall(items, prose(spanish))) == len(re.findall(items, prose(english)))


@pytest.mark.parametrize(("english", "spanish"), IN_SPANISH)
def test_what_a_page_names_and_links_to_it_does_in_spanish_too(english: Path, spanish: Path) -> None:
    # Translations may name more, such as the ``import`` that is a word in English.
    assert not literals(english) - literals(spanish)
    assert linked(spanish) == linked(english)


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("consumers.rst", {"python", "javascript", "sh", "ini"}),
        ("from-channels.rst", {"python", "ini", "toml", "nginx", "javascript", "sh"}),
    ],
)
def test_these_pages_have_the_same_code_in_both_languages(name: str, languages: set[str]) -> None:
    blocks = code_blocks(DOCS / name)
    assert code_blocks(DOCS / "es" / name) == blocks
    assert {language for language, _ in blocks} == languages


def test_who_changes_a_page_is_told_that_there_is_a_spanish_one() -> None:
    told = text_of(ROOT / "CONTRIBUTING.rst").partition("have\nSpanish counterparts")[0]
    assert {f"docs/{english.name}" for english, _ in IN_SPANISH} <= set(re.findall(r"``(.+?)``", told))


def test_both_readmes_have_the_same_code() -> None:
    ours, theirs = (
        [block for block in code_blocks(path) if block[0] in {"python", "javascript", "html"}]
        for path in (README, README_ES)
    )
    assert theirs == ours
    assert {language for language, _ in ours} == {"python", "javascript", "html"}


@pytest.mark.parametrize(
    "path", [README, README_ES, ROOT / "CONTRIBUTING.rst", *EXAMPLES, *DOCS.rglob("*.rst")], ids=str
)
def test_python_in_the_documentation_is_python(path: Path) -> None:
    for language, text in code_blocks(path):
        if language == "python":
            compile(text, path.name, "exec")


@pytest.mark.parametrize(
    "path",
    [README, README_ES, *EXAMPLES, *DOCS.rglob("*.rst")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_have_options_that_there_are(path: Path) -> None:
    programs = {"chat": Options, "chat-worker": WorkerOptions}
    for text in commands(path):
        for program, arguments in re.findall(r"twistd .*?(chat|chat-worker) (.*)", text.replace("\\\n", " ")):
            known = {name.partition("=")[0].rstrip("=") for name in programs[program]().longOpt}
            given = re.findall(r"(?<= )--([a-z-]+)", f" {arguments}")
            assert set(given) <= known, (program, arguments)


@pytest.mark.parametrize("path", [README, README_ES, *EXAMPLES], ids=str)
def test_what_a_readme_links_to_exists(path: Path) -> None:
    for target in re.findall(r"<([^<>:]+)>`_", text_of(path)):
        assert path.parent.joinpath(target).is_file(), target


# The tour


class Program:
    """A program whose output is read while it runs."""

    def __init__(self, arguments: list[str], directory: Path) -> None:
        self._process = subprocess.Popen(
            arguments,
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self._output: IO[str] = self._process.stdout

    def until(self, expected: str) -> str:
        """What it says up to the line that contains `expected`."""
        # Ends the reading of a program that does not say it.
        deadline = threading.Timer(PATIENCE, self._process.kill)
        deadline.start()
        said = []
        try:
            for line in self._output:
                said.append(line)
                if expected in line:
                    return "".join(said)
        finally:
            deadline.cancel()
            deadline.join()
        raise AssertionError(f"{expected!r} was not said, but: {''.join(said)}")

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()


def environment() -> dict[str, str]:
    """Without settings of the server, and without the way to a proxy."""
    others = ("TWISTED_CHAT_", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_", "JOURNAL_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(others) and not name.lower().endswith("_proxy")
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of a server as the README starts it, but that it keeps nothing."""
    twistd = shutil.which("twistd", path=str(Path(sys.executable).parent))
    assert twistd is not None
    options = ["--nodaemon", "--pidfile=", "chat", "--port", "tcp:0:interface=127.0.0.1", "--relay", "memory:"]
    program = Program([twistd, *options], tmp_path_factory.mktemp("server"))
    try:
        match = re.search(r"open http://(127\.0\.0\.1:\d+)/", program.until("in a browser"))
        assert match is not None
        yield match[1]
    finally:
        program.end()


Run = Callable[..., Program]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a program, which is ended after the test."""
    programs: list[Program] = []

    def start(*arguments: str) -> Program:
        programs.append(Program([*arguments], tmp_path))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


def snippet(server: str, containing: str) -> str:
    """The README's code with `containing` in it, for this server."""
    [found] = [text for _, text in code_blocks(README) if containing in text]
    return found.replace("127.0.0.1:8080", server)


def output(*arguments: str) -> str:
    """What a program says that ends by itself, and ends well."""
    return subprocess.run(
        arguments, check=True, env=environment(), stdout=subprocess.PIPE, text=True, timeout=PATIENCE
    ).stdout


def curl_knows_json() -> bool:
    return shutil.which("curl") is not None and "--json" in output("curl", "--help", "all")


needs_shell = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")


@needs_shell
@pytest.mark.skipif(not curl_knows_json(), reason="needs curl 7.82 or newer")
def test_the_tour_with_curl(server: str, run: Run) -> None:
    message = json.loads(output("sh", "-c", snippet(server, "curl http")))
    assert (message["handle"], message["message"]) == ("ann", "hello")
    assert message in json.loads(output("sh", "-c", snippet(server, "limit=20")))["messages"]
    run("sh", "-c", f"exec {snippet(server, 'text/event-stream')}").until(message["id"])


def test_the_tour_in_python(server: str, run: Run) -> None:
    run(sys.executable, "-u", "-c", snippet(server, "from websockets")).until("hello from Python")


def node_with_websocket() -> list[str]:
    """Node.js, and the switch that it needs before version 22; empty where there is none that will do."""
    node = shutil.which("node")
    if node is None:
        return []
    for switch in ([], ["--experimental-websocket"]):
        if subprocess.run([node, *switch, "--eval", "WebSocket"], check=False, capture_output=True).returncode == 0:
            return [node, *switch]
    return []


def test_the_tour_in_javascript(server: str, run: Run, tmp_path: Path) -> None:
    node = node_with_websocket()
    if not node:
        pytest.skip("needs Node.js with WebSocket: 22 or newer")
    script = tmp_path / "tour.mjs"
    script.write_text(snippet(server, "new WebSocket"), encoding="utf-8")
    run(*node, str(script)).until("hello from JavaScript")


@needs_shell
def test_the_tour_on_the_command_line(server: str, run: Run) -> None:
    tool = f"'{sys.executable}' -u "
    publish, tail = snippet(server, "twisted_chat publish").replace("python ", tool).splitlines()
    # What it follows begins when it is there, and nobody tells when that is: so say it again and again.
    run("sh", "-c", f"while :; do {publish} > said; sleep 0.2; done")
    run("sh", "-c", f"exec {tail}").until("cron: the backup is done")
