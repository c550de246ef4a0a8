"""A page as the guides to Django Channels 1 have it (`channels_page.html`), in Chromium, against this server unchanged.

jQuery and ReconnectingWebSocket are the published ones. Django served such a page at `/lobby/`, and Daphne its socket
at `/chat/lobby/` of the same host. Here the browser is given the page and the scripts for URLs of the chat server's
host; its WebSocket is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Error, Page, WebSocket, async_playwright, expect

from tests.foreign.conftest import Run, Server

pytestmark = pytest.mark.browser

PAGE = Path(__file__).with_name("channels_page.html")
PACKAGES = Path(__file__).parents[2] / "node_modules"
SCRIPTS = (
    PACKAGES / "jquery" / "dist" / "jquery.min.js",
    PACKAGES / "reconnectingwebsocket" / "reconnecting-websocket.min.js",
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The system's; without one, playwright looks for its own."""

# To Chromium a page that the test gives it comes from nowhere, and one from nowhere may not connect to 127.0.0.1.
ARGUMENTS = ["--disable-features=LocalNetworkAccessChecks"]

PATIENCE = 90_000.0
"""Milliseconds that something in the page may take."""

COUNT_SOCKETS = """
window.opened = 0;
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("open", () => { window.opened += 1; });
  }
};
"""
"""How the test knows that the page is connected: the page itself shows nothing of it."""


def unavailable(reason: str) -> None:
    if os.environ.get("TESTS_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(run: Run) -> Iterator[Browser]:
    missing = [str(script) for script in SCRIPTS if not script.exists()]
    if missing:
        unavailable(f"run npm install: there is no {', '.join(missing)}")

    async def launch() -> tuple[Browser | Error, Callable[[], Awaitable[None]]]:
        playwright = await async_playwright().start()
        try:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            return browser, playwright.stop
        except Error as error:
            return error, playwright.stop

    async def close() -> None:
        if isinstance(launched, Browser):
            await launched.close()
        await stop()

    launched, stop = run(launch())
    try:
        if isinstance(launched, Error):
            unavailable(f"Chromium does not start: {launched}")
        else:
            yield launched
    finally:
        run(close())


class Visitor:
    """Somebody with the page open, and everything that came on its sockets."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sockets: list[str] = []
        self.frames: list[dict[str, Any]] = []
        self.mistakes: list[str] = []
        page.on("websocket", self._follow)
        page.on("pageerror", lambda error: self.mistakes.append(str(error)))

    @classmethod
    async def come(cls, browser: Browser, url: str) -> Visitor:
        page = await (await browser.new_context()).new_page()
        page.set_default_timeout(PATIENCE)
        visitor = cls(page)
        await page.add_init_script(COUNT_SOCKETS)
        await page.route(url, lambda route: route.fulfill(path=PAGE, content_type="text/html"))
        for script in SCRIPTS:
            await page.route(f"**/static/js/{script.name}", _fulfill(script))
        await page.goto(url)
        await visitor.connected(1)
        return visitor

    def _follow(self, socket: WebSocket) -> None:
        self.sockets.append(socket.url)
        socket.on("framereceived", lambda payload: self.frames.append(json.loads(payload)))

    async def connected(self, times: int) -> None:
        """Wait until the page's socket has opened so many times."""
        await self.page.wait_for_function("times => window.opened >= times", arg=times)

    async def say(self, handle: str, message: str) -> None:
        await self.page.fill("#handle", handle)
        await self.page.fill("#message", message)
        await self.page.click("#go")

    async def rows(self, count: int) -> list[list[str]]:
        """The cells of the table, once it has so many rows."""
        rows = self.page.locator("#chat tr")
        await expect(rows).to_have_count(count, timeout=PATIENCE)
        return [await row.locator("td").all_inner_texts() for row in await rows.all()]

    async def leave(self) -> None:
        await self.page.context.close()
        assert self.mistakes == []


def _fulfill(script: Path) -> Callable[[Any], Awaitable[None]]:
    return lambda route: route.fulfill(path=script, content_type="text/javascript")


def check(visitor: Visitor, rows: list[list[str]]) -> None:
    """Whatever came is a message, and is shown as one: this page would show anything else as an empty row."""
    assert [frame.keys() for frame in visitor.frames] == [{"id", "timestamp", "handle", "message"}] * len(rows)
    assert rows == [[frame["timestamp"], frame["handle"], frame["message"]] for frame in visitor.frames]
    assert all(datetime.fromisoformat(timestamp).tzinfo for timestamp, _, _ in rows)


@pytest.mark.parametrize("pathname", ["/", "/lobby/", "/a/b/"])
def test_two_pages_talk(run: Run, browser: Browser, server: Server, pathname: str) -> None:
    room = f"{server.url}/chat{pathname}"
    listens = {"Accept": "text/event-stream"}

    async def talk() -> None:
        ann, bob = [await Visitor.come(browser, server.url + pathname) for _ in range(2)]
        assert ann.sockets == bob.sockets == [room.replace("http", "ws")]
        async with httpx.AsyncClient(timeout=PATIENCE / 1000) as client:
            # Somebody is seen coming, by those that asked for it.
            async with client.stream("GET", f"{room}?handle=carl&events=presence", headers=listens) as stream:
                assert [line async for line in _until(stream, "carl")]
            await ann.say("ann", "Is anybody here?")
            await bob.rows(1)
            await bob.say("bob", "¡Sí! <b>I am</b> & so is 🙂")
            await ann.rows(2)
            assert (await client.post(room, json={"handle": "carl", "message": "bye"})).status_code == 201
        rows = await ann.rows(3)
        assert await bob.rows(3) == rows
        assert [row[1:] for row in rows] == [
            ["ann", "Is anybody here?"],
            ["bob", "¡Sí! <b>I am</b> & so is 🙂"],
            ["carl", "bye"],
        ]
        for visitor in (ann, bob):
            check(visitor, rows)
            await visitor.leave()

    run(talk())


async def _until(stream: httpx.Response, text: str) -> Any:
    async for line in stream.aiter_lines():
        if text in line:
            yield line
            return


def test_pages_come_back_when_the_server_was_restarted(run: Run, browser: Browser, own_server: Server) -> None:
    async def come() -> list[Visitor]:
        visitors = [await Visitor.come(browser, f"{own_server.url}/lobby/") for _ in range(2)]
        await visitors[0].say("ann", "before")
        for visitor in visitors:
            await visitor.rows(1)
        return visitors

    async def go_on() -> None:
        for visitor in (ann, bob):
            await visitor.connected(2)
        await bob.say("bob", "after")
        for visitor in (ann, bob):
            rows = await visitor.rows(2)
            assert [row[1:] for row in rows] == [["ann", "before"], ["bob", "after"]]
            check(visitor, rows)
            assert len(visitor.sockets) >= 2
            assert set(visitor.sockets) == {f"ws://127.0.0.1:{own_server.port}/chat/lobby/"}
            await visitor.leave()

    ann, bob = run(come())
    own_server.stop()
    own_server.start()
    run(go_on())
