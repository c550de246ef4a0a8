"""The browser client against a socket in the test's hand, under a clock in the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

LAB = Path(__file__).with_name("chat_client_lab.js").read_text(encoding="utf-8")


@pytest.fixture
def lab(server: Any, people: Any) -> Callable[[str], Any]:
    """Runs the body of an async function in which `start(options)` makes a client; `clock(ms)` lets time pass."""
    context = people.context()
    context.clock.install()
    page: Page = people.open(server.url, context=context)
    page.evaluate(LAB)
    page.expose_function("clock", lambda milliseconds: page.clock.run_for(milliseconds))

    def run(body: str) -> Any:
        return page.evaluate(f"async () => {{ {body} }}")

    return run


def test_it_says_what_it_wants_when_it_connects(lab: Callable[[str], Any]) -> None:
    query = lab("""
        const lab = start({ history: 50, presence: true, typing: true, token: "t.t" });
        const { url } = await lab.connect();
        return [url.protocol, url.pathname, Object.fromEntries(url.searchParams)];
    """)
    wanted = {"history": "50", "events": "presence,typing,ready,heartbeat", "handle": "ann", "token": "t.t"}
    assert query == ["ws:", "/chat/lab", wanted]


def test_it_comes_back_to_where_it_was_and_shows_nothing_twice(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start({ history: 50 });
        let socket = await lab.connect();
        socket.ready();
        const [one, two, three] = ["one", "two", "three"].map((text) => lab.message("bob", text));
        socket.receive(one);
        socket.receive(two);
        socket.lose();
        const states = [lab.client.state.name, lab.client.state.reason.code];
        await clock(1000);
        states.push(lab.client.state.name);
        socket = lab.socket;
        socket.ready();
        [two, three].forEach((message) => socket.receive(message));
        return [lab.texts(), Object.fromEntries(socket.url.searchParams), [...states, lab.client.state.name]];
    """)
    query = {"since": "e-2-2", "events": "ready,heartbeat", "handle": "ann"}
    assert result == [["one", "two", "three"], query, ["offline", "lost", "connecting", "online"]]


def test_without_a_message_it_comes_back_to_where_the_connection_began(lab: Callable[[str], Any]) -> None:
    since = lab("""
        const lab = start();
        (await lab.connect()).ready({ position: "e-7-7" });
        lab.socket.lose();
        await clock(1000);
        return lab.socket.url.searchParams.get("since");
    """)
    assert since == "e-7-7"


def test_messages_go_one_by_one_and_keep_their_order(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        lab.send("one");
        const socket = await lab.connect();
        lab.send("two");
        const before = socket.sent.length;
        socket.ready();
        const sent = [socket.sent.map(({ message }) => message)];
        socket.receive(lab.message("bob", "not mine"));
        socket.receive(lab.message("ann", "one", { key: socket.sent[0].key }));
        await lab.turn();
        sent.push(socket.sent.map(({ message }) => message));
        socket.receive(lab.message("ann", "two", { key: socket.sent[1].key }));
        await lab.turn();
        return [before, sent, lab.settled, lab.texts(), lab.client.unsent.length];
    """)
    settled = [["stored", "one", "e-2-2"], ["stored", "two", "e-3-3"]]
    assert result == [0, [["one"], ["one", "two"]], settled, ["not mine", "one", "two"], 0]


def test_what_was_not_acknowledged_is_sent_again_with_its_key(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("did it arrive?");
        const { key } = lab.socket.sent[0];
        lab.socket.lose();
        await clock(1000);
        lab.socket.ready();
        const again = lab.socket.sent[0].key === key;
        lab.socket.receive(lab.message("ann", "did it arrive?", { key }));
        lab.socket.receive(lab.message("ann", "did it arrive?", { key, id: "e-1-1" }));
        await lab.turn();
        return [again, lab.settled, lab.texts()];
    """)
    assert result == [True, [["stored", "did it arrive?", "e-1-1"]], ["did it arrive?"]]


def test_what_recovery_shows_as_stored_is_not_sent_again(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("it did");
        const { key } = lab.socket.sent[0];
        lab.socket.lose();
        await clock(1000);
        lab.socket.onopen({});
        lab.socket.receive(lab.message("ann", "it did", { key }));
        lab.socket.ready();
        await lab.turn();
        return [lab.socket.sent, lab.settled.length];
    """)
    assert result == [[], 1]


def test_an_answer_from_the_past_does_not_stand_at_the_end(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const storage = new (await import("/static/outbox.js")).MemoryStorage();
        let lab = start({ storage });
        (await lab.connect()).ready();
        lab.send("sent before the reload");
        const { key } = lab.socket.sent[0];
        const stored = lab.message("ann", "sent before the reload", { key });
        lab.client.close();
        lab = start({ storage, history: 1 });
        (await lab.connect()).receive(lab.message("bob", "the newest"));
        lab.socket.ready();
        const again = lab.socket.sent[0].key === key;
        lab.socket.receive(stored);
        return [again, lab.texts(), lab.client.position, lab.client.unsent.length];
    """)
    assert result == [True, ["the newest"], "e-2-2", 0]


def test_a_refusal_that_passes_only_delays(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("one");
        lab.send("two");
        const sent = [];
        for (const code of ["rate_limited", "try_again", "internal"]) {
            const { key } = lab.socket.sent.at(-1);
            lab.socket.receive({ error: { code, message: "later", key } });
            sent.push(lab.socket.sent.length);
            await clock(5000);
        }
        lab.socket.receive(lab.message("ann", "one", { key: lab.socket.sent[0].key }));
        const keys = lab.socket.sent.map(({ key }) => key);
        return [sent, lab.socket.sent.map(({ message }) => message), new Set(keys).size, lab.client.unsent.length];
    """)
    assert result == [[1, 2, 3], ["one", "one", "one", "one", "two"], 2, 1]


def test_a_final_refusal_is_told_and_does_not_hold_up_the_next(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("too long");
        lab.send("fine");
        const { key } = lab.socket.sent[0];
        lab.socket.receive({ error: { code: "message_too_long", message: "too long", key } });
        await lab.turn();
        const refused = lab.client.unsent.map(({ text, error }) => [text, error && error.code]);
        lab.socket.receive(lab.message("ann", "fine", { key: lab.socket.sent[1].key }));
        lab.client.retry(key);
        const again = lab.socket.sent.at(-1).key === key;
        lab.socket.receive({ error: { code: "message_too_long", message: "too long", key } });
        return [lab.settled, refused, again, lab.client.discard(key), lab.client.unsent];
    """)
    refused = [["too long", "message_too_long"], ["fine", None]]
    assert result == [[["message_too_long", "too long"]], refused, True, "too long", []]


def test_a_server_that_is_silent_is_left_and_asked_again_but_not_for_ever(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("anyone there?");
        const sockets = [];
        for (let times = 0; times < 5; times += 1) {
            await clock(15_000);
            sockets.push([lab.socket.closed, lab.client.state.reason?.code]);
            await clock(40_000);
            lab.socket.ready();
        }
        await lab.turn();
        return [sockets, lab.settled, lab.socket.sent.length];
    """)
    assert result == [[[True, "no_answer"]] * 5, [["no_answer", "anyone there?"]], 0]


def test_a_connection_that_does_not_become_live_is_given_up(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        const socket = await lab.connect();
        socket.onopen({});
        await clock(21_000);
        return [socket.closed, lab.sockets, lab.client.state.name, lab.client.state.reason.code];
    """)
    assert result == [True, 2, "connecting", "no_answer"]


def test_the_message_that_was_too_big_for_the_connection_is_not_sent_again(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("huge");
        lab.send("small");
        lab.socket.lose(1009, "message_too_long: frames may have 50000 bytes");
        await clock(1000);
        lab.socket.ready();
        return [lab.settled, lab.socket.sent.map(({ message }) => message)];
    """)
    assert result == [[["message_too_long", "huge"]], ["small"]]


OLD = """
    const storage = new (await import("/static/outbox.js")).MemoryStorage();
    let lab = start({ storage });
    (await lab.connect()).ready({ position: "e-5-5" });
    lab.send("hours ago");
    const { key } = lab.socket.sent[0];
    lab.client.close();
    await clock(3_600_000);
    const page = (messages, rest = {}) =>
        ({ body: { messages, position: "e-9-9", complete: true, more: false, ...rest } });
"""


def test_an_old_message_is_looked_up_before_it_is_sent_again(lab: Callable[[str], Any]) -> None:
    result = lab(
        OLD
        + """
        const between = lab.message("bob", "between");
        const stored = lab.message("ann", "hours ago", { key });
        lab = start({ storage, answers: [page([between], { more: true }), page([stored])] });
        (await lab.connect()).ready({ position: "e-9-9" });
        for (let turns = 0; turns < 20; turns += 1) await lab.turn();
        return [lab.asked.map(({ url }) => url), lab.socket.sent, lab.client.unsent];
    """
    )
    assert result == [["/chat/lab?since=e-5-5&limit=200", "/chat/lab?since=e-1-1&limit=200"], [], []]


def test_an_old_message_that_is_not_in_the_history_is_sent(lab: Callable[[str], Any]) -> None:
    result = lab(
        OLD
        + """
        lab = start({ storage, answers: [page([lab.message("bob", "hi")])] });
        (await lab.connect()).ready({ position: "e-9-9" });
        for (let turns = 0; turns < 20; turns += 1) await lab.turn();
        return [lab.socket.sent.map(({ message }) => message), lab.client.unsent[0].error];
    """
    )
    assert result == [["hours ago"], None]


@pytest.mark.parametrize("answers", ["page([], { complete: false })", ""])
def test_an_old_message_whose_fate_is_unknown_is_left_to_its_author(lab: Callable[[str], Any], answers: str) -> None:
    result = lab(
        OLD
        + f"""
        lab = start({{ storage, answers: [{answers}] }});
        (await lab.connect()).ready({{ position: "e-9-9" }});
        for (let turns = 0; turns < 20; turns += 1) await lab.turn();
        return [lab.socket.sent, lab.client.unsent[0].error.code];
    """
    )
    assert result == [[], "uncertain"]


def test_after_a_reset_the_newest_history_comes_before_what_is_live(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const messages = [1, 2, 3].map((n) => ({ id: `f-${n}-${n}`, timestamp: "", handle: "bob", message: `f${n}` }));
        const lab = start({ history: 2, answers: [{ body: { messages: messages.slice(0, 2) } }] });
        (await lab.connect()).ready();
        lab.socket.receive(lab.message("bob", "old"));
        lab.socket.receive({ event: "reset", position: "f-1-1" });
        lab.socket.receive(messages[1]);
        lab.socket.receive(messages[2]);
        const early = lab.texts();
        for (let turns = 0; turns < 20; turns += 1) await lab.turn();
        const reset = lab.events.find(([type]) => type === "reset")[1];
        return [early, reset.messages.map(({ message }) => message), lab.texts(), lab.client.position];
    """)
    assert result == [["old"], ["f1", "f2"], ["old", "f3"], "f-3-3"]


def test_a_reset_is_told_also_when_the_history_cannot_be_had(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start({ history: 2 });
        (await lab.connect()).ready();
        lab.socket.receive({ event: "reset", position: "f-1-1" });
        lab.socket.receive(lab.message("bob", "live"));
        for (let turns = 0; turns < 20; turns += 1) await lab.turn();
        return lab.events.map(([type, detail]) => [type, detail.messages ?? detail.message]).slice(-2);
    """)
    assert result == [["reset", []], ["message", "live"]]


@pytest.mark.parametrize(
    ("code", "reason", "state", "told"),
    [
        (1008, "token_expired: the token expired", "closed", "token_expired"),
        (1008, "not_allowed: no", "closed", "not_allowed"),
        (1008, "", "closed", "not_allowed"),
        (1001, "going_away: the server restarts; retry=1.7", "offline", "going_away"),
        (1011, "internal: oops", "offline", "lost"),
        (1013, "too_many_connections: full", "offline", "too_many_connections"),
        (3008, "too_slow: too much waits", "offline", "too_slow"),
        (1006, "", "offline", "lost"),
    ],
)
def test_how_it_ends_decides_whether_it_comes_back(
    lab: Callable[[str], Any], code: int, reason: str, state: str, told: str
) -> None:
    result = lab(f"""
        const lab = start();
        (await lab.connect()).ready();
        lab.socket.lose({code}, "{reason}");
        const {{ name, reason }} = lab.client.state;
        await clock(120_000);
        return [name, reason.code, lab.sockets > 1];
    """)
    assert result == [state, told, state == "offline"]


def test_a_renewed_token_opens_what_an_expired_one_closed(lab: Callable[[str], Any]) -> None:
    result = lab("""
        let asked = 0;
        const lab = start({ token: async () => `token-${asked += 1}` });
        (await lab.connect()).ready();
        lab.socket.lose(1008, "token_expired: the token expired");
        await clock(1000);
        return [lab.client.state.name, lab.socket.url.searchParams.get("token")];
    """)
    assert result == ["connecting", "token-2"]


def test_why_a_socket_does_not_open_is_asked_by_http(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const body = { error: { code: "token_required", message: "this room wants a token" } };
        const lab = start({ answers: [{ status: 401, body }] });
        await lab.connect();
        lab.socket.lose();
        const first = [lab.client.state.name, lab.client.state.reason.code, lab.asked.length];
        await clock(1000);
        lab.socket.lose();
        for (let turns = 0; turns < 20; turns += 1) await lab.turn();
        return [first, lab.asked, lab.client.state.name, lab.client.state.reason];
    """)
    asked = [{"url": "/chat/lab?events=ready%2Cheartbeat&handle=ann", "Accept": "text/event-stream"}]
    reason = {"code": "token_required", "message": "this room wants a token"}
    assert result == [["offline", "unreachable", 0], asked, "closed", reason]


def test_waits_grow_and_end_with_a_steady_connection(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        const waits = [];
        await lab.connect();
        for (let times = 0; times < 9; times += 1) {
            lab.socket.lose();
            for (let turns = 0; turns < 20; turns += 1) await lab.turn();
            waits.push(lab.client.state.retryAt - Date.now());
            await clock(waits.at(-1) + 10);
        }
        lab.socket.ready();
        await clock(11_000);
        lab.socket.lose();
        return [waits, lab.client.state.retryAt - Date.now()];
    """)
    waits, after = result
    for number, wait in enumerate(waits):
        longest = min(30_000, 500 * 2**number)
        assert longest / 2 - 1 <= wait <= longest
    assert after <= 500


def test_it_wakes_with_the_network(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        dispatchEvent(new Event("offline"));
        const offline = [lab.client.state.name, lab.client.state.reason.code, lab.socket.closed];
        dispatchEvent(new Event("online"));
        await lab.turn();
        return [offline, lab.client.state.name, lab.sockets];
    """)
    assert result == [["offline", "offline", True], "connecting", 2]


def test_another_name_is_another_connection_that_misses_nothing(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready({ position: "e-3-3" });
        const old = lab.socket;
        lab.client.rename("anna");
        await lab.turn();
        lab.socket.ready();
        lab.send("hello");
        return [old.closed, Object.fromEntries(lab.socket.url.searchParams), lab.socket.sent[0].handle];
    """)
    assert result == [True, {"since": "e-3-3", "events": "ready,heartbeat", "handle": "anna"}, "anna"]


def test_typing_is_told_now_and_then(lab: Callable[[str], Any]) -> None:
    sent = lab("""
        const lab = start();
        lab.client.typing();
        (await lab.connect()).ready();
        for (let times = 0; times < 7; times += 1) {
            lab.client.typing();
            await clock(1000);
        }
        return lab.socket.sent;
    """)
    assert sent == [{"handle": "ann", "typing": True}] * 3


def test_who_may_only_read_is_told_so(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready({ handle: "u1", writable: false });
        lab.send("let me");
        lab.client.typing();
        await lab.turn();
        return [lab.settled, lab.socket.sent, lab.client.unsent];
    """)
    assert result == [[["not_allowed", "let me"]], [], []]


def test_closing_ends_it_and_keeps_what_was_not_sent(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        lab.send("unfinished");
        lab.client.close();
        await lab.turn();
        await clock(120_000);
        return [lab.socket.closed, lab.sockets, lab.client.state.name, lab.settled, lab.client.unsent.length];
    """)
    assert result == [True, 1, "closed", [["closed", "unfinished"]], 1]


def test_what_is_not_for_it_is_ignored(lab: Callable[[str], Any]) -> None:
    result = lab("""
        const lab = start();
        (await lab.connect()).ready();
        for (const data of ["", "null", "[]", "7", "{}", '{"id":1,"message":2}', '{"event":"new"}', "{", new Blob()]) {
            lab.socket.onmessage({ data });
        }
        return [lab.events.length, lab.client.state.name];
    """)
    assert result == [1, "online"]
