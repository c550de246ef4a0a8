/** The page at /: opens a room by its name, and shows examples that can be used as they stand. */

import { byId, element } from "./element.js";
import { t, translate } from "./i18n.js";

const LONGEST = 128;
const COPIED_MS = 2000;

translate();

const field = byId("open-room");
const error = byId("open-error");
const examples = [...document.querySelectorAll("[data-example]")].map((code) => ({
    code,
    text: code.textContent,
}));

for (const { code } of examples) {
    code.closest("article").append(copyButton(code));
}
field.addEventListener("input", () => {
    complain("");
    fillIn();
});
byId("open").addEventListener("submit", (event) => {
    event.preventDefault();
    if (roomPath() === null) {
        complain(t("index.room.bad"));
    } else {
        location.assign(`/chat/${roomPath()}`);
    }
});
fillIn();

/** The room's name as it stands in a URL, null if it cannot be one: the rules of the server. */
function roomPath() {
    const name =
        field.value
            .trim()
            .normalize("NFC")
            .replace(/^\/+|\/+$/g, "") || "lobby";
    const parts = name.split("/");
    const fits = [...name].length <= LONGEST && !/\p{Cc}|\p{Cs}/u.test(name);
    return fits && parts.every((part) => !["", ".", ".."].includes(part)) ? parts.map(encoded).join("/") : null;
}

/** Also what encodeURIComponent leaves alone but a shell or a string would not. */
function encoded(part) {
    return encodeURIComponent(part).replace(/['()*!]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

function fillIn() {
    const path = roomPath() ?? "lobby";
    const values = {
        ORIGIN: location.origin,
        ROOM: `${location.origin}/chat/${path}`,
        SOCKET: `${location.origin.replace("http", "ws")}/chat/${path}`,
    };
    for (const { code, text } of examples) {
        code.textContent = text.replace(/\b(ORIGIN|ROOM|SOCKET)\b/g, (name) => values[name]);
    }
}

function complain(text) {
    error.textContent = text;
    field.setAttribute("aria-invalid", String(text !== ""));
}

/** Only where the browser lets pages write to the clipboard, on https and localhost. */
function copyButton(code) {
    if (!navigator.clipboard) {
        return "";
    }
    const title = code.closest("article").querySelector("h3").textContent;
    const label = `${t("index.copy")}: ${title}`;
    const button = element("button", {
        type: "button",
        class: "copy",
        "aria-label": label,
        text: t("index.copy"),
    });
    button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = t("index.copied");
        setTimeout(() => {
            button.textContent = t("index.copy");
        }, COPIED_MS);
    });
    return button;
}
