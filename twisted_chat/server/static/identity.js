/** Who the reader is: a name that they choose, kept for the next visit, or what their token says. */

import { avatar } from "./handles.js";
import { byId } from "./element.js";
import { t } from "./i18n.js";
import { cleaned, lengthOf } from "./text.js";

const HANDLE = "twisted-chat:handle";
/** What changes the direction of text: the server takes none in a name. */
const BIDI_CONTROLS = /\p{Bidi_Control}/gu;

/** The name that was chosen in an earlier visit. @returns {string | null} */
export function rememberedHandle() {
    try {
        return localStorage.getItem(HANDLE) || null;
    } catch {
        return null;
    }
}

/**
 * The token in the page's address, `?token=` or `#token=`, or the one it had before a reload. It is taken out of the
 * address: that is what people copy, and what stays in the history of the browser.
 *
 * @param {string} room
 * @returns {string | null}
 */
export function takeToken(room) {
    const url = new URL(location.href);
    const fragment = new URLSearchParams(url.hash.slice(1));
    const token = fragment.get("token") ?? url.searchParams.get("token");
    if (token === null) {
        return keptToken(room);
    }
    url.searchParams.delete("token");
    if (fragment.has("token")) {
        fragment.delete("token");
        url.hash = fragment.toString();
    }
    history.replaceState(history.state, "", url);
    keepToken(room, token);
    return token;
}

/** @param {string} room @param {string} token */
export function keepToken(room, token) {
    try {
        sessionStorage.setItem(`twisted-chat:token:${room}`, token);
    } catch {
        // It lives as long as the page then.
    }
}

function keptToken(room) {
    try {
        return sessionStorage.getItem(`twisted-chat:token:${room}`);
    } catch {
        return null;
    }
}

/** The form that asks for a name, and the button beside the composer that shows it. */
export class NameForm {
    #form = byId("name-form");
    #field = byId("name-field");
    #error = byId("name-error");
    #submit = byId("name-submit");
    #cancel = byId("name-cancel");
    #button = byId("name-button");
    #chosen;
    #handle = "";
    /** The characters that a name may have; until the server has said it, whatever is written may be right. */
    longest = Infinity;

    /** @param {{chosen: (handle: string) => void, shown: () => void}} owner   shown: the form was shown or hidden */
    constructor({ chosen, shown }) {
        this.#chosen = (handle) => {
            this.#toggle(false);
            chosen(handle);
        };
        this.#form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.#take();
        });
        this.#field.addEventListener("input", () => this.#complain(""));
        this.#form.addEventListener("keydown", ({ key }) => {
            if (key === "Escape" && !this.#cancel.hidden) {
                this.#cancel.click();
            }
        });
        this.#cancel.addEventListener("click", () => {
            this.#toggle(false);
            shown();
        });
        this.#button.addEventListener("click", () => {
            this.ask();
            shown();
        });
    }

    /** Show the form. Without a name so far it cannot be cancelled. @param {string} [error] why it is asked again */
    ask(error = "") {
        this.#toggle(true);
        this.#field.value = this.#handle;
        this.#cancel.hidden = this.#handle === "";
        this.#submit.textContent = t(this.#handle ? "name.save" : "name.join");
        this.#complain(error);
        this.#field.focus({ preventScroll: true });
        this.#field.select();
    }

    get asking() {
        return !this.#form.hidden;
    }

    /** @param {string} handle @param {boolean} fixed a token says so: it cannot be changed here */
    show(handle, fixed) {
        this.#handle = handle;
        this.#button.replaceChildren(avatar(handle));
        this.#button.disabled = fixed;
        const label = t(fixed ? "name.fixed" : "name.change", { handle });
        this.#button.setAttribute("aria-label", label);
        this.#button.title = label;
        if (fixed) {
            this.#toggle(false);
        }
    }

    #take() {
        const handle = cleaned(this.#field.value).replace(BIDI_CONTROLS, "").replace(/\s+/g, " ").trim();
        if (handle === "") {
            this.#complain(t("name.empty"));
        } else if (lengthOf(handle) > this.longest) {
            this.#complain(t("name.long", { n: this.longest }));
        } else {
            try {
                localStorage.setItem(HANDLE, handle);
            } catch {
                // It lives as long as the page then.
            }
            this.#chosen(handle);
        }
    }

    #complain(text) {
        this.#error.textContent = text;
        this.#field.setAttribute("aria-invalid", String(text !== ""));
    }

    #toggle(shown) {
        this.#form.hidden = !shown;
    }
}
