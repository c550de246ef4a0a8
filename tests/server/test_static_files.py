"""The page's files: their types, what keeps them fresh and safe, and that nothing else is served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from twisted_chat.server import static_files
from twisted_chat.server.static_files import CONTENT_SECURITY_POLICY, load

STATIC = Path(static_files.__file__).parent / "static"
FILES = sorted(path.name for path in STATIC.iterdir() if not path.name.startswith("."))


def test_every_file_is_loaded() -> None:
    assert sorted(load()) == FILES


@pytest.mark.parametrize("name", FILES)
def test_each_is_served_as_what_it_is(server: Any, name: str) -> None:
    answer = server.ask("GET", f"/static/{name}")
    assert answer.status == 200
    assert answer.body == (STATIC / name).read_bytes()
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].partition(";")[0] == kinds[Path(name).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_pages_run_nothing_but_our_files(server: Any) -> None:
    for path, accept in (("/", ""), ("/chat/lobby", "Accept: text/html\r\n"), ("/static/chat.html", "")):
        answer = server.ask("GET", path, accept)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
    policy = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".html")])
def test_pages_have_nothing_inline_that_the_policy_would_stop(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)
    for file in re.findall(r'(?:src|href)="/static/([^"]+)"', text):
        assert file in FILES


def test_modules_may_be_imported_by_other_sites(server: Any) -> None:
    answer = server.ask("GET", "/static/chat-client.js", "Origin: https://elsewhere.example\r\n")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "content-security-policy" not in answer.headers


def test_what_has_not_changed_is_not_sent_again(server: Any) -> None:
    first = server.ask("GET", "/static/chat.css")
    etag = first.headers["etag"]
    again = server.ask("GET", "/static/chat.css", f"If-None-Match: {etag}\r\n")
    assert (again.status, again.body) == (304, b"")
    other = server.ask("GET", "/static/chat.css", 'If-None-Match: "other"\r\n')
    assert (other.status, other.body) == (200, first.body)
    assert server.ask("GET", "/static/chat.html").headers["etag"] != etag


def test_head_is_get_without_the_body(server: Any) -> None:
    head, get = (server.ask(method, "/static/chat.css") for method in ("HEAD", "GET"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(get.body))
    assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static",
        "/static/nothing.js",
        "/static/../static_files.py",
        "/static/%2e%2e/static_files.py",
        "/static/..%2fstatic_files.py",
        "/static/__init__.py",
        "/static/chat.css/",
        "/static/a/chat.css",
        "/static/chat.css%00",
        "/static/%ff",
    ],
)
def test_nothing_else_is_there(server: Any, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.error) == (404, "not_found")


def test_a_long_name_is_not_repeated_in_full(server: Any) -> None:
    assert len(server.ask("GET", f"/static/{'x' * 5_000}").body) < 300


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "SING"])
@pytest.mark.parametrize("path", ["/", "/static/chat.css", "/favicon.ico"])
def test_files_are_only_read(server: Any, method: str, path: str) -> None:
    answer = server.ask(method, path)
    assert (answer.status, answer.error, answer.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")


def test_the_root_and_the_icon(server: Any) -> None:
    assert server.ask("GET", "/").body == (STATIC / "index.html").read_bytes()
    icon = server.ask("GET", "/favicon.ico")
    assert (icon.status, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert server.ask("GET", "/nowhere").error == "not_found"


@pytest.mark.parametrize(
    "path",
    [
        *("/favicon.ico/x", "/favicon.ico/", "//favicon.ico", "/%66avicon.ico", "//nothing/at/all", "//", "/./"),
        *("/static//chat.css", "/static/%63hat.css", "/static/./chat.css", "/static%2Fchat.css", "/static/chat.css/"),
        *("//static/chat.css", "/nothing/..%2fstatic/chat.css"),
    ],
)
def test_a_file_has_one_path(server: Any, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.error) == (404, "not_found")
