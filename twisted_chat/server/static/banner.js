/**
 * The state of the connection, where it is not simply there: why, when it is tried again, and what one can do.
 *
 * @typedef {import("./chat-client.js").State} State
 */

import { byId } from "./element.js";
import { reasonText, t } from "./i18n.js";

/** A connection that is back within this was hardly gone. */
const UNTOLD_MS = 700;
const GOOD_NEWS_MS = 2500;
const TOKEN_TROUBLE = new Set(["token_required", "token_invalid", "token_expired", "not_allowed"]);

export class Banner {
    #banner = byId("banner");
    #text = byId("banner-text");
    #countdown = byId("banner-countdown");
    #button = byId("banner-retry");
    #tokenForm = byId("token-form");
    /** @type {State | null} */
    #state = null;
    #told = false;
    #timer;
    #counting;

    /** @param {{retry: () => void, token: (token: string) => void}} actions */
    constructor({ retry, token }) {
        this.#button.addEventListener("click", retry);
        this.#tokenForm.addEventListener("submit", (event) => {
            event.preventDefault();
            const field = byId("token-field");
            if (field.value.trim()) {
                token(field.value.trim());
                field.value = "";
            }
        });
    }

    /** @param {State} state */
    show(state) {
        this.#state = state;
        clearTimeout(this.#timer);
        clearInterval(this.#counting);
        if (state.name === "online") {
            this.#online();
        } else if (this.#told || state.name === "closed") {
            this.#tell();
        } else {
            this.#timer = setTimeout(() => this.#tell(), UNTOLD_MS);
        }
    }

    #online() {
        if (!this.#told) {
            this.#banner.hidden = true;
            return;
        }
        this.#told = false;
        this.#draw("good", t("state.online"), "");
        this.#timer = setTimeout(() => {
            this.#banner.hidden = true;
        }, GOOD_NEWS_MS);
    }

    #tell() {
        const { name, reason } = this.#state;
        this.#told = true;
        const why = reason ? reasonText(reason) : "";
        if (name === "closed") {
            this.#draw("bad", why, t("again"), TOKEN_TROUBLE.has(reason?.code));
        } else if (name === "offline") {
            this.#draw("waiting", `${why} ${t("state.kept")}`, t("state.now"));
            this.#count();
            this.#counting = setInterval(() => this.#count(), 500);
        } else {
            // What was said before the attempt stays readable during it.
            this.#draw("waiting", why ? `${why} ${t("state.kept")}` : t("state.connecting"), "");
            this.#countdown.textContent = why ? t("state.connecting") : "";
        }
    }

    /** The seconds are for the eye: a live region that counts aloud would drown everything else. */
    #count() {
        const seconds = Math.ceil((this.#state.retryAt - Date.now()) / 1000);
        this.#countdown.textContent = seconds > 0 ? t("state.retry", { n: seconds }) : t("state.connecting");
    }

    #draw(kind, text, action, token = false) {
        this.#banner.className = `banner ${kind}`;
        this.#banner.hidden = false;
        if (this.#text.textContent !== text) {
            this.#text.textContent = text;
        }
        this.#countdown.textContent = "";
        this.#button.hidden = action === "";
        this.#button.textContent = action;
        this.#tokenForm.hidden = !token;
    }
}
