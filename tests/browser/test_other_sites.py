"""Pages of other sites in a real browser: those that are allowed can read every refusal, others can read nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.conftest import Server

pytestmark = pytest.mark.browser

ASK = """
    window.ask = async (url, method = "GET", body = undefined) => {
        const headers = body === undefined ? {} : { "content-type": "application/json" };
        try {
            const answer = await fetch(url, { method, headers, body });
            const { error } = await answer.json();
            return [answer.status, error?.code ?? null, answer.headers.get("retry-after") !== null];
        } catch (error) {
            return error.name;
        }
    };
    window.beacon = (url, fields, type) => navigator.sendBeacon(url, new Blob([JSON.stringify(fields)], { type }));
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another site</title>")

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def sites() -> Iterator[list[str]]:
    """The origins of two other sites, each with a page."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Page) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(ignore_https_errors=True)
    context.add_init_script(ASK)
    yield context
    context.close()


def opened(context: BrowserContext, site: str) -> Page:
    page = context.new_page()
    page.goto(site)
    return page


def answers(page: Page, url: str) -> dict[str, Any]:
    """What a page learns of requests that are refused, and of more messages than it may post."""
    message = json.dumps({"handle": "ann", "message": "hi"})
    ask = "([url, method, body]) => ask(url, method, body ?? undefined)"
    return {
        "large": page.evaluate(ask, [f"{url}/chat/lobby", "POST", "x" * 500_000]),
        "room": page.evaluate(ask, [f"{url}/chat/%FF", "POST", message]),
        "query": page.evaluate(ask, [f"{url}/chat/lobby?limit=many", "GET", None]),
        "often": [page.evaluate(ask, [f"{url}/chat/busy", "POST", message]) for _ in range(3)],
    }


def test_pages_of_other_sites(
    context: BrowserContext, start_server: Callable[..., Server], sites: list[str], port: int
) -> None:
    allowed, other = sites
    # A message in a hundred seconds.
    server = start_server(
        *("--port", f"tls:{port}:interface=127.0.0.1", "--self-signed", "--allow-origin", allowed),
        *("--limit-messages-per-connection", "0.01:2", "--limit-messages-per-address", "1000:1000"),
    )
    stranger = opened(context, other)
    for url in (server.url, f"https://127.0.0.1:{port}"):
        page = opened(context, allowed)
        told = answers(page, url)
        assert told["large"] == [413, "body_too_large", False]
        assert told["room"] == [400, "bad_room", False]
        assert told["query"][0] == 400
        assert told["often"][-1] == [429, "rate_limited", True]
        assert answers(stranger, url) == {
            "large": "TypeError",
            "room": "TypeError",
            "query": "TypeError",
            "often": ["TypeError"] * 3,
        }
        page.close()


def test_beacons(context: BrowserContext, start_server: Callable[..., Server], sites: list[str], port: int) -> None:
    allowed, other = sites
    server = start_server(
        *("--port", f"tls:{port}:interface=127.0.0.1", "--self-signed", "--allow-origin", allowed),
    )
    for number, url in enumerate((server.url, f"https://127.0.0.1:{port}")):
        for site in (other, allowed):
            page = opened(context, site)
            for kind in ("text/plain", "application/json"):
                fields = {
                    "handle": "ann",
                    "message": f"{number} as {kind} from {'us' if site == allowed else 'others'}",
                }
                page.evaluate("([url, fields, kind]) => beacon(url, fields, kind)", [f"{url}/chat/lobby", fields, kind])
        expected = [("ann", f"{each} as application/json from us") for each in range(number + 1)]
        page.wait_for_function(
            "async ([url, count]) => (await (await fetch(url)).json()).messages.length >= count",
            arg=[f"{url}/chat/lobby", len(expected)],
        )
        assert server.history("lobby") == expected


def test_a_star_allows_no_beacons_but_what_the_documentation_names_instead(
    context: BrowserContext, start_server: Callable[..., Server], sites: list[str]
) -> None:
    server = start_server("--allow-origin", "*")
    page = opened(context, sites[0])
    url = f"{server.url}/chat/lobby"
    beacon = {"handle": "ann", "message": "by a beacon"}
    with page.expect_event("requestfailed"):
        page.evaluate("([url, fields]) => beacon(url, fields, 'application/json')", [url, beacon])
    fetched = json.dumps({"handle": "ann", "message": "by fetch"})
    status = page.evaluate(
        """async ([url, body]) => (await fetch(url, {
            method: "POST", keepalive: true, headers: { "content-type": "application/json" }, body,
        })).status""",
        [url, fetched],
    )
    assert status == 201
    assert server.history("lobby") == [("ann", "by fetch")]
