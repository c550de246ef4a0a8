"""The page at /: opens rooms, and its examples work as they stand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("typed", "path"),
    [("", "/chat/lobby"), ("team/relay", "/chat/team/relay"), (" /café #1?/ ", "/chat/caf%C3%A9%20%231%3F")],
)
def test_it_opens_a_room(server: Any, people: Any, typed: str, path: str) -> None:
    page = people.open(server.url)
    page.get_by_label("Name of the room").fill(typed)
    page.keyboard.press("Enter")
    expect(page).to_have_url(server.url + path)
    expect(page.get_by_role("log")).to_be_attached()


@pytest.mark.parametrize("typed", ["a//b", "../x", "x" * 129])
def test_it_says_what_cannot_be_a_room(server: Any, people: Any, typed: str) -> None:
    page = people.open(server.url)
    page.get_by_label("Name of the room").fill(typed)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("128 characters")
    expect(page).to_have_url(server.url + "/")


def test_the_examples_work(server: Any, people: Any, tmp_path: Path) -> None:
    page = people.open(server.url)
    page.get_by_label("Name of the room").fill("it's a room/$HOME")
    code = {
        str(example.get_attribute("data-example")): example.inner_text()
        for example in page.locator("[data-example]").all()
    }
    room = "it%27s%20a%20room/%24HOME"
    assert set(code) == {"post", "history", "stream", "javascript", "python"}
    assert all(f"127.0.0.1:{server.port}/chat/{room}" in text for text in code.values())

    if shutil.which("curl"):
        _run("sh", "-c", code["post"].replace("--json", "--header 'content-type: application/json' --data"))
        history = json.loads(_run("sh", "-c", code["history"]))
        assert [message["message"] for message in history["messages"]] == ["hello"]
        stream = _until("hello", "sh", "-c", code["stream"])
        assert re.search(r'^id: .+\ndata: \{"id":.*"message":"hello"', stream, re.MULTILINE)

    script = tmp_path / "example.py"
    script.write_text(code["python"], encoding="utf-8")
    assert "'handle': 'ann'" in _until("hello from Python", sys.executable, "-u", str(script))

    imported = re.sub(r"import (.*) from (.*);", r"const \1 = await import(\2);", code["javascript"])
    with page.expect_console_message(lambda message: "hello from JavaScript" in message.text):
        page.evaluate(f"async () => {{ {imported}; room.close(); }}")
    assert server.history(room)[-2:] == [("ann", "hello from Python"), ("ann", "hello from JavaScript")]


def test_it_speaks_spanish(server: Any, people: Any) -> None:
    page = people.open(server.url, locale="es-ES")
    expect(page.locator("html")).to_have_attribute("lang", "es-ES")
    expect(page.get_by_label("Nombre de la sala")).to_be_visible()
    expect(page.get_by_role("button", name="Abrir")).to_be_visible()


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_sticks_out(server: Any, people: Any, width: int, tmp_path: Path) -> None:
    page = people.open(server.url, viewport={"width": width, "height": 800}, color_scheme="dark")
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)


def test_examples_can_be_copied(server: Any, people: Any) -> None:
    page = people.open(server.url, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy: Read the history").click()
    expect(page.get_by_role("button", name="Copy: Read the history")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == f"curl '{server.url}/chat/lobby?limit=20'"


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=90).stdout


def _until(wanted: str, *command: str) -> str:
    """What a program that does not end by itself prints until `wanted` is in it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = ""
    deadline = time.monotonic() + 90
    try:
        for line in process.stdout:
            printed += line
            if wanted in line:
                return printed
            assert time.monotonic() < deadline, printed
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    pytest.fail(f"it ended without {wanted!r}:\n{printed}")
