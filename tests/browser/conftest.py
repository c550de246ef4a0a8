"""A real server in a process of its own, and people with browsers who talk through it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect, sync_playwright

from tests.ports import free_port

DEADLINE = 90.0
"""Seconds until something that should happen counts as not happening. The machine may be busy."""

ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

QUICK = ("--limit-messages-per-connection", "500:1000", "--limit-messages-per-address", "1000:5000")
"""The tests' people write more than the default lets through."""

EXPECTED_CONSOLE = (
    "WebSocket connection to",  # said by the browser whenever a server is away
    "Failed to load resource",
)


def pytest_configure() -> None:
    expect.set_options(timeout=DEADLINE * 1000)


def _chromium() -> str | None:
    for name in ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


# One browser a module and not a session: as long as playwright runs, it holds this thread's asyncio loop, and tests
# of other modules would find it running.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium of the system."""
    executable = _chromium()
    if executable is None:
        if os.environ.get("TESTS_REQUIRE_BROWSER") == "1":
            pytest.fail("TESTS_REQUIRE_BROWSER=1, but there is no chromium or google-chrome on PATH")
        pytest.skip("there is no chromium or google-chrome on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


class LoggingBrowser:
    """One that writes down what it does on its network."""

    def __init__(self, other: Browser, log: Path) -> None:
        self._log = log
        self.browser = other.browser_type.launch(executable_path=_chromium(), args=[*ARGUMENTS, f"--log-net-log={log}"])

    def end(self) -> Any:
        """Close it, and read its log."""
        self.browser.close()
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return json.loads(self._log.read_text(encoding="utf-8"))
            except ValueError:  # it is still writing
                assert time.monotonic() < deadline
                time.sleep(0.1)


@pytest.fixture
def logging_browser(browser: Browser, tmp_path: Path) -> Iterator[LoggingBrowser]:
    """A browser of its own, whose log is read when it has ended."""
    own = LoggingBrowser(browser, tmp_path / "net-log.json")
    yield own
    own.browser.close()


@pytest.fixture
def port() -> int:
    """One that is free."""
    return free_port()


class Server:
    """`twistd chat` on one port, which it keeps over restarts, with a history that does too."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.database = directory / "chat.db"
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self.directory / "server.log"
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "chat"]
        listen = ["-p", f"tcp:{self.port}:interface=127.0.0.1", "--relay", f"sqlite:{self.database}"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *listen, *self._options], cwd=self.directory, stdout=output, stderr=output
            )
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server does not answer:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self, *, crash: bool = False) -> None:
        """Stop it, politely or not, and wait until it has gone."""
        if self._process is not None:
            if crash:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(DEADLINE)
            self._process = None

    def pause(self) -> None:
        """It hangs: its sockets are open, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def post(self, room: str, handle: str, message: str, token: str | None = None) -> str:
        """Say something in a room by HTTP; the id of what was stored."""
        body = json.dumps({"handle": handle, "message": message}).encode()
        stored: dict[str, str] = self._request(f"/chat/{room}", token, body)
        return stored["id"]

    def history(self, room: str, token: str | None = None) -> list[tuple[str, str]]:
        """Who said what, oldest first."""
        answer = self._request(f"/chat/{room}?limit=200", token)
        return [(message["handle"], message["message"]) for message in answer["messages"]]

    def _request(self, path: str, token: str | None, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.url + path, body, {"Accept": "application/json"})
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        try:
            self._request("/chat/lobby?limit=1", None)
        except urllib.error.HTTPError as refused:
            return refused.code < 500  # it wants a token; 503: its history is not open yet
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


# Servers ask for the browser first: without one there is no need to start any.
@pytest.fixture
def start_server(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with the options that it is called with."""
    servers: list[Server] = []

    def start(*options: str) -> Server:
        directory = tmp_path / f"server-{len(servers)}"
        directory.mkdir()
        server = Server(directory, *options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def own_server(start_server: Callable[..., Server]) -> Server:
    """A server that the test may stop."""
    return start_server(*QUICK)


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests of a module; each has a `room` of its own."""
    server = Server(tmp_path_factory.mktemp("server"), *QUICK)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def room() -> str:
    """The name of a room in which nothing was said yet."""
    return f"room-{next(_rooms)}"


_rooms = itertools.count(1)


class People:
    """Opens rooms in browsers. What a page logs as an error, or does not catch, fails the test."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def context(self, **options: Any) -> BrowserContext:
        """A browser of its own: own storage, own network."""
        context = self._browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC", **options})
        context.set_default_timeout(DEADLINE * 1000)
        self._contexts.append(context)
        return context

    def open(self, url: str, handle: str | None = None, context: BrowserContext | None = None, **options: Any) -> Page:
        """A page, in a browser of its own unless one is given, of someone who has chosen that name before."""
        context = context or self.context(**options)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", self._error)
        if handle is not None:
            name = json.dumps(handle)
            page.add_init_script(
                f"localStorage['twisted-chat:handle'] ??= {name}; addEventListener('securitypolicyviolation',"
                " (event) => console.error('Content Security Policy', event.violatedDirective));"
            )
        page.goto(url)
        return page

    def enter(self, server: Server, room: str, handle: str, **options: Any) -> Page:
        """The same, waiting until the room is live."""
        page = self.open(f"{server.url}/chat/{room}", handle, **options)
        expect(page.locator("#people-list")).to_contain_text(handle)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(EXPECTED_CONSOLE):
            self.complaints.append(message.text)

    def _error(self, error: Error) -> None:
        self.complaints.append(f"{error.message}\n{error.stack}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def people(browser: Browser) -> Iterator[People]:
    """Those who talk."""
    people = People(browser)
    yield people
    people.close()
    assert not people.complaints


@pytest.fixture
def say() -> Callable[[Page, str], None]:
    """Writes something into a page's composer and sends it."""

    def say(page: Page, text: str) -> None:
        page.get_by_role("textbox").fill(text)
        page.keyboard.press("Enter")

    return say


@pytest.fixture
def told() -> Callable[[Page], list[str]]:
    """The messages that a page shows as stored, in its order."""

    def told(page: Page) -> list[str]:
        return page.locator("#log .text").all_inner_texts()

    return told
