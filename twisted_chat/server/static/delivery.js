/**
 * Sends what is in the outbox: one message at a time, so that they are stored in the order in which they were written,
 * whatever is lost or refused; each until it is known to be stored or refused for good; each once.
 *
 * @typedef {import("./outbox.js").Unsent} Unsent
 *
 * @typedef {object} Line         what it needs of the connection
 * @property {() => boolean} open                     may something be sent now?
 * @property {() => string | null} position           the newest known place in the room
 * @property {(frame: object) => void} send
 * @property {() => void} silent                      an answer is overdue: the connection is dead
 * @property {(question: {since?: string, limit: number}) => Promise<any>} history
 * @property {() => void} changed                     the outbox did
 */

import { Backoff } from "./reconnect.js";

/** How long an acknowledgement may take, and how often a message may go without one before it counts as refused. */
const ANSWER_MS = 15_000;
const MOST_SILENCES = 5;
/** The server knows keys for five minutes; past this a resend is checked against the history first. */
const KEY_KNOWN_MS = 4 * 60_000;
const PAGE = 200;

/** Refusals that pass: the message is kept and sent again. */
const PASSING = new Set([
    "rate_limited",
    "try_again",
    "unavailable",
    "storage_full",
    "internal",
    "going_away",
    "too_slow",
    "too_many_connections",
    "too_many_from_address",
]);

/** What a promise of the client is rejected with. */
export class ChatError extends Error {
    /** @param {{code: string, message: string}} reason */
    constructor({ code, message }) {
        super(message);
        this.name = "ChatError";
        this.code = code;
    }
}

export class Delivery {
    #outbox;
    #line;
    /** @type {Map<string, {resolve: (message: any) => void, reject: (error: Error) => void}>} */
    #promises = new Map();
    /** The message under way; `again`: it was sent before. */
    /** @type {{key: string, again: boolean, timer: ReturnType<typeof setTimeout> | undefined} | null} */
    #underWay = null;
    #silences = 0;
    #patience = new Backoff({ first: 1000 });
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #pause;

    /** @param {import("./outbox.js").Outbox} outbox @param {Line} line */
    constructor(outbox, line) {
        this.#outbox = outbox;
        this.#line = line;
    }

    /** @param {string} text @param {string | null} handle */
    add(text, handle) {
        const { key } = this.#outbox.add({ key: newKey(), text, handle, at: Date.now() });
        const promise = new Promise((resolve, reject) => this.#promises.set(key, { resolve, reject }));
        this.#line.changed();
        this.next();
        return promise;
    }

    /** Whether the message of this key is being sent once more. */
    isRepeating(key) {
        return this.#underWay !== null && this.#underWay.key === key && this.#underWay.again;
    }

    /** Send the oldest waiting message, if nothing stands in the way. */
    next() {
        const entry = this.#outbox.next;
        if (entry === undefined || this.#underWay || this.#pause !== undefined || !this.#line.open()) {
            return;
        }
        this.#underWay = { key: entry.key, again: entry.sentAt !== null, timer: undefined };
        if (entry.sentAt !== null && Date.now() - entry.sentAt > KEY_KNOWN_MS) {
            void this.#lookUp(entry, this.#underWay);
        } else {
            this.#transmit(entry, this.#underWay);
        }
    }

    /** The connection is gone: whether what was under way arrived will be seen when it is back. */
    suspend() {
        clearTimeout(this.#pause);
        this.#pause = undefined;
        this.#rest();
    }

    /** The server says what it stored under a key. Also for keys that are not ours. */
    stored(key, message) {
        this.#promises.get(key)?.resolve(message);
        this.#settled(key, this.#outbox.remove(key));
    }

    /** The server says why it did not store what has this key. */
    refused(key, { code, message, retry }) {
        if (this.#underWay?.key !== key) {
            return;
        }
        if (!PASSING.has(code)) {
            this.fail(key, { code, message });
            return;
        }
        this.#rest();
        const wait = Math.max(Number(retry) * 1000 || 0, this.#patience.next());
        this.#pause = setTimeout(() => {
            this.#pause = undefined;
            this.next();
        }, wait);
    }

    /** It will not be sent again unless asked to. */
    fail(key, error) {
        const entry = this.#outbox.find(key);
        if (entry) {
            this.#outbox.update(entry, { error });
            this.#promises.get(key)?.reject(new ChatError(error));
        }
        this.#settled(key, entry);
    }

    /** Whatever is under way was too much for the connection. */
    failUnderWay(error) {
        if (this.#underWay) {
            this.fail(this.#underWay.key, error);
        }
    }

    /** Send a refused message once more. */
    retry(key) {
        const entry = this.#outbox.find(key);
        if (entry?.error) {
            this.#outbox.update(entry, { error: null });
            this.#line.changed();
            this.next();
        }
    }

    /** Give a message up. @returns {string | undefined} its text */
    discard(key) {
        const entry = this.#outbox.remove(key);
        this.#promises
            .get(key)
            ?.reject(new ChatError({ code: "discarded", message: "the message was discarded" }));
        this.#settled(key, entry);
        return entry?.text;
    }

    /** Another tab of this room settled a message: an item of the storage has gone. */
    goneElsewhere(name) {
        const key = this.#outbox.keyOf(name);
        if (key !== undefined) {
            this.#settled(key, this.#outbox.remove(key));
        }
    }

    /** Nobody will hear of what is left. It stays in the outbox. */
    close(error) {
        this.suspend();
        for (const { reject } of this.#promises.values()) {
            reject(new ChatError(error));
        }
        this.#promises.clear();
    }

    /** @param {Unsent} entry */
    #transmit(entry, underWay) {
        if (entry.sentAt === null) {
            this.#outbox.update(entry, { sentAt: Date.now(), after: this.#line.position() });
        }
        underWay.timer = setTimeout(() => this.#unanswered(entry.key), ANSWER_MS);
        const { text, handle, key } = entry;
        this.#line.send(handle === null ? { message: text, key } : { handle, message: text, key });
    }

    #unanswered(key) {
        this.#silences += 1;
        if (this.#silences >= MOST_SILENCES) {
            this.fail(key, { code: "no_answer", message: "the server never answered; it may have been stored" });
        }
        this.#line.silent();
    }

    /** It was sent long ago, and no word of it since: the room's history knows whether it was stored. */
    async #lookUp(entry, underWay) {
        const { stored, sure } = await this.#search(entry).catch(() => ({ stored: undefined, sure: false }));
        if (this.#underWay !== underWay) {
            return;
        }
        if (stored) {
            this.stored(entry.key, stored);
        } else if (sure) {
            this.#outbox.update(entry, { sentAt: null });
            this.#transmit(entry, underWay);
        } else {
            const message = "it may have been stored already; the room's history no longer says";
            this.fail(entry.key, { code: "uncertain", message });
        }
    }

    /** @param {Unsent} entry */
    async #search({ key, after }) {
        let since = after;
        while (since !== null) {
            const { messages, complete, more } = await this.#line.history({ since, limit: PAGE });
            const stored = messages.find((message) => message.key === key);
            if (stored || !complete || !more || !messages.length) {
                return { stored, sure: complete };
            }
            since = messages.at(-1).id;
        }
        return { stored: undefined, sure: false };
    }

    /** @param {Unsent | undefined} entry it was in the outbox */
    #settled(key, entry) {
        this.#promises.delete(key);
        if (entry) {
            this.#line.changed();
        }
        if (this.#underWay?.key === key) {
            this.#rest();
            this.#silences = 0;
            this.#patience.reset();
            this.next();
        }
    }

    #rest() {
        clearTimeout(this.#underWay?.timer);
        this.#underWay = null;
    }
}

/** 128 random bits; crypto.randomUUID exists only on https. */
function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
