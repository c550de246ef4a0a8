/** Who is typing right now. */

import { element } from "./element.js";
import { t } from "./i18n.js";

/** Somebody who goes on typing says so every three seconds. */
const SHOWN_MS = 5000;

export class Typing {
    #line;
    /** @type {Map<string, ReturnType<typeof setTimeout>>} */
    #timers = new Map();

    /** @param {HTMLElement} line */
    constructor(line) {
        this.#line = line;
    }

    /** @param {string} handle */
    started(handle) {
        clearTimeout(this.#timers.get(handle));
        this.#timers.set(
            handle,
            setTimeout(() => this.stopped(handle), SHOWN_MS),
        );
        this.#draw();
    }

    /** They said it, left, or gave up. @param {string} handle */
    stopped(handle) {
        clearTimeout(this.#timers.get(handle));
        if (this.#timers.delete(handle)) {
            this.#draw();
        }
    }

    #draw() {
        const [a, b] = this.#timers.keys();
        const n = this.#timers.size;
        if (n === 0) {
            this.#line.replaceChildren();
            return;
        }
        const text = n > 2 ? t("typing.many") : n === 2 ? t("typing.two", { a, b }) : t("typing.one", { a });
        const dots = element(
            "span",
            { class: "dots", "aria-hidden": "true" },
            ...["", "", ""].map(() => element("i")),
        );
        this.#line.replaceChildren(element("span", { dir: "auto", text }), dots);
    }
}
