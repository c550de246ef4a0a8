"""The chat page: people in real browsers talk through a real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

Say = Callable[[Page, str], None]
Told = Callable[[Page], list[str]]


def test_two_people_talk(server: Any, room: str, people: Any, say: Say) -> None:
    ann = people.enter(server, f"team/{room}", "ann")
    bob = people.enter(server, f"team/{room}", "bob")
    say(ann, "hello, bob")
    expect(bob.locator("#log")).to_contain_text("hello, bob")
    say(bob, "hello, ann")
    for page in (ann, bob):
        expect(page.locator("#log .text")).to_have_text(["hello, bob", "hello, ann"])
        expect(page.locator("#unsent .row")).to_have_count(0)
    expect(ann.locator("#log .own")).to_have_text(re.compile("hello, bob"))
    expect(bob.locator("#log .own")).to_have_text(re.compile("hello, ann"))
    expect(ann.get_by_role("heading", level=1)).to_have_text(f"team/{room}")
    expect(bob.locator("#log .row").first.locator(".name")).to_have_text("ann")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/chat", "lobby"), ("/chat/", "lobby"), ("/chat/a/b/", "a/b"), ("/chat/caf%C3%A9%20%231", "café #1")],
)
def test_the_room_is_named_by_the_path(server: Any, people: Any, path: str, name: str) -> None:
    page = people.open(server.url + path, "ann")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page).to_have_title(f"{name} · chat")
    expect(page.locator("#people-list")).to_contain_text("ann")


def test_the_first_visit_asks_for_a_name_and_the_second_does_not(
    server: Any, room: str, people: Any, say: Say, told: Told
) -> None:
    server.post(room, "bob", "come in")
    page = people.open(f"{server.url}/chat/{room}")
    expect(page.locator("#log")).to_contain_text("come in")
    name = page.get_by_label("What should others call you?")
    expect(name).to_be_focused()
    name.fill("  ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="at least one character")).to_be_visible()
    name.fill("  Ann   Lee ")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Write a message")).to_be_focused()
    say(page, "hello")
    expect(page.locator("#log .own .text")).to_have_text("hello")
    page.reload()
    expect(page.locator("#people-list")).to_contain_text("Ann Lee")
    expect(name).to_be_hidden()
    assert server.history(room) == [("bob", "come in"), ("Ann Lee", "hello")]


def test_a_name_can_be_changed(server: Any, room: str, people: Any, say: Say) -> None:
    ann = people.enter(server, room, "ann")
    bob = people.enter(server, room, "bob")
    say(ann, "as ann")
    expect(ann.locator("#log .own")).to_have_count(1)
    ann.get_by_role("button", name="Your name is ann").click()
    ann.get_by_label("What should others call you?").fill("anna")
    ann.get_by_role("button", name="Save").click()
    expect(bob.locator("#people-list .name")).to_have_text(["bob", "anna"])
    say(ann, "as anna")
    expect(bob.locator("#log .name")).to_have_text(["ann", "anna"])
    expect(ann.locator("#log .own")).to_have_text(re.compile("as anna"))


def test_changing_a_name_can_be_called_off(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann")
    page.get_by_role("button", name="Your name is ann").click()
    page.get_by_label("What should others call you?").fill("anna")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Write a message")).to_be_visible()
    expect(page.get_by_role("button", name="Your name is ann")).to_be_visible()


def test_presence_and_typing(server: Any, room: str, people: Any, say: Say) -> None:
    ann = people.enter(server, room, "ann")
    expect(ann.locator("#people-heading")).to_have_text("1 person here")
    bob = people.enter(server, room, "bob")
    expect(ann.locator("#people-list .person")).to_have_text(["Aannyou", "Bbob"])
    expect(ann.locator("#people-heading")).to_have_text("2 people here")
    bob.get_by_label("Write a message").press_sequentially("I was just")
    expect(ann.locator("#typing")).to_have_text("bob is typing")
    expect(bob.locator("#typing")).to_be_empty()
    bob.keyboard.press("Enter")
    expect(ann.locator("#log .text")).to_have_text("I was just")
    expect(ann.locator("#typing")).to_be_empty()
    bob.close()
    expect(ann.locator("#people-heading")).to_have_text("1 person here")


def test_names_that_look_alike_are_marked(server: Any, room: str, people: Any) -> None:
    ann = people.enter(server, room, "constructor")  # which every object in JavaScript has
    other = people.enter(server, room, "c\u043enstructor")  # CYRILLIC SMALL LETTER O
    bob = people.enter(server, room, "bob")
    for page in (ann, other, bob):
        expect(page.locator("#people-list .alike")).to_have_count(2)
        expect(page.locator("#people-list .person", has_text="bob").locator(".alike")).to_have_count(0)
    other.close()
    expect(bob.locator("#people-list .alike")).to_have_count(0)


def test_spanish(own_server: Any, people: Any, say: Say) -> None:
    page = people.open(f"{own_server.url}/chat/sala", locale="es-MX")
    expect(page.locator("html")).to_have_attribute("lang", "es-MX")
    page.get_by_label("¿Cómo quieres que te llamen?").fill("maría")
    page.get_by_role("button", name="Entrar").click()
    expect(page.locator("#people-heading")).to_have_text("1 persona aquí")
    page.get_by_label("Escribe un mensaje").fill("hola")
    page.get_by_role("button", name="Enviar").click()
    expect(page.locator("#log h2")).to_have_text("Hoy")
    own_server.stop()
    expect(page.get_by_role("status")).to_contain_text("Lo que escribas se guarda y se envía después.")


def test_another_language_gets_english(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann", locale="fr-FR")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_label("Write a message")).to_be_visible()


def test_enter_sends_and_shift_enter_does_not(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann")
    page.locator("body").press("h")  # wherever the focus is, writing goes to the composer
    expect(page.get_by_label("Write a message")).to_have_value("h")
    page.keyboard.type("i")
    height = page.get_by_label("Write a message").bounding_box()
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there\n")
    expect(page.locator("#log .text")).to_have_text("hi\nthere", use_inner_text=True)
    expect(page.get_by_label("Write a message")).to_have_value("")
    page.keyboard.press("Enter")
    page.keyboard.type("   ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    page.get_by_label("Write a message").fill("one\ntwo\nthree")
    grown = page.get_by_label("Write a message").bounding_box()
    assert height is not None
    assert grown is not None
    assert grown["height"] > height["height"] + 30
    assert server.history(room) == [("ann", "hi\nthere")]


def test_composing_a_character_does_not_send(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann")
    field = page.get_by_label("Write a message")
    field.fill("にほん")
    field.evaluate(
        """(field) => field.dispatchEvent(
            new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true }))"""
    )
    expect(field).to_have_value("にほん")
    field.press("Enter")
    expect(page.locator("#log .text")).to_have_text("にほん")


def test_the_length_is_counted_as_the_server_does(server: Any, room: str, people: Any) -> None:
    page = people.enter(server, room, "ann")
    field = page.get_by_label("Write a message")
    field.fill("😀" * 4097)
    expect(page.locator("#composer-count")).to_have_text("1 character too many")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    field.press("Enter")
    expect(field).to_have_value("😀" * 4097)
    field.fill("😀" * 4096)
    expect(page.locator("#composer-count")).to_have_text("0 characters left")
    field.press("Enter")
    expect(page.locator("#log .text")).to_have_text("😀" * 4096)
