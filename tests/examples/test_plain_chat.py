"""examples/plain_chat: its page in two browsers, its consumers in the server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.browser.conftest import People
from tests.examples.conftest import Program, Stage

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_chat"


@pytest.fixture(scope="module")
def stage(make_stage: Callable[[Path], Stage]) -> Stage:
    return make_stage(EXAMPLE)


@pytest.fixture(scope="module")
def port(stage: Stage) -> int:
    return stage.port()


@pytest.fixture(scope="module")
def server(stage: Stage, port: int) -> Program:
    """It lets pages of any site connect: which port theirs has is not known yet."""
    server = stage.twistd(
        *("server", "chat", "-p", f"tcp:{port}:interface=127.0.0.1", "--relay", "memory:", "--drain", "1"),
        *("--routing", "routing:channel_routing", "--allow-origin", "*"),
        ready="open http",
    )
    server.start()
    return server


@pytest.fixture
def page_url(stage: Stage, port: int) -> str:
    """The page, from a site of its own."""
    site = stage.directory / "site"
    shutil.copytree(stage.example, site, ignore=shutil.ignore_patterns("__pycache__"))
    index = site / "index.html"
    text = index.read_text(encoding="utf-8")
    assert "ws://127.0.0.1:8080" in text
    index.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{port}"), encoding="utf-8")
    own = stage.port()
    stage.python(
        *("site", "-m", "http.server", str(own), "--bind", "127.0.0.1", "--directory", site), ready="Serving"
    ).start()
    return f"http://127.0.0.1:{own}/"


def enter(people: People, url: str, name: str) -> Page:
    page = people.open(url)
    page.fill("#name", name)
    page.click("text=Enter")
    expect(page.locator("#messages li").last).to_contain_text(name)
    return page


@pytest.mark.browser
def test_two_people_talk(people: People, server: Program, page_url: str) -> None:
    ann = enter(people, page_url, "ann")
    bob = enter(people, page_url, "bob")
    for page, text in ((ann, "Is anybody here?"), (bob, "¡Sí! <b>I am</b> 🙂")):
        page.fill("#text", text)
        page.keyboard.press("Enter")
        for each in (ann, bob):
            expect(each.locator("#messages .said").last).to_contain_text(text)
    assert bob.locator("#messages li").all_inner_texts() == [
        "bob came in",
        "ann Is anybody here?",
        "bob ¡Sí! <b>I am</b> 🙂",
    ]
    bob.close()
    expect(ann.locator("#messages li").last).to_have_text("bob went away")

    server.stop()
    expect(ann.locator("#state")).to_have_text("Not connected.")
    server.start()
    expect(ann.locator("#messages li").last).to_have_text("ann came in")
    expect(ann.locator("#state")).to_have_text("")


class Client:
    """Somebody without a browser."""

    def __init__(self, port: int, room: str, name: str) -> None:
        url = f"ws://127.0.0.1:{port}/ws/{room}/?name={name}"
        self._stack = ExitStack()
        self._socket: ClientConnection = self._stack.enter_context(connect(url, proxy=None, open_timeout=60))

    def hears(self) -> Any:
        return json.loads(self._socket.recv(timeout=60))

    def says(self, frame: str | bytes) -> None:
        self._socket.send(frame)

    def leave(self) -> None:
        self._stack.close()


def test_who_comes_and_goes_is_told_to_the_room(server: Program, port: int) -> None:
    ann, other = Client(port, "kitchen", "ann"), Client(port, "cellar", "eve")
    assert ann.hears() == {"event": "came", "name": "ann"}
    bob = Client(port, "kitchen", "bob")
    assert ann.hears() == bob.hears() == {"event": "came", "name": "bob"}
    bob.leave()
    assert ann.hears() == {"event": "went", "name": "bob"}
    assert other.hears() == {"event": "came", "name": "eve"}
    other.says('{"message": "alone"}')
    assert other.hears() == {"event": "said", "name": "eve", "message": "alone"}
    ann.leave()
    other.leave()


@pytest.mark.parametrize("frame", ["{", "[]", '{"message": 7}', '{"message": " "}', f'{{"message": "{"x" * 4097}"}}'])
def test_what_is_no_message_is_refused(server: Program, port: int, frame: str) -> None:
    # A room of its own: who left another one may go on leaving it for a while.
    ann = Client(port, uuid4().hex, "ann")
    assert ann.hears()["event"] == "came"
    ann.says(frame)
    assert ann.hears()["event"] == "refused"
    ann.says('{"message": "better"}')
    assert ann.hears()["message"] == "better"
    ann.leave()


@pytest.mark.parametrize("name", ["", "%20", "x" * 41])
def test_nobody_comes_in_without_a_name(server: Program, port: int, name: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Client(port, "lobby", name)
    assert refused.value.response.status_code == 403
