"""The pure parts of the browser client and of the chat page, and the client in Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

Run = Callable[..., Any]


@pytest.fixture
def run(server: Any, people: Any) -> Run:
    """Calls a function of a module of ours with JSON values."""
    page = people.open(server.url)

    def run(module: str, expression: str, *values: object) -> Any:
        call = f"async (values) => {{ const module = await import('/static/{module}.js'); return {expression}; }}"
        return page.evaluate(call, list(values))

    return run


def test_backoff_grows_within_its_bounds(run: Run) -> None:
    waits = run(
        "reconnect",
        """[0, 1].map((random) => {
            const backoff = new module.Backoff({ first: 100, longest: 1000, random: () => random });
            const waits = Array.from({ length: 6 }, () => backoff.next());
            backoff.reset();
            return [...waits, backoff.next(), backoff.attempts];
        })""",
    )
    assert waits == [[50, 100, 200, 400, 500, 500, 50, 1], [100, 200, 400, 800, 1000, 1000, 100, 1]]


@pytest.mark.parametrize(
    ("code", "text", "again", "after", "reason"),
    [
        (1001, "going_away: the server restarts; retry=1.7", True, 1700, "going_away"),
        (1001, "retry=99999", True, 300_000, "going_away"),
        (1001, "", True, 0, "going_away"),
        (1013, "", True, 5000, "try_again"),
        (1013, "rate_limited: wait; retry=60", True, 60_000, "rate_limited"),
        (3008, "", True, 0, "too_slow"),
        (1005, "", True, None, "lost"),
        (1006, "", True, None, "lost"),
        (1011, "internal: oops", True, None, "lost"),
        (1009, "", True, None, "message_too_long"),
        (1007, "", False, None, "not_allowed"),
        (1008, "token_expired: come back with a new one", False, None, "token_expired"),
    ],
)
def test_what_a_close_code_means(run: Run, code: int, text: str, again: bool, after: int | None, reason: str) -> None:
    verdict = run("reconnect", "module.afterClose(...values)", code, text)
    assert (verdict["again"], verdict.get("after"), verdict["reason"]["code"]) == (again, after, reason)
    assert verdict["reason"]["message"]


@pytest.mark.parametrize(
    ("status", "body", "retry", "again", "after", "reason"),
    [
        (200, {}, None, True, 5000, "websocket_blocked"),
        (401, {"error": {"code": "token_required", "message": "m"}}, None, False, None, "token_required"),
        (403, None, None, False, None, "http_403"),
        (400, {"error": "bad"}, None, False, None, "http_400"),
        (429, {"error": {"code": "too_many_from_address", "message": "m"}}, "7", True, 7000, "too_many_from_address"),
        (503, None, "Sun, 22 Nov 2026 10:00:00 GMT", True, 5000, "http_503"),
        (502, "<html>", "100000", True, 300_000, "http_502"),
    ],
)
def test_what_an_http_refusal_means(
    run: Run, status: int, body: object, retry: str | None, again: bool, after: int | None, reason: str
) -> None:
    verdict = run("reconnect", "module.afterRefusal(...values)", status, body, retry)
    assert (verdict["again"], verdict.get("after"), verdict["reason"]["code"]) == (again, after, reason)


def test_the_outbox_keeps_order_over_a_reload_and_shares_its_storage(run: Run) -> None:
    result = run(
        "outbox",
        """(() => {
            const storage = new module.MemoryStorage();
            const [here, there] = [1, 2].map(() => new module.Outbox(storage, "room:", 10));
            const other = new module.Outbox(storage, "another room:", 10);
            here.add({ key: "a", text: "first", handle: "ann", at: 5 });
            here.add({ key: "b", text: "second", handle: "ann", at: 5 });
            there.add({ key: "c", text: "from the other tab", handle: null, at: 4 });
            other.add({ key: "d", text: "elsewhere", handle: "ann", at: 1 });
            here.update(here.find("a"), { sentAt: 6, after: "e-1-1" });
            here.update(here.find("b"), { error: { code: "bad_message", message: "no" } });
            storage.setItem("room:broken", "{");
            storage.setItem("room:foreign", '{"text": 7}');
            const later = new module.Outbox(storage, "room:", 10);
            const read = later.entries.map(({ key, text, sentAt, error }) => [key, text, sentAt, error && error.code]);
            const next = later.next.key;
            later.remove("c");
            return [read, next, later.next.key, later.remove("x") ?? null, storage.length,
                later.keyOf("room:a"), later.keyOf("another room:d") ?? null];
        })()""",
    )
    read = [
        ["c", "from the other tab", None, None],
        ["a", "first", 6, None],
        ["b", "second", None, "bad_message"],
    ]
    assert result == [read, "c", "a", None, 3, "a", None]


def test_the_outbox_is_bounded_and_says_so(run: Run) -> None:
    error = run(
        "outbox",
        """(() => {
            const outbox = new module.Outbox(new module.MemoryStorage(), "room:", 2);
            const add = (key) => outbox.add({ key, text: "t", handle: null, at: 1 });
            add("a");
            add("b");
            try { add("c"); } catch (error) { return [error.code, error.message, outbox.entries.length]; }
        })()""",
    )
    assert error == [
        "outbox_full",
        "2 messages wait to be sent already; more can be written once some of them are",
        2,
    ]


def test_the_outbox_works_where_nothing_can_be_stored(run: Run) -> None:
    kept = run(
        "outbox",
        """(() => {
            const storage = new module.MemoryStorage();
            storage.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
            const outbox = new module.Outbox(storage, "room:", 2);
            outbox.add({ key: "a", text: "t", handle: null, at: 1 });
            return [outbox.next.text, outbox.remove("a").key, outbox.entries.length];
        })()""",
    )
    assert kept == ["t", "a", 0]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see https://a.example/x_(y). ok", ["https://a.example/x_(y)"]),
        ("(https://a.example/c) [http://b.example]", ["https://a.example/c", "http://b.example"]),
        ("HTTPS://É.example/ñ, and", ["HTTPS://É.example/ñ"]),
        ("https://a.b/?q=1&r=2!!", ["https://a.b/?q=1&r=2"]),
        ('<a href="https://a.b/c">', ["https://a.b/c"]),
        ("javascript:alert(1) data:x ftp://a.b xhttp://a.b http:// https://u@a.b https://a.b:99999", []),
    ],
)
def test_which_addresses_are_links(run: Run, text: str, links: list[str]) -> None:
    pieces = run("text", "module.pieces(values[0])", text)
    assert "".join(piece["text"] for piece in pieces) == text
    assert [piece["text"] for piece in pieces if "href" in piece] == links
    assert all(piece["href"].startswith(("http://", "https://")) for piece in pieces if "href" in piece)


def test_what_is_sent_is_what_the_server_takes(run: Run) -> None:
    cleaned = run("text", "module.cleaned(values[0] + '\\ud800')", "\n \n  a\x07b\r\nc\x9f\td \n ")
    assert cleaned == "  ab\nc\td \n �"
    assert run("text", "module.cleaned(values[0])", "\n\r\n  indented\n\n") == "  indented"
    assert run("text", "module.lengthOf(values[0])", "añ😀") == 3


def test_both_languages_have_all_texts(run: Run) -> None:
    english, spanish = run("i18n", "[module.STRINGS.en, module.STRINGS.es]")
    # English lets the server's own words stand.
    assert {key for key in spanish if key not in english} == {
        key for key in spanish if key.startswith("reason.")
    } - set(english)
    assert set(english) <= set(spanish)
    for key, text in english.items():
        assert _placeholders(spanish[key]) == _placeholders(text), key


def _placeholders(text: str) -> set[str]:
    return {part.partition("}")[0] for part in text.split("{")[1:]}


def test_every_text_that_the_pages_name_exists(run: Run) -> None:
    english = set(run("i18n", "Object.keys(module.STRINGS.en)"))
    static = files("twisted_chat.server").joinpath("static")
    for page in ("chat.html", "index.html"):
        text = static.joinpath(page).read_text(encoding="utf-8")
        named = {
            part.partition('"')[0]
            for name in ("", "-label", "-placeholder")
            for part in text.split(f'data-t{name}="')[1:]
        }
        assert named
        assert named <= english
        # The policy forbids them: a page that had some would work differently when it is served.
        assert "style=" not in text
        assert " on" not in "".join(tag.partition(">")[0] for tag in text.split("<button")[1:])


def test_every_module_of_the_chat_page_is_preloaded(run: Run) -> None:
    loaded = run(
        "i18n",
        """await (async () => {
            const seen = new Set();
            const visit = async (name) => {
                if (seen.has(name)) return;
                seen.add(name);
                const source = await (await fetch(`/static/${name}`)).text();
                for (const [, next] of source.matchAll(/from "\\.\\/([\\w-]+\\.js)"/g)) await visit(next);
            };
            await visit("chat-page.js");
            return [...seen];
        })()""",
    )
    page = files("twisted_chat.server").joinpath("static", "chat.html").read_text(encoding="utf-8")
    preloaded = {part.partition('"')[0] for part in page.split('rel="modulepreload" href="/static/')[1:]}
    assert preloaded == set(loaded) - {"chat-page.js"}


NODE = """
import { ChatClient } from "MODULE";
const options = { handle: "node", history: 10, presence: true };
const room = new ChatClient(process.argv[2], options);
room.addEventListener("message", ({ detail }) => console.log(JSON.stringify([detail.handle, detail.message])));
room.connect();
const stored = await room.send("from Node.js");
console.log(JSON.stringify((await room.history({ limit: 10 })).messages.at(-1).id === stored.id));
room.close();
"""


def _node() -> list[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on PATH")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    major, minor = map(int, version.removeprefix("v").split(".")[:2])
    if (major, minor) < (20, 19):
        pytest.skip(f"node {version.strip()} has no WebSocket or no ES modules without a package; 20.19 is the first")
    return [node, "--no-warnings"] if major >= 22 else [node, "--no-warnings", "--experimental-websocket"]


def test_the_client_runs_in_node(server: Any, tmp_path: Path) -> None:
    server.post("node", "bob", "hello")
    node = _node()
    with as_file(files("twisted_chat.server").joinpath("static")) as static:
        script = tmp_path / "script.mjs"
        script.write_text(NODE.replace("MODULE", (static / "chat-client.js").as_uri()), encoding="utf-8")
        command = [*node, str(script), f"{server.url}/chat/node"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert [json.loads(line) for line in printed.splitlines()] == [["bob", "hello"], ["node", "from Node.js"], True]


def test_the_client_works_from_another_origin(start_server: Callable[..., Any], people: Any) -> None:
    home = start_server()
    server = start_server("--allow-origin", home.url)
    page = people.open(home.url, bypass_csp=True)
    told = page.evaluate(
        """async (server) => {
            const { ChatClient } = await import(`${server}/static/chat-client.js`);
            const room = new ChatClient(`${server}/chat/lobby`, { handle: "ann" });
            room.connect();
            const { id } = await room.send("from far away");
            const { messages } = await room.history();
            room.close();
            return messages.map((message) => [message.message, message.id === id]);
        }""",
        server.url,
    )
    assert told == [["from far away", True]]
