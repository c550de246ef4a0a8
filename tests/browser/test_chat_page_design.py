"""How the chat page looks and is used: by phone, in the dark, by keyboard, with a screen reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}

TALK = (
    ("maría", "¿Alguien probó ya la versión nueva?"),
    ("Tomás", "Sí, en los dos nodos. Cero quejas."),
    ("ann", "Notes: https://wiki.example.org/rooms/relay_(redis)#recovery"),
    ("bob", "They wait in the browser:\n\n1. the key stays\n2. it is stored once"),
    ("יעל", "שלום לכולם, אפשר להצטרף לפגישה?"),
    ("W" * 64, "a name as long as names may be, and " + "aVeryLongWordWithoutAnySpace" * 12),
    ("z̴̢̛a̵l̶g̷o̸" * 5, "ẗ̸̢̛͍̟́̐e̵̗͠x̶̱̆t̷ that leaves its line"),
    ("ann", "Perfect."),
)


def _talk(server: Any, room: str) -> None:
    """A little of everything is said."""
    for handle, message in TALK:
        server.post(room, handle, message)


@pytest.fixture
def talk(server: Any, room: str) -> str:
    """The name of a room in which that was said."""
    _talk(server, room)
    return room


# For every pair of text and what is behind it: the worst contrast (WCAG 2.2, 1.4.3) and where. Colours go through a
# canvas, because the style sheets write them in OKLCH. What is on its way from one to another is waited for.
CONTRAST = """async () => {
    const ending = document.getAnimations().filter((each) => Number.isFinite(each.effect.getComputedTiming().endTime));
    await Promise.allSettled(ending.map((each) => each.finished));
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const layered = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
        }
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const luminance = ([r, g, b]) => {
        const [R, G, B] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * R + 0.7152 * G + 0.0722 * B;
    };
    const worst = { ratio: 21, where: "" };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility({ opacityProperty: true })) continue;
        if (element.closest(".visually-hidden, .skip, noscript, :disabled")) continue;
        const behind = [];
        for (let up = element; up; up = up.parentElement) behind.unshift(getComputedStyle(up).backgroundColor);
        const [a, b] = [layered(behind), layered([...behind, getComputedStyle(element).color])].map(luminance);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < worst.ratio) Object.assign(worst, { ratio, where: element.outerHTML.slice(0, 200) });
    }
    return worst;
}"""

# What is wider than the window, or sticks out of its row.
OVERFLOW = """() => [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && element.checkVisibility() && !element.closest(".people") &&
        (box.right > innerWidth + 1 || box.left < -1);
}).map((element) => element.className || element.tagName)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(own_server: Any, people: Any, scheme: str, tmp_path: Path) -> None:
    _talk(own_server, "team/relay")
    page = people.enter(own_server, "team/relay", "ann", color_scheme=scheme)
    expect(page.locator("#log .row")).to_have_count(len(TALK))
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    picture = page.screenshot(path=tmp_path / f"{scheme}.png")
    assert picture
    own_server.stop()
    expect(page.get_by_role("status")).to_be_visible()
    page.get_by_role("textbox").fill("written while the server is away")
    page.keyboard.press("Enter")
    expect(page.locator("#unsent .waiting")).to_be_visible()
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_a_name_can_be_read(server: Any, room: str, people: Any, scheme: str) -> None:
    page = people.enter(server, room, "ann", color_scheme=scheme)
    for number in range(120):
        server.post(room, f"person {number}", "hello")
    expect(page.locator("#log .row")).to_have_count(120)
    hues = page.evaluate("() => new Set([...document.querySelectorAll('.row')].map((row) => row.style.cssText)).size")
    assert hues == 24
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out(server: Any, talk: str, people: Any, width: int, tmp_path: Path) -> None:
    page = people.enter(server, talk, "W" * 64, viewport={"width": width, "height": 700})
    expect(page.locator("#log .row")).to_have_count(len(TALK))
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    page.screenshot(path=tmp_path / f"{width}.png")


def test_who_is_here_is_a_drawer_on_a_phone(server: Any, talk: str, people: Any, tmp_path: Path) -> None:
    page = people.enter(server, talk, "ann", **PHONE)
    drawer = page.get_by_role("complementary")
    expect(drawer).to_have_count(0)  # closed, it is not there for a screen reader either
    button = page.get_by_role("button", name="Show who is here (1)")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.tap()
    expect(drawer).to_be_in_viewport()
    expect(drawer).to_contain_text("1 person here")
    expect(page.get_by_role("button", name="Close")).to_be_focused()
    page.screenshot(path=tmp_path / "drawer.png", animations="disabled")
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(button).to_be_focused()
    button.tap()
    page.locator("#people-scrim").tap(position={"x": 5, "y": 300})
    expect(drawer).to_have_count(0)
    page.screenshot(path=tmp_path / "phone.png")


def test_the_page_keeps_its_end_when_a_keyboard_opens(server: Any, talk: str, people: Any) -> None:
    page = people.enter(server, talk, "ann", **PHONE)
    expect(page.locator("#log .text").last).to_be_in_viewport()
    page.set_viewport_size({"width": 390, "height": 380})
    expect(page.locator("#log .text").last).to_be_in_viewport()
    expect(page.get_by_label("Write a message")).to_be_in_viewport()
    expect(page.locator("#jump")).to_be_hidden()


# What has no name for a screen reader, and roles that need one.
NAMELESS = """() => [...document.querySelectorAll("a, button, input, textarea, [role=region], [role=log], aside")]
    .filter((element) => element.checkVisibility())
    .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() ||
        element.labels?.length || element.getAttribute("aria-labelledby")))
    .map((element) => element.outerHTML)"""


def test_it_speaks_to_screen_readers(server: Any, talk: str, people: Any) -> None:
    page = people.enter(server, talk, "ann")
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("banner")).to_have_count(1)
    expect(page.get_by_role("complementary", name="1 person here")).to_be_visible()
    log = page.get_by_role("log", name="Messages")
    expect(log).to_have_attribute("aria-live", "polite")
    expect(log.get_by_role("heading", level=2)).to_have_text("Today")
    # Every message can be heard with its author, also the second under one name.
    page.get_by_role("textbox").fill("And one more.")
    page.keyboard.press("Enter")
    expect(log.locator(".row").last).to_have_text(re.compile(r"^ann: .*And one more\.$"))
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("() => new Set([...document.querySelectorAll('[id]')].map(({ id }) => id)).size") == (
        page.locator("[id]").count()
    )


FOCUSED = "() => (({ id, className, tagName }) => id || className || tagName)(document.activeElement)"


def test_the_keyboard_reaches_everything(server: Any, talk: str, people: Any) -> None:
    page = people.enter(server, talk, "ann", **PHONE)
    page.evaluate("() => document.activeElement.blur()")
    reached: list[str] = []
    while "composer-text" not in reached and len(reached) < 12:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    if "jump" in reached:  # there while the focus on the link scrolls it into view
        reached.remove("jump")
    assert reached == ["skip", "home", "people-button", "scroller", "A", "name-button", "composer-text"]
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Write a message")).to_be_focused()


def test_the_conversation_scrolls_by_keyboard(server: Any, room: str, people: Any) -> None:
    for number in range(45):
        server.post(room, "bob", f"message {number}")
    page = people.enter(server, room, "ann")
    expect(page.locator("#log .row")).to_have_count(45)
    page.locator("#scroller").focus()
    page.keyboard.press("Home")
    expect(page.locator("#log .text").first).to_be_in_viewport()
    expect(page.locator("#jump")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#log .text").last).to_be_in_viewport()
    expect(page.locator("#jump")).to_be_hidden()


def test_motion_is_reduced_for_those_who_ask(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann", reduced_motion="reduce")
    bob = people.enter(server, room, "bob")
    bob.get_by_label("Write a message").press_sequentially("hm")
    expect(page.locator("#typing")).to_have_text("bob is typing")
    assert page.evaluate("() => document.getAnimations().length") == 0


def _names(page: Page) -> list[str]:
    return page.locator("#people-list .name").all_inner_texts()


def test_many_people_are_listed_up_to_a_bound(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann")
    page.evaluate(
        """async () => {
            const url = new URL(location.href);
            url.protocol = "ws";
            window.others = [];
            for (let number = 0; number < 150; number += 1) {
                url.search = `handle=person ${number}`;
                const socket = new WebSocket(url);
                window.others.push(socket);
                await new Promise((resolve) => (socket.onopen = resolve));
            }
        }"""
    )
    expect(page.locator("#people-heading")).to_have_text("151 people here")
    names = _names(page)
    assert names[0] == "ann"
    assert names[1:] == [f"person {number}" for number in range(150)]
