/** What came while nobody looked: a number in the title and on the button that leads to the end, and a divider. */

import { t } from "./i18n.js";

export class Unread {
    #room;
    #timeline;
    #jump;
    #count = 0;

    /** @param {{room: string, timeline: import("./timeline.js").Timeline, jump: HTMLElement}} parts */
    constructor({ room, timeline, jump }) {
        this.#room = room;
        this.#timeline = timeline;
        this.#jump = jump;
        jump.addEventListener("click", () => {
            timeline.toEnd();
            this.#look();
        });
        timeline.addEventListener("follow", () => this.#look());
        document.addEventListener("visibilitychange", () => this.#look());
        this.#draw();
    }

    /** A message of somebody else came. @param {string} id */
    came(id) {
        if (this.#looking) {
            return;
        }
        if (this.#count === 0) {
            this.#timeline.markUnread(id);
        }
        this.#count += 1;
        this.#draw();
    }

    /** The reader has written, and so has read. */
    answered() {
        this.#count = 0;
        this.#timeline.markUnread(null);
        this.#draw();
    }

    get #looking() {
        return document.visibilityState === "visible" && this.#timeline.following;
    }

    #look() {
        if (this.#looking) {
            this.#count = 0;
        }
        this.#draw();
    }

    #draw() {
        const n = this.#count;
        document.title = t(n ? "title.unread" : "title", { room: this.#room, n });
        this.#jump.hidden = this.#timeline.following;
        this.#jump.setAttribute("aria-label", n ? t("jump.unread", { n }) : t("jump"));
        this.#jump.querySelector(".count").textContent = n ? t("jump.unread", { n }) : "";
    }
}
