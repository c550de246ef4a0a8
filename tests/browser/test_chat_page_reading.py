"""Reading in the chat page: what is shown of a message, what came before, what is new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import QUICK

pytestmark = pytest.mark.browser

Say = Callable[[Page, str], None]
Told = Callable[[Page], list[str]]


def test_text_is_never_markup(server: Any, room: str, people: Any, say: Say) -> None:
    attacks = [
        "<img src=x onerror=\"document.title='owned'\">",
        "<script>document.title='owned'</script>",
        "</p></div><style>*{display:none}</style>",
        "javascript:alert(1) data:text/html,<script>alert(1)</script>",
        '"><svg onload=alert(1)>&lt;b&gt;',
        "https://example.org/\"onmouseover=\"document.title='owned'",
    ]
    page = people.enter(server, room, "ann")
    for attack in attacks:
        server.post(room, "<b>mallory</b>", attack)
    expect(page.locator("#log .text")).to_have_text(attacks)
    expect(page.locator("#log .name")).to_have_text(["<b>mallory</b>"])
    assert page.locator("#log").locator("img, script, style, svg, b, [onload], [onerror], [onmouseover]").count() == 0
    expect(page).to_have_title(f"{room} · chat")


def test_addresses_become_safe_links(server: Any, room: str, people: Any) -> None:
    server.post(room, "bob", "see https://example.org/a_(b)?c=1&d. Or (http://example.net).")
    server.post(room, "bob", "https://bank.example@evil.example/ and javascript:alert(1)")
    page = people.enter(server, room, "ann")
    links = page.locator("#log a")
    expect(links).to_have_text(["https://example.org/a_(b)?c=1&d", "http://example.net"])
    for link in links.all():
        assert "noopener" in (link.get_attribute("rel") or "").split()
        assert link.get_attribute("target") == "_blank"
    assert links.first.get_attribute("href") == "https://example.org/a_(b)?c=1&d"


def test_older_messages_come_as_the_reader_scrolls_and_nothing_jumps(server: Any, room: str, people: Any) -> None:
    for number in range(180):
        server.post(room, "ann" if number // 3 % 2 else "bob", f"message {number} " + "and so on " * (number % 12))
    page = people.enter(server, room, "ann")
    expect(page.locator("#log .text").last).to_contain_text("message 179")
    moved = page.evaluate(SCROLL_UP)
    expect(page.locator("#log .text").first).to_contain_text("message 0 ")
    expect(page.locator("#older")).to_contain_text("history begins")
    numbers = [int(text.split()[1]) for text in page.locator("#log .text").all_inner_texts()]
    assert numbers == list(range(180))
    assert moved < 2, f"a row under the reader's eyes jumped by {moved} pixels"


def test_the_page_is_told_how_much_comes_at_once(start_server: Callable[..., Any], people: Any) -> None:
    server = start_server(*QUICK, "--limit-history-page", "20", "--limit-message-characters", "30")
    for number in range(70):
        server.post("small", "bob", f"message {number}")
    page = people.enter(server, "small", "ann")
    expect(page.locator("#log .text").last).to_have_text("message 69")
    page.evaluate(SCROLL_UP)
    expect(page.locator("#older")).to_contain_text("history begins")
    assert [int(text.split()[1]) for text in page.locator("#log .text").all_inner_texts()] == list(range(70))
    page.get_by_label("Write a message").fill("x" * 31)
    expect(page.locator("#composer-count")).to_contain_text("1")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()


# Scrolls up in steps to where the history begins; the largest difference between a step and what a visible row moved.
SCROLL_UP = """async () => {
    const scroller = document.getElementById("scroller");
    const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const older = document.getElementById("older");
    let worst = 0;
    while (scroller.scrollTop >= 1 || !older.textContent.includes("history begins")) {
        const top = scroller.getBoundingClientRect().top;
        const row = [...document.querySelectorAll("#log > .row")].find(
            (row) => row.getBoundingClientRect().bottom > top + 200,
        );
        const id = row.dataset.id;
        const before = row.getBoundingClientRect().bottom;
        const step = Math.min(300, scroller.scrollTop);
        scroller.scrollTop -= step;
        await frame();
        await frame();
        const after = document.querySelector(`[data-id="${id}"]`).getBoundingClientRect().bottom;
        worst = Math.max(worst, Math.abs(after - before - step));
        if (step < 1) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return worst;
}"""


def test_unread_messages_are_counted_and_marked(server: Any, room: str, people: Any, say: Say) -> None:
    for number in range(40):
        server.post(room, "bob", f"message {number}")
    page = people.enter(server, room, "ann")
    expect(page.locator("#log .text").last).to_have_text("message 39")
    expect(page.locator("#log .text").last).to_be_in_viewport()
    bottom = page.locator("#scroller").evaluate("(scroller) => scroller.scrollTop")
    page.mouse.move(300, 300)
    page.mouse.wheel(0, -500)
    jump = page.get_by_role("button", name="Jump to the newest message")
    expect(jump).to_be_visible()
    # It may glide there.
    page.wait_for_function("(top) => document.getElementById('scroller').scrollTop === top", arg=bottom - 500)
    top = bottom - 500
    server.post(room, "bob", "new one")
    server.post(room, "carol", "new two")
    expect(page).to_have_title(f"(2) {room} · chat")
    assert page.locator("#scroller").evaluate("(scroller) => scroller.scrollTop") == top
    page.get_by_role("button", name="2 new messages").click()
    expect(page).to_have_title(f"{room} · chat")
    expect(page.locator("#jump")).to_be_hidden()
    marked = page.locator("#log .row").filter(has=page.locator(".divider.new"))
    expect(marked).to_contain_text("new one")
    expect(page.locator("#log .text").last).to_be_in_viewport()
    say(page, "I have read it")
    expect(marked).to_have_count(0)


def test_messages_in_a_hidden_page_are_unread(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann")
    show = """(state) => {
        Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(show, "hidden")
    server.post(room, "bob", "psst")
    expect(page).to_have_title(f"(1) {room} · chat")
    page.evaluate(show, "visible")
    expect(page).to_have_title(f"{room} · chat")
    expect(page.locator("#log .divider.new")).to_be_visible()


def test_a_long_message_is_folded(server: Any, room: str, people: Any) -> None:
    server.post(room, "bob", "line\n" * 500)
    page = people.enter(server, room, "ann")
    bubble = page.locator("#log .bubble")
    folded = bubble.bounding_box()
    page.get_by_role("button", name="Show all").click()
    unfolded = bubble.bounding_box()
    assert folded is not None
    assert unfolded is not None
    assert folded["height"] < 500
    assert unfolded["height"] > 5000


# Writes so many messages through a connection of its own.
WRITE = """async (count) => {
    const socket = new WebSocket(location.href.replace("http", "ws"));
    await new Promise((resolve) => (socket.onopen = resolve));
    for (let number = 0; number < count; number += 1) {
        socket.send(JSON.stringify({ handle: `person ${number % 3}`, message: `message ${number}` }));
        if (number % 20 === 19) await new Promise((resolve) => setTimeout(resolve, 60));
    }
    socket.close();
}"""


def test_a_busy_room_stays_small_and_loses_nothing(server: Any, room: str, people: Any, told: Told) -> None:
    page = people.enter(server, room, "ann")
    page.evaluate(WRITE, 900)
    expect(page.locator("#log .text").last).to_have_text("message 899")
    expect(page.locator("#log .text").last).to_be_in_viewport()
    assert told(page) == [f"message {number}" for number in range(400, 900)]
    assert page.evaluate(SCROLL_UP) < 2
    expect(page.locator("#log .text").first).to_have_text("message 0")
    assert told(page) == [f"message {number}" for number in range(500)]
    page.get_by_role("button", name="Jump to the newest message").click()
    expect(page.locator("#log .text").last).to_have_text("message 899")
    expect(page.locator("#log .text").last).to_be_in_viewport()


def test_older_messages_that_do_not_come_can_be_asked_for_again(server: Any, room: str, people: Any) -> None:
    for number in range(60):
        server.post(room, "bob", f"message {number}")
    page = people.context().new_page()
    page.route("**/chat/*before=*", lambda route: route.abort())
    page.goto(f"{server.url}/chat/{room}")
    expect(page.locator("#log .text")).to_have_count(50)
    page.locator("#scroller").evaluate("(scroller) => { scroller.scrollTop = 0; }")
    expect(page.get_by_text("Older messages could not be loaded.")).to_be_visible()
    page.unroute("**/chat/*before=*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#log .text")).to_have_count(60)
    expect(page.locator("#older")).to_contain_text("history begins")
