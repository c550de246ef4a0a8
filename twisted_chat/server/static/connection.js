/**
 * One WebSocket at a time, opened again whenever it is lost: when, how often and why not is decided here.
 *
 * @typedef {object} State
 * @property {"connecting" | "online" | "offline" | "closed"} name   offline: comes back by itself; closed: does not
 * @property {import("./reconnect.js").Reason | null} reason         why it is not online
 * @property {number | null} retryAt                                 when it tries again, milliseconds of Unix time
 * @property {number} attempt                                        attempts since it was last online
 *
 * @typedef {object} Owner        what a connection needs of whoever uses it
 * @property {() => Promise<URL>} address         where to connect to, asked for every attempt
 * @property {() => Promise<Answer>} ask          a plain request of the same URL, to learn why it will not open
 * @property {(reason: import("./reconnect.js").Reason) => boolean} curable     whether the next attempt comes with
 *                                                something better (a new token), where the reason is final otherwise
 * @property {(text: string) => void} received    a text frame came
 * @property {(verdict: import("./reconnect.js").Verdict | null) => void} dropped   the socket is gone, and why: what
 *                                                was sent on it may or may not have arrived
 * @property {(state: State) => void} changed
 *
 * @typedef {{status: number, body: any, retryAfter: string | null}} Answer
 */

import { Backoff, afterClose, afterRefusal } from "./reconnect.js";

/** How long a connection may take until its owner calls it live. */
const OPENING_MS = 20_000;
/** So long it must have lived to count as one that works. */
const STEADY_MS = 10_000;
/** A timer that comes this late means that the machine slept. */
const TICK_MS = 20_000;
const SLEPT_MS = 90_000;
/** A browser does not say why a WebSocket would not open; after so many failures a plain request is asked. */
const FAILURES_BEFORE_ASKING = 2;

const UNREACHABLE = { again: true, reason: { code: "unreachable", message: "the server cannot be reached" } };
const NO_NETWORK = { again: true, reason: { code: "offline", message: "there is no network" } };
/** The server is silent where it should have answered. */
export const NO_ANSWER = { again: true, reason: { code: "no_answer", message: "the server does not answer" } };

export class Connection {
    #owner;
    #WebSocket;
    /** @type {State} */
    #state = Object.freeze({ name: "closed", reason: null, retryAt: null, attempt: 0 });
    /** @type {WebSocket | null} */
    #socket = null;
    /** Counts openings and droppings: what awaited something compares it to see whether it still matters. */
    #generation = 0;
    #failures = 0;
    #liveSince = 0;
    #heardAt = 0;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    #listening;
    #backoff = new Backoff();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #timer;
    /** @type {AbortController | null} */
    #awake = null;

    /** @param {Owner} owner @param {typeof WebSocket} [webSocket] */
    constructor(owner, webSocket) {
        this.#owner = owner;
        this.#WebSocket = webSocket;
    }

    get state() {
        return this.#state;
    }

    /** Connect, or try again now. */
    connect() {
        this.#listen();
        if (this.#state.name === "offline" || this.#state.name === "closed") {
            void this.#open();
        }
    }

    /** Open a new socket in place of the present one, if there should be any. */
    reopen() {
        if (this.#awake) {
            void this.#open();
        }
    }

    close() {
        this.#awake?.abort();
        this.#awake = null;
        this.#drop(null);
        this.#become("closed", { reason: { code: "closed", message: "the client was closed" } });
    }

    /** The owner heard that everything before now has come: the connection is live. */
    live() {
        clearTimeout(this.#timer);
        this.#liveSince = Date.now();
        this.#become("online");
    }

    /** From now on a silence of so many milliseconds means that the other end is gone. @param {number} silence */
    expectWithin(silence) {
        clearInterval(this.#listening);
        this.#listening = setInterval(() => {
            if (Date.now() - this.#heardAt > silence) {
                this.lose(NO_ANSWER);
            }
        }, silence / 5);
    }

    /** @param {unknown} frame */
    send(frame) {
        this.#socket?.send(JSON.stringify(frame));
    }

    /** Give the socket up; come back as the verdict says. @param {import("./reconnect.js").Verdict} verdict */
    lose(verdict) {
        if (this.#liveSince && Date.now() - this.#liveSince >= STEADY_MS) {
            this.#backoff.reset();
        }
        this.#drop(verdict);
        if (!verdict.again && !this.#owner.curable(verdict.reason)) {
            this.#become("closed", { reason: verdict.reason });
            return;
        }
        const attempt = this.#backoff.attempts;
        const wait = (verdict.after ?? 0) + this.#backoff.next();
        this.#timer = setTimeout(() => void this.#open(), wait);
        this.#become("offline", { reason: verdict.reason, retryAt: Date.now() + wait, attempt });
    }

    async #open() {
        this.#drop(null);
        const generation = this.#generation;
        this.#timer = setTimeout(() => this.lose(NO_ANSWER), OPENING_MS);
        this.#become("connecting", { reason: this.#state.reason, attempt: this.#backoff.attempts });
        let address;
        try {
            address = await this.#owner.address();
        } catch (error) {
            if (generation === this.#generation) {
                this.lose({ again: true, reason: { code: "token_unavailable", message: String(error) } });
            }
            return;
        }
        if (generation === this.#generation) {
            this.#attach(new (this.#WebSocket ?? WebSocket)(address));
        }
    }

    /** @param {WebSocket} socket */
    #attach(socket) {
        this.#socket = socket;
        let opened = false;
        socket.onopen = () => {
            opened = true;
            this.#failures = 0;
        };
        socket.onmessage = ({ data }) => {
            if (socket === this.#socket && typeof data === "string") {
                this.#heardAt = Date.now();
                this.#owner.received(data);
            }
        };
        socket.onclose = ({ code, reason }) => {
            if (socket !== this.#socket) {
                return;
            }
            if (opened) {
                this.lose(afterClose(code, reason));
            } else {
                void this.#refused();
            }
        };
    }

    async #refused() {
        this.#failures += 1;
        this.#drop(null);
        const generation = this.#generation;
        let verdict = globalThis.navigator?.onLine === false ? NO_NETWORK : UNREACHABLE;
        if (this.#failures >= FAILURES_BEFORE_ASKING) {
            try {
                const { status, body, retryAfter } = await this.#owner.ask();
                verdict = afterRefusal(status, body, retryAfter);
            } catch {
                // No answer at all.
            }
        }
        if (generation === this.#generation) {
            this.lose(verdict);
        }
    }

    /** Let go of the socket: nothing of it is heard any more. */
    #drop(verdict) {
        this.#generation += 1;
        this.#liveSince = 0;
        clearTimeout(this.#timer);
        clearInterval(this.#listening);
        const socket = this.#socket;
        this.#socket = null;
        socket?.close();
        this.#owner.dropped(verdict);
    }

    /** @param {State["name"]} name @param {Partial<State>} [rest] */
    #become(name, { reason = null, retryAt = null, attempt = 0 } = {}) {
        this.#state = Object.freeze({ name, reason, retryAt, attempt });
        this.#owner.changed(this.#state);
    }

    /** Hear of the network and of waking up, until closed. */
    #listen() {
        if (this.#awake) {
            return;
        }
        this.#awake = new AbortController();
        const { signal } = this.#awake;
        const page = globalThis.document;
        if (page === undefined) {
            return;
        }
        const wake = () => {
            if (this.#state.name === "offline" && page.visibilityState === "visible") {
                void this.#open();
            }
        };
        globalThis.addEventListener("online", wake, { signal });
        globalThis.addEventListener("pageshow", wake, { signal });
        page.addEventListener("visibilitychange", wake, { signal });
        globalThis.addEventListener("offline", () => this.#socket && this.lose(NO_NETWORK), { signal });
        this.#noticeSleep(signal);
    }

    /** After a sleep the socket looks open, but its other end is long gone. @param {AbortSignal} signal */
    #noticeSleep(signal) {
        let ticked = Date.now();
        const ticking = setInterval(() => {
            const slept = Date.now() - ticked > SLEPT_MS;
            ticked = Date.now();
            if (slept && this.#socket) {
                void this.#open();
            }
        }, TICK_MS);
        signal.addEventListener("abort", () => clearInterval(ticking));
    }
}
