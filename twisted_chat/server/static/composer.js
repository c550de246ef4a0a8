/** Where messages are written: Enter sends, the field grows with the text, and a draft survives a reload. */

import { byId } from "./element.js";
import { t } from "./i18n.js";
import { cleaned, lengthOf } from "./text.js";

/** The count appears when this little is left. */
const NEAR = 400;

export class Composer {
    #form = byId("composer");
    #field = byId("composer-text");
    #count = byId("composer-count");
    #note = byId("composer-note");
    #button = byId("composer-send");
    /** Until the server has said what it takes, whatever is written may be right. */
    #longest = Infinity;
    #draftName;
    #send;

    /**
     * @param {object} parts
     * @param {string} parts.room
     * @param {(text: string) => void} parts.send
     * @param {() => void} parts.typing               called for every change by hand
     */
    constructor({ room, send, typing }) {
        this.#draftName = `twisted-chat:draft:${room}`;
        this.#send = send;
        this.#field.value = recall(this.#draftName);
        this.#form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.#submit();
        });
        this.#field.addEventListener("keydown", (event) => {
            // During composition Enter chooses a character; 229 is how some browsers say so.
            const composing = event.isComposing || event.keyCode === 229;
            if (event.key === "Enter" && !event.shiftKey && !composing) {
                event.preventDefault();
                this.#submit();
            }
        });
        this.#field.addEventListener("input", () => {
            this.say("");
            this.#changed();
            if (this.#field.value.trim()) {
                typing();
            }
        });
        addEventListener("resize", () => this.#fit());
        this.#changed();
    }

    /** Something about what was just tried. @param {string} text */
    say(text) {
        this.#note.textContent = text;
    }

    /** The characters that a message may have. */
    set longest(longest) {
        this.#longest = longest;
        this.#changed();
    }

    set hidden(hidden) {
        this.#form.hidden = hidden;
        if (!hidden) {
            this.#fit();
        }
    }

    focus() {
        this.#field.focus({ preventScroll: true });
    }

    /** Put a text back, before whatever stands there. @param {string} text */
    edit(text) {
        const rest = this.#field.value;
        this.#field.value = rest ? `${text}\n${rest}` : text;
        this.#field.setSelectionRange(text.length, text.length);
        this.#changed();
        this.focus();
    }

    /** A key that was pressed elsewhere starts writing here: the browser puts the character into the focused field. */
    takeTyping() {
        const elsewhere = (target) =>
            target.closest?.("input, textarea, select, button, a, [contenteditable], summary");
        addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
            const character = key !== " " && lengthOf(key) === 1 && !ctrlKey && !metaKey && !altKey;
            if (character && !this.#form.hidden && !elsewhere(target)) {
                this.focus();
            }
        });
    }

    #submit() {
        const text = cleaned(this.#field.value);
        if (text === "" || lengthOf(text) > this.#longest) {
            return;
        }
        this.#field.value = "";
        this.#changed();
        this.focus();
        this.#send(text);
    }

    #changed() {
        const text = cleaned(this.#field.value);
        const left = this.#longest - lengthOf(text);
        const over = left < 0;
        this.#count.textContent = left > NEAR ? "" : over ? t("over", { n: -left }) : t("left", { n: left });
        this.#count.classList.toggle("over", over);
        this.#field.setAttribute("aria-invalid", String(over));
        this.#button.disabled = text === "" || over;
        remember(this.#draftName, this.#field.value);
        this.#fit();
    }

    /** As high as its text; the style sheet says how high at most. */
    #fit() {
        this.#field.style.height = "auto";
        this.#field.style.height = `${this.#field.scrollHeight}px`;
    }
}

function recall(name) {
    try {
        return sessionStorage.getItem(name) ?? "";
    } catch {
        return "";
    }
}

function remember(name, text) {
    try {
        if (text) {
            sessionStorage.setItem(name, text);
        } else {
            sessionStorage.removeItem(name);
        }
    } catch {
        // Storage is forbidden or full: the draft lives as long as the page.
    }
}
