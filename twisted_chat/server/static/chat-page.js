/** The page of a room: puts the client and the parts of the page together. */

import { Banner } from "./banner.js";
import { ChatClient } from "./chat-client.js";
import { Composer } from "./composer.js";
import { byId } from "./element.js";
import { reasonText, t, translate } from "./i18n.js";
import { NameForm, keepToken, rememberedHandle, takeToken } from "./identity.js";
import { People } from "./people.js";
import { Timeline } from "./timeline.js";
import { Typing } from "./typing.js";
import { Unread } from "./unread.js";
import { UnsentList } from "./unsent.js";

const FIRST_PAGE = 50;
/** Refusals of a frame that say nothing the user could act on, or are shown at the message. */
const UNTOLD = new Set(["rate_limited", "try_again", "unavailable", "going_away"]);

translate();

const room = roomName(location.pathname);
byId("room").textContent = room;

const token = takeToken(room);
const client = new ChatClient(location.pathname, {
    handle: rememberedHandle(),
    token,
    history: FIRST_PAGE,
    presence: true,
    typing: true,
});
/** Who a token says the reader is; null: whoever they say. @type {string | null} */
let authenticated = null;
/** Until the connection is live for the first time, what comes is history. */
let beginning = 0;
let begun = false;

const ownHandle = () => authenticated ?? client.handle;

const timeline = new Timeline({
    scroller: byId("scroller"),
    list: byId("log"),
    isOwn: (handle) => handle === ownHandle(),
    load: async (before, limit) => {
        const { complete, ...page } = await client.history({ before, limit });
        // Not complete: the history does not reach back there any more, and the answer is its newest end instead.
        return complete ? page : { messages: [], more: false };
    },
});
const unread = new Unread({ room, timeline, jump: byId("jump") });
const people = new People();
const typing = new Typing(byId("typing"));
const composer = new Composer({ room, send, typing: () => client.typing() });
const unsent = new UnsentList(byId("unsent"), {
    retry: (key) => client.retry(key),
    discard: (key) => client.discard(key),
    edit: (key) => composer.edit(client.discard(key) ?? ""),
});
const nameForm = new NameForm({
    shown: () => showForms(),
    chosen: (handle) => {
        client.rename(handle);
        showWhoIAm();
        composer.focus();
    },
});
const banner = new Banner({
    retry: () => client.connect(),
    token: (given) => {
        keepToken(room, given);
        client.authenticate(given);
    },
});

client.addEventListener("message", ({ detail: message }) => {
    timeline.append([message]);
    typing.stopped(message.handle);
    if (!begun) {
        beginning += 1;
    } else if (message.handle !== ownHandle()) {
        unread.came(message.id);
    }
});
client.addEventListener("reset", ({ detail }) => timeline.interrupt(detail.messages));
client.addEventListener("presence", ({ detail }) => people.all(detail.members, detail.skeletons));
client.addEventListener("join", ({ detail }) => people.join(detail.handle, detail.skeleton));
client.addEventListener("leave", ({ detail }) => {
    people.leave(detail.handle);
    typing.stopped(detail.handle);
});
client.addEventListener("typing", ({ detail }) => detail.handle !== ownHandle() && typing.started(detail.handle));
client.addEventListener("outbox", ({ detail }) => {
    unsent.show(detail.unsent);
    showEmptiness();
});
client.addEventListener("ready", ({ detail }) => {
    authenticated = detail.handle;
    composer.longest = detail.limits.message_characters;
    nameForm.longest = detail.limits.handle_characters;
    showWhoIAm();
    if (!begun) {
        begun = true;
        timeline.begin(beginning >= Math.min(FIRST_PAGE, detail.limits.history_page));
        // From here on a screen reader is to hear what comes; the past is there to be read.
        setTimeout(() => byId("log").setAttribute("aria-live", "polite"), 500);
    }
});
client.addEventListener("state", ({ detail }) => {
    banner.show(detail);
    unsent.setOnline(detail.name === "online");
    people.setStale(detail.name !== "online");
    showForms(detail.reason?.code === "bad_handle" && detail.name === "closed" ? reasonText(detail.reason) : "");
});
client.addEventListener("error", ({ detail }) => {
    if (detail.code === "bad_handle" && authenticated === null) {
        showForms(reasonText(detail));
    } else if (detail.key === undefined && !UNTOLD.has(detail.code)) {
        composer.say(reasonText(detail));
    }
});

timeline.addEventListener("older", showOlder);
timeline.addEventListener("drawn", showEmptiness);
byId("older-retry").addEventListener("click", () => timeline.retryOlder());
byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    (nameForm.asking ? byId("name-field") : byId("composer-text")).focus();
});

unsent.show(client.unsent);
showWhoIAm();
composer.takeTyping();
client.connect();

/** @param {string} text */
function send(text) {
    unread.answered();
    timeline.toEnd();
    client.send(text).catch((error) => {
        if (error.code === "outbox_full" || error.code === "not_allowed") {
            composer.edit(text);
            composer.say(reasonText(error));
        }
    });
}

function showWhoIAm() {
    const handle = ownHandle();
    people.setOwn(handle);
    if (handle !== null) {
        nameForm.show(handle, authenticated !== null);
    }
    timeline.redraw();
    showForms();
}

/** One of them stands below the conversation: the question for a name, the composer, or why there is neither. */
function showForms(complaint = "") {
    const known = token === null ? client.state.name !== "closed" : begun;
    const needsName = ownHandle() === null && known && client.writable;
    if (complaint || (needsName && !nameForm.asking)) {
        nameForm.ask(complaint);
    }
    byId("readonly").hidden = client.writable;
    composer.hidden = nameForm.asking || !client.writable || ownHandle() === null;
}

function showOlder() {
    const { older } = timeline;
    byId("older").className = `older ${older}`;
    byId("older-text").textContent =
        { loading: t("older.loading"), failed: t("older.failed"), none: t("beginning") }[older] ?? "";
    byId("older-retry").hidden = older !== "failed";
    showEmptiness();
}

function showEmptiness() {
    byId("empty").hidden = !begun || !timeline.empty || client.unsent.length > 0;
    byId("older").hidden = timeline.empty;
}

/** What the server makes of the path: decoded, normalised, without outer slashes. */
function roomName(path) {
    const rest = path.slice(path.indexOf("/chat") + "/chat".length);
    try {
        return (
            decodeURIComponent(rest)
                .normalize("NFC")
                .replace(/^\/+|\/+$/g, "") || "lobby"
        );
    } catch {
        return rest;
    }
}
