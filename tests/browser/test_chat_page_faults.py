"""The chat page when something fails: the server, the network, a message, a token."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

Say = Callable[[Page, str], None]
Told = Callable[[Page], list[str]]


def test_a_restart_loses_and_doubles_nothing(own_server: Any, people: Any, say: Say, told: Told) -> None:
    ann = people.enter(own_server, "lobby", "ann")
    bob = people.enter(own_server, "lobby", "bob")
    say(ann, "before")
    expect(bob.locator("#log")).to_contain_text("before")
    own_server.stop()
    for number in range(3):
        say(ann, f"ann, meanwhile {number}")
        say(bob, f"bob, meanwhile {number}")
    expect(ann.get_by_role("status")).to_contain_text("is kept and sent later")
    expect(ann.locator("#unsent .row")).to_have_count(3)
    own_server.start()
    own_server.post("lobby", "carol", "from elsewhere")
    for page in (ann, bob):
        expect(page.locator("#log .text")).to_have_count(8)
        expect(page.locator("#unsent .row")).to_have_count(0)
    say(ann, "after")
    for page in (ann, bob):
        expect(page.locator("#log .text")).to_have_count(9)
        assert told(page) == [message for _, message in own_server.history("lobby")]
    for name in ("ann", "bob"):
        own = [message for handle, message in own_server.history("lobby") if handle == name and "meanwhile" in message]
        assert own == [f"{name}, meanwhile {number}" for number in range(3)]
    expect(ann.get_by_role("status")).to_be_hidden()


def test_a_crash_in_the_middle_of_writing_loses_and_doubles_nothing(
    own_server: Any, people: Any, say: Say, told: Told
) -> None:
    ann = people.enter(own_server, "lobby", "ann")
    bob = people.enter(own_server, "lobby", "bob")
    for number in range(60):
        say(ann, f"message {number}")
        if number in {15, 45}:
            own_server.stop(crash=True)
        if number in {30, 55}:
            own_server.start()
    for page in (ann, bob):
        expect(page.locator("#log .text")).to_have_text([f"message {number}" for number in range(60)])
    assert [message for _, message in own_server.history("lobby")] == [f"message {number}" for number in range(60)]


def test_what_is_written_without_a_network_is_sent_when_it_is_back(own_server: Any, people: Any, say: Say) -> None:
    ann = people.enter(own_server, "lobby", "ann")
    bob = people.enter(own_server, "lobby", "bob")
    ann.context.set_offline(True)
    expect(ann.get_by_role("status")).to_contain_text("You are offline")
    say(ann, "from the tunnel")
    say(bob, "where is ann?")
    expect(ann.locator("#unsent")).to_contain_text("Waiting to be sent")
    expect(bob.locator("#log .text")).to_have_text(["where is ann?"])
    ann.context.set_offline(False)
    for page in (ann, bob):
        expect(page.locator("#log .text")).to_have_text(["where is ann?", "from the tunnel"])
    expect(ann.locator("#unsent .row")).to_have_count(0)


def test_a_server_that_hangs_is_noticed_without_a_word_written(
    start_server: Callable[..., Any], people: Any, say: Say
) -> None:
    server = start_server("--limit-ping-interval", "1")
    ann = people.enter(server, "lobby", "ann")
    server.pause()
    expect(ann.get_by_role("status")).to_be_visible()
    server.resume()
    server.post("lobby", "bob", "are you back?")
    expect(ann.locator("#log .text")).to_have_text(["are you back?"])
    expect(ann.get_by_role("status")).to_be_hidden()


def test_what_could_not_be_sent_survives_the_page(own_server: Any, people: Any, say: Say, told: Told) -> None:
    ann = people.enter(own_server, "lobby", "ann")
    own_server.stop()
    expect(ann.get_by_role("status")).to_be_visible()
    say(ann, "first")
    say(ann, "second")
    context = ann.context
    ann.close()
    own_server.start()
    # Two tabs find the same messages, and both send them.
    tabs = [people.open(f"{own_server.url}/chat/lobby/", "ann", context=context) for _ in range(2)]
    for tab in tabs:
        expect(tab.locator("#log .text")).to_have_text(["first", "second"])
        expect(tab.locator("#unsent .row")).to_have_count(0)
    assert own_server.history("lobby") == [("ann", "first"), ("ann", "second")]


def test_a_draft_survives_a_reload(own_server: Any, people: Any) -> None:
    page = people.enter(own_server, "lobby", "ann")
    page.get_by_label("Write a message").fill("not quite fin")
    page.reload()
    expect(page.get_by_label("Write a message")).to_have_value("not quite fin")


def test_the_rate_limit_only_delays(start_server: Callable[..., Any], people: Any, say: Say) -> None:
    server = start_server("--limit-messages-per-connection", "4:3")
    page = people.enter(server, "lobby", "ann")
    for number in range(8):
        say(page, f"message {number}")
    expect(page.locator("#log .text")).to_have_text([f"message {number}" for number in range(8)])
    assert [message for _, message in server.history("lobby")] == [f"message {number}" for number in range(8)]


def test_a_refused_message_can_be_edited_repeated_or_discarded(server: Any, room: str, people: Any, say: Say) -> None:
    page = people.enter(server, room, "ann")
    say(page, INVISIBLE)
    refused = page.locator("#unsent .refused")
    expect(refused.get_by_role("alert")).to_contain_text("visible character")
    say(page, "short")
    expect(page.locator("#log .text")).to_have_text("short")
    refused.get_by_role("button", name="Try again").click()
    expect(refused.get_by_role("alert")).to_contain_text("visible character")
    page.reload()
    expect(refused).to_have_count(1)
    refused.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Write a message")).to_have_value(INVISIBLE)
    expect(refused).to_have_count(0)
    page.keyboard.press("Enter")
    refused.get_by_role("button", name="Discard").click()
    expect(page.locator("#unsent .row")).to_have_count(0)
    assert server.history(room) == [("ann", "short")]


INVISIBLE = "\u200b\u2060"
"""What the page sends, and the server refuses."""


def test_a_lost_history_is_told(own_server: Any, people: Any, told: Told) -> None:
    own_server.post("lobby", "bob", "old times")
    page = people.enter(own_server, "lobby", "ann")
    expect(page.locator("#log .text")).to_have_text("old times")
    own_server.stop()
    for file in own_server.directory.glob("chat.db*"):
        file.unlink()
    own_server.start()
    own_server.post("lobby", "bob", "a new beginning")
    expect(page.locator("#log .gap")).to_have_text("Some messages may be missing here")
    expect(page.locator("#log .text")).to_have_text(["old times", "a new beginning"])
    own_server.post("lobby", "bob", "and on")
    expect(page.locator("#log .text")).to_have_text(["old times", "a new beginning", "and on"])


def test_a_server_that_is_away_is_tried_again_at_once_when_asked(own_server: Any, people: Any) -> None:
    context = people.context()
    context.clock.install()
    page = people.enter(own_server, "lobby", "ann", context=context)
    own_server.stop()
    retry = page.get_by_role("button", name="Try now")
    expect(page.locator("#banner-countdown")).to_have_text(re.compile(r"Trying again in \d+ s\."))
    # After some failures the waits are long enough to be cut short.
    expect(page.locator("#banner-countdown")).to_have_text(re.compile(r"in ([4-9]|\d\d) s"))
    # From two seconds later on no time passes in the page: it does not try again by itself.
    page.clock.pause_at(page.evaluate("() => Date.now()") / 1000 + 2)
    own_server.start()
    retry.click()
    expect(page.get_by_role("status")).to_have_text("Connected again")
    page.clock.resume()
    expect(page.get_by_role("status")).to_be_hidden()


def test_a_token_says_who_one_is(start_server: Callable[..., Any], people: Any, tmp_path: Path, say: Say) -> None:
    import jwt

    key = tmp_path / "key"
    secret = "a secret that is long enough for HS256, which wants 32 bytes"
    key.write_text(secret)
    server = start_server("--token-key-file", str(key))
    writer = jwt.encode({"sub": "u1", "info": {"handle": "ann"}}, secret, "HS256")
    reader = jwt.encode({"sub": "u2", "rooms": {"read": ["lobby"], "write": []}}, secret, "HS256")

    page = people.open(f"{server.url}/chat/lobby#token={writer}")
    expect(page).to_have_url(f"{server.url}/chat/lobby")
    expect(page.get_by_role("button", name="You are ann")).to_be_disabled()
    say(page, "hello")
    expect(page.locator("#log .own .text")).to_have_text("hello")
    page.reload()  # the token is still known
    expect(page.locator("#log .own .text")).to_have_text("hello")

    page = people.open(f"{server.url}/chat/lobby?token={reader}")
    expect(page).to_have_url(f"{server.url}/chat/lobby")
    expect(page.get_by_text("You can read this room, but not write in it.")).to_be_visible()
    expect(page.locator("#log .text")).to_have_text("hello")
    expect(page.get_by_label("Write a message")).to_be_hidden()

    page = people.open(f"{server.url}/chat/lobby", "mallory")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("token")
    page.get_by_label("Token", exact=True).fill(writer)
    page.get_by_role("button", name="Use token").click()
    expect(page.locator("#log .own .text")).to_have_text("hello")
    expect(page.locator("#people-list")).not_to_contain_text("mallory")


def test_a_name_that_the_server_does_not_take_is_asked_for_again(start_server: Callable[..., Any], people: Any) -> None:
    server = start_server("--limit-handle-characters", "5")
    page = people.open(f"{server.url}/chat/lobby", "annabella")
    expect(page.get_by_role("alert").filter(has_text="5 characters")).to_be_visible()
    page.get_by_label("What should others call you?").fill("anna")
    page.keyboard.press("Enter")
    expect(page.locator("#people-list")).to_contain_text("anna")
    expect(page.get_by_role("status")).to_be_hidden()


def test_a_full_server_is_named_as_the_reason(start_server: Callable[..., Any], people: Any) -> None:
    server = start_server("--limit-connections", "1")
    ann = people.enter(server, "lobby", "ann")
    bob = people.open(f"{server.url}/chat/lobby", "bob")
    expect(bob.get_by_role("status")).to_contain_text("this server takes 1 connections")
    expect(bob.get_by_role("button", name="Try now")).to_be_visible()
    ann.close()
    expect(bob.locator("#people-list")).to_contain_text("bob")
