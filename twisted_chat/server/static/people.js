/** Who is here: a list beside the conversation, or a drawer over it where the screen is narrow. */

import { avatar } from "./handles.js";
import { byId, element } from "./element.js";
import { locale, t } from "./i18n.js";

/** The most names that are listed; a number stands for the rest. */
const MOST_LISTED = 250;

export class People {
    #panel = byId("people");
    #list = byId("people-list");
    #heading = byId("people-heading");
    #count = byId("people-count");
    #button = byId("people-button");
    #scrim = byId("people-scrim");
    #rest = [byId("page-header"), byId("conversation")];
    #narrow = matchMedia("(max-width: 52rem)");
    #collator = new Intl.Collator(locale, { numeric: true });
    /** Handles that look alike have the same skeleton. @type {Map<string, string>} */
    #members = new Map();
    /** @type {string | null} */
    #own = null;
    #drawing = false;

    constructor() {
        this.#button.addEventListener("click", () => this.#open(true));
        byId("people-close").addEventListener("click", () => this.#open(false));
        this.#scrim.addEventListener("click", () => this.#open(false));
        this.#panel.addEventListener("keydown", ({ key }) => key === "Escape" && this.#open(false));
        this.#narrow.addEventListener("change", () => this.#open(false));
        this.#open(false);
        this.#drawSoon();
    }

    /**
     * @param {string[]} members
     * @param {Record<string, string>} [skeletons] those that are not just the handle in lower case
     */
    all(members, skeletons = {}) {
        const given = new Map(Object.entries(skeletons)); // an object also has what all objects have, by any name
        this.#members = new Map(members.map((handle) => [handle, given.get(handle) ?? handle.toLowerCase()]));
        this.#drawSoon();
    }

    /** @param {string} handle @param {string} [skeleton] */
    join(handle, skeleton = handle.toLowerCase()) {
        this.#members.set(handle, skeleton);
        this.#drawSoon();
    }

    leave(handle) {
        this.#members.delete(handle);
        this.#drawSoon();
    }

    /** Without a connection the list says who was here. @param {boolean} stale */
    setStale(stale) {
        this.#list.classList.toggle("stale", stale);
    }

    /** @param {string | null} handle the reader's own */
    setOwn(handle) {
        this.#own = handle;
        this.#drawSoon();
    }

    /** The drawer takes the keyboard while it is open; a list that stands beside the conversation is always there. */
    #open(open) {
        const shown = open && this.#narrow.matches;
        const wasShown = this.#panel.classList.contains("open");
        this.#panel.classList.toggle("open", shown);
        this.#panel.inert = this.#narrow.matches && !shown;
        this.#scrim.hidden = !shown;
        this.#button.setAttribute("aria-expanded", String(shown));
        this.#rest.forEach((part) => {
            part.inert = shown;
        });
        if (shown) {
            byId("people-close").focus();
        } else if (wasShown) {
            this.#button.focus();
        }
    }

    #drawSoon() {
        if (!this.#drawing) {
            this.#drawing = true;
            setTimeout(() => {
                this.#drawing = false;
                this.#draw();
            }, 50);
        }
    }

    #draw() {
        const n = this.#members.size;
        const own = this.#own;
        const names = [...this.#members.keys()].sort(
            (a, b) => Number(b === own) - Number(a === own) || this.#collator.compare(a, b),
        );
        const looks = new Map();
        for (const skeleton of this.#members.values()) {
            looks.set(skeleton, (looks.get(skeleton) ?? 0) + 1);
        }
        const rows = names
            .slice(0, MOST_LISTED)
            .map((handle) => person(handle, handle === own, looks.get(this.#members.get(handle)) > 1));
        if (n > MOST_LISTED) {
            rows.push(element("li", { class: "rest", text: t("people.more", { n: n - MOST_LISTED }) }));
        }
        this.#list.replaceChildren(...rows);
        this.#heading.textContent = n ? t("people.count", { n }) : t("people.none");
        this.#count.textContent = String(n);
        this.#button.setAttribute("aria-label", `${t("people.show")} (${n})`);
    }
}

function person(handle, own, alike) {
    const name = element("span", { class: "name", dir: "auto", text: handle });
    return element(
        "li",
        { class: "person" },
        avatar(handle),
        name,
        own && element("span", { class: "self", text: t("you") }),
        alike && element("span", { class: "alike", title: t("people.alike.why"), text: t("people.alike") }),
    );
}
