/**
 * Own messages below the timeline that are not stored yet: waiting, or refused with the reason and what can be done.
 *
 * @typedef {import("./chat-client.js").Unsent} Unsent
 */

import { element, icon } from "./element.js";
import { reasonText, t } from "./i18n.js";
import { nodes } from "./text.js";

const CLOCK = "M12 7v5l3 2M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z";
const WARNING = "M12 8v5M12 16.5v.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z";

export class UnsentList {
    #list;
    #actions;
    /** @type {Map<string, {error: unknown, online: boolean, row: HTMLElement}>} */
    #rows = new Map();
    /** @type {Unsent[]} */
    #unsent = [];
    #online = false;

    /**
     * @param {HTMLElement} list
     * @param {{retry: (key: string) => void, edit: (key: string) => void, discard: (key: string) => void}} actions
     */
    constructor(list, actions) {
        this.#list = list;
        this.#actions = actions;
    }

    /** @param {Unsent[]} unsent */
    show(unsent) {
        this.#unsent = unsent;
        this.#draw();
    }

    /** Whether what waits is on its way, or has to wait for a connection. @param {boolean} online */
    setOnline(online) {
        this.#online = online;
        this.#draw();
    }

    #draw() {
        const kept = new Map();
        for (const entry of this.#unsent) {
            const { key, error } = entry;
            const known = this.#rows.get(key);
            const same = known && known.error === error && known.online === this.#online;
            kept.set(key, same ? known : { error, online: this.#online, row: this.#row(entry) });
        }
        for (const [key, { row }] of this.#rows) {
            if (kept.get(key)?.row !== row) {
                row.remove();
            }
        }
        let place = this.#list.firstElementChild;
        for (const { row } of kept.values()) {
            if (row === place) {
                place = place.nextElementSibling;
            } else {
                this.#list.insertBefore(row, place);
            }
        }
        this.#rows = kept;
        this.#list.hidden = kept.size === 0;
    }

    /** @param {Unsent} entry */
    #row({ key, text, error }) {
        const bubble = element(
            "div",
            { class: "bubble" },
            element("p", { class: "text", dir: "auto" }, ...nodes(text)),
        );
        const state = error ? this.#refused(key, error) : this.#waiting();
        return element("li", { class: error ? "row own refused" : "row own waiting" }, bubble, state);
    }

    #waiting() {
        const text = t(this.#online ? "unsent.sending" : "unsent.waiting");
        return element("p", { class: this.#online ? "fate soon" : "fate" }, icon(CLOCK), text);
    }

    #refused(key, error) {
        const button = (name, act) =>
            element("button", { type: "button", class: "plain", text: t(name), on: { click: act } });
        return element(
            "div",
            { class: "fate", role: "alert" },
            icon(WARNING),
            element("span", { text: t("unsent.failed", { reason: reasonText(error) }) }),
            button("again", () => this.#actions.retry(key)),
            button("unsent.edit", () => this.#actions.edit(key)),
            button("unsent.discard", () => this.#actions.discard(key)),
        );
    }
}
