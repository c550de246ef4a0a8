/**
 * A client of twisted_chat rooms for browsers and for Node.js 22 or newer. No dependencies; five files:
 * `chat-client.js`, `connection.js`, `delivery.js`, `outbox.js`, `reconnect.js`.
 *
 *     import { ChatClient } from "https://chat.example/static/chat-client.js";
 *
 *     const room = new ChatClient("https://chat.example/chat/lobby", { handle: "ann", history: 50 });
 *     room.addEventListener("message", ({ detail }) => console.log(detail.handle, detail.message));
 *     room.addEventListener("state", ({ detail }) => console.log(detail.name, detail.reason?.message ?? ""));
 *     room.connect();
 *     const stored = await room.send("hello");      // resolves when the server has stored it
 *     const older = await room.history({ before: stored.id, limit: 50 });
 *     room.close();
 *
 * It reconnects by itself and continues where it stopped: messages come in the room's order, none missing, none
 * twice, or there is a `reset`. What is sent while there is no connection waits, in `localStorage` where there is one,
 * and is sent later, in order and once. Events, each with its `detail`:
 *
 * | event             | detail                                                                                      |
 * | ----------------- | ------------------------------------------------------------------------------------------- |
 * | `message`         | `Message`                                                                                   |
 * | `reset`           | `{position, messages}`: the history could not be continued; the newest messages, as many as |
 * |                   | the option `history` says, and after them it goes on live                                   |
 * | `ready`           | `{handle, writable, limits}`: who the server says you are (null: whoever you say), may you  |
 * |                   | send, and `Limits`                                                                          |
 * | `presence`        | `{members: string[], skeletons?}`: who is here; after it `join` and `leave` say what        |
 * |                   | changes. Handles with the same skeleton look alike; where none is given, it is the handle   |
 * |                   | in lower case                                                                               |
 * | `join`            | `{handle, skeleton?}`                                                                       |
 * | `leave`           | `{handle}`                                                                                  |
 * | `typing`          | `{handle}`: has just typed something                                                        |
 * | `state`           | `State`                                                                                     |
 * | `outbox`          | `{unsent: Unsent[]}`: the messages not stored yet, and those that were refused              |
 * | `error`           | `Reason` and perhaps `key`: the server refused something; the connection stays              |
 *
 * @typedef {object} Message      as the server stored it
 * @property {string} id          its position: give it back as `before` or `since`
 * @property {string} timestamp   ISO 8601, UTC, microseconds
 * @property {string} handle
 * @property {string} message
 * @property {string} [key]       idempotency key that its sender gave
 *
 * @typedef {object} Limits       of the server
 * @property {number} history_page         messages that come at once, whatever was asked for
 * @property {number} message_characters   of a message, in Unicode characters
 * @property {number} handle_characters
 * @property {number} key_characters
 *
 * @typedef {import("./connection.js").State} State       `{name, reason, retryAt, attempt}`; name: connecting, online,
 *                                offline (comes back by itself, at `retryAt`) or closed (does not)
 * @typedef {import("./reconnect.js").Reason} Reason      `{code, message}`
 * @typedef {import("./outbox.js").Unsent} Unsent         `{key, text, handle, at, error, …}`
 *
 * @typedef {object} Options
 * @property {string | null} [handle]         name to send and to be present under; a token's wins over it
 * @property {string | (() => string | Promise<string>) | null} [token]   a function is asked for every connection
 * @property {number} [history]               how many of the newest messages come first, and after a reset
 * @property {boolean} [presence]             send `presence`, `join` and `leave`, and be seen by others
 * @property {boolean} [typing]               send `typing`
 * @property {string | null} [since]          continue after this message id instead of from now
 * @property {Storage | null} [storage]       keeps unsent messages; null: only memory
 * @property {typeof WebSocket} [webSocket]   another implementation
 * @property {typeof fetch} [fetch]           another implementation
 */

import { Connection, NO_ANSWER } from "./connection.js";
import { ChatError, Delivery } from "./delivery.js";
import { MemoryStorage, Outbox } from "./outbox.js";
import { afterRefusal } from "./reconnect.js";

export { ChatError };

const ANSWER_MS = 20_000;
const TYPING_MS = 3000;
/** Heartbeats that may be late or lost before the server counts as gone. */
const SILENCE_FACTOR = 2.5;
const IDS_KEPT = 2000;
/** Those of a server that does not tell its own. @type {Limits} */
const LIMITS = { history_page: 200, message_characters: 4096, handle_characters: 64, key_characters: 64 };
const TOKEN_TROUBLE = new Set(["token_required", "token_expired", "token_invalid"]);
const TOLD = new Set(["presence", "join", "leave", "typing"]);

export class ChatClient extends EventTarget {
    #url;
    #options;
    /** @type {string | null} */
    #handle;
    /** @type {string | null} */
    #position;
    #writable = true;
    #limits = LIMITS;
    #outbox;
    #connection;
    #delivery;
    /** Ids of the last messages, newest last; and the time of the newest. */
    #seen = new Set();
    #newest = "";
    /** Live messages that wait for the history after a reset. @type {Message[] | null} */
    #held = null;
    #typedAt = -Infinity;
    /** @type {AbortController | null} */
    #listening = null;

    /**
     * @param {string | URL} url      the room: "https://chat.example/chat/lobby", or relative to the page
     * @param {Options} [options]
     */
    constructor(url, options = {}) {
        super();
        this.#url = new URL(url, globalThis.location?.href);
        this.#url.search = this.#url.hash = "";
        this.#options = { history: 0, presence: false, typing: false, token: null, ...options };
        this.#handle = options.handle ?? null;
        this.#position = options.since ?? null;
        const storage = options.storage === undefined ? browserStorage() : options.storage;
        this.#outbox = new Outbox(storage ?? new MemoryStorage(), `twisted-chat:unsent:${roomOf(this.#url)}:`);
        this.#connection = new Connection(this.#ownConnection(), options.webSocket);
        this.#delivery = new Delivery(this.#outbox, this.#line());
    }

    get url() {
        return this.#url.href;
    }

    /** @returns {State} */
    get state() {
        return this.#connection.state;
    }

    get handle() {
        return this.#handle;
    }

    /** Whether the server lets this client send. */
    get writable() {
        return this.#writable;
    }

    /** What the server takes and gives at most, as far as it has said so. @returns {Limits} */
    get limits() {
        return this.#limits;
    }

    /** The id to continue from: of the newest message, or of the place in the room where the connection began. */
    get position() {
        return this.#position;
    }

    /** Messages not stored yet, and those that were refused (`error`), oldest first. @returns {Unsent[]} */
    get unsent() {
        return this.#outbox.entries;
    }

    /** Connect, or try again now. */
    connect() {
        this.#listen();
        this.#connection.connect();
    }

    /** End the connection and do not come back. What was not sent stays in the outbox. */
    close() {
        this.#listening?.abort();
        this.#listening = null;
        this.#connection.close();
        this.#delivery.close(this.state.reason);
    }

    /**
     * Go by another name, for what is sent from now on and in the list of who is here: the connection is made anew.
     *
     * @param {string | null} handle
     */
    rename(handle) {
        if (handle !== this.#handle) {
            this.#handle = handle;
            this.#connection.reopen();
        }
    }

    /** Come with another token from now on. @param {Options["token"]} token */
    authenticate(token) {
        this.#options.token = token;
        this.#connection.reopen();
    }

    /**
     * Send a message: now, or as soon as there is a connection.
     *
     * @param {string} text
     * @returns {Promise<Message>}    as stored. Rejected with a `ChatError` when the server refuses it for good: it
     *     stays in `unsent` then, until `retry` or `discard`. Rejected with code `outbox_full` when too many wait.
     */
    async send(text) {
        if (!this.#writable) {
            throw new ChatError({ code: "not_allowed", message: "you may read this room, but not write in it" });
        }
        return this.#delivery.add(text, this.#handle);
    }

    /** Send a refused message once more. @param {string} key */
    retry(key) {
        this.#delivery.retry(key);
    }

    /** Give a message up that was not stored. @param {string} key @returns {string | undefined} its text */
    discard(key) {
        return this.#delivery.discard(key);
    }

    /** The user has just typed something: the room is told, at most every three seconds. */
    typing() {
        const now = Date.now();
        if (this.state.name === "online" && this.#writable && now - this.#typedAt >= TYPING_MS) {
            this.#typedAt = now;
            this.#connection.send(
                this.#handle === null ? { typing: true } : { handle: this.#handle, typing: true },
            );
        }
    }

    /**
     * Messages of the past, oldest first: those right before or after an id, or the newest.
     *
     * @param {{before?: string, since?: string, limit?: number, signal?: AbortSignal}} [question]
     * @returns {Promise<{messages: Message[], position: string, complete: boolean, more: boolean}>}
     */
    async history({ before, since, limit = 50, signal = AbortSignal.timeout(ANSWER_MS) } = {}) {
        const { status, body, retryAfter } = await this.#ask({ before, since, limit }, signal);
        if (status !== 200 || !Array.isArray(body?.messages)) {
            throw new ChatError(afterRefusal(status === 200 ? 502 : status, body, retryAfter).reason);
        }
        return body;
    }

    /** @returns {import("./connection.js").Owner} */
    #ownConnection() {
        return {
            address: () => this.#address(),
            ask: () => this.#askWhy(),
            curable: ({ code }) => typeof this.#options.token === "function" && TOKEN_TROUBLE.has(code),
            received: (text) => this.#received(text),
            dropped: (verdict) => {
                if (verdict?.tooBig) {
                    this.#delivery.failUnderWay(verdict.reason);
                }
                this.#delivery.suspend();
            },
            changed: (state) => this.#emit("state", state),
        };
    }

    /** @returns {import("./delivery.js").Line} */
    #line() {
        return {
            open: () => this.state.name === "online" && this.#writable,
            position: () => this.#position,
            send: (frame) => this.#connection.send(frame),
            silent: () => this.#connection.lose(NO_ANSWER),
            history: (question) => this.history(question),
            changed: () => this.#emit("outbox", { unsent: this.unsent }),
        };
    }

    /** Other tabs of this room share its outbox: hear what they are done with. */
    #listen() {
        if (!globalThis.document || this.#listening) {
            return;
        }
        this.#listening = new AbortController();
        const gone = ({ key, newValue }) => {
            if (key !== null && newValue === null) {
                this.#delivery.goneElsewhere(key);
            }
        };
        globalThis.addEventListener("storage", gone, { signal: this.#listening.signal });
    }

    async #address() {
        const { history, presence, typing } = this.#options;
        const url = addressed(this.#url, {
            since: this.#position,
            history: this.#position === null && history ? history : null,
            events: [presence && "presence", typing && "typing", "ready", "heartbeat"].filter(Boolean).join(","),
            handle: this.#handle,
            token: await this.#token(),
        });
        url.protocol = url.protocol.replace("http", "ws");
        return url;
    }

    /** The same by plain HTTP: whatever keeps the socket from opening refuses an event stream, too, but can be read. */
    async #askWhy() {
        const url = await this.#address();
        url.protocol = url.protocol.replace("ws", "http");
        const headers = { Accept: "text/event-stream" };
        const answer = await this.#fetch(url, { headers, signal: AbortSignal.timeout(ANSWER_MS) });
        if (answer.ok) {
            await answer.body?.cancel();
        }
        return this.#read(answer);
    }

    async #token() {
        const { token } = this.#options;
        return (typeof token === "function" ? await token() : token) || null;
    }

    async #ask(query, signal) {
        const token = await this.#token();
        const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
        return this.#read(await this.#fetch(addressed(this.#url, query), { headers, signal }));
    }

    #fetch(url, options) {
        return (this.#options.fetch ?? fetch)(url, { cache: "no-store", ...options });
    }

    /** @param {Response} answer @returns {Promise<import("./connection.js").Answer>} */
    async #read(answer) {
        const body = await answer.json().catch(() => undefined); // of a proxy, say
        return { status: answer.status, body, retryAfter: answer.headers.get("Retry-After") };
    }

    /** @param {string} text */
    #received(text) {
        let frame;
        try {
            frame = JSON.parse(text);
        } catch {
            return;
        }
        if (typeof frame?.id === "string" && typeof frame.message === "string") {
            this.#message(frame);
        } else if (frame?.error) {
            this.#refused(frame.error);
        } else if (frame?.event === "ready") {
            this.#ready(frame);
        } else if (frame?.event === "heartbeat") {
            this.#connection.expectWithin(frame.seconds * SILENCE_FACTOR * 1000);
        } else if (frame?.event === "reset") {
            void this.#reset(frame.position);
        } else if (TOLD.has(frame?.event)) {
            this.#emit(frame.event, frame);
        }
    }

    #ready({ position, handle, writable, limits }) {
        this.#position ??= position ?? null;
        this.#writable = writable !== false;
        this.#limits = { ...LIMITS, ...limits };
        this.#emit("ready", { handle: handle ?? null, writable: this.#writable, limits: this.#limits });
        this.#connection.live();
        this.#delivery.next();
    }

    /** @param {Message} message */
    #message(message) {
        const { id, key, timestamp } = message;
        // The answer to a repeated message may be one that was stored before what is known already: it has its place
        // further up in the history.
        const past = key !== undefined && timestamp < this.#newest && this.#delivery.isRepeating(key);
        if (!past && !this.#seen.has(id)) {
            this.#remember(id);
            this.#position = id;
            this.#newest = timestamp;
            if (this.#held) {
                this.#held.push(message);
            } else {
                this.#emit("message", message);
            }
        }
        if (key !== undefined) {
            this.#delivery.stored(key, message);
        }
    }

    #remember(id) {
        this.#seen.add(id);
        if (this.#seen.size > IDS_KEPT) {
            this.#seen.delete(this.#seen.values().next().value);
        }
    }

    /** The history cannot be continued: begin again with its newest messages, before what is live. */
    async #reset(position) {
        this.#position = position ?? null;
        this.#newest = "";
        if (this.#held) {
            return;
        }
        this.#held = [];
        let messages = [];
        if (this.#options.history) {
            try {
                ({ messages } = await this.history({ limit: this.#options.history }));
            } catch {
                // The room goes on from here then; that something may be missing is told all the same.
            }
        }
        const listed = new Set(messages.map(({ id }) => id));
        const live = this.#held.filter(({ id }) => !listed.has(id));
        this.#held = null;
        listed.forEach((id) => this.#remember(id));
        this.#emit("reset", { position: this.#position, messages });
        live.forEach((message) => this.#emit("message", message));
    }

    /** @param {{code: string, message: string, key?: string, retry?: number}} error */
    #refused(error) {
        if (error.key !== undefined) {
            this.#delivery.refused(error.key, error);
        }
        this.#emit("error", error);
    }

    /** @param {string} type @param {unknown} detail */
    #emit(type, detail) {
        this.dispatchEvent(new CustomEvent(type, { detail }));
    }
}

/** @param {URL} base @param {Record<string, unknown>} query null and undefined are left out */
function addressed(base, query) {
    const url = new URL(base);
    for (const [name, value] of Object.entries(query)) {
        if (value !== null && value !== undefined) {
            url.searchParams.set(name, String(value));
        }
    }
    return url;
}

/** What a room's outbox is kept under: the server and the room, however its URL was written. */
function roomOf(url) {
    let path = url.pathname;
    try {
        path = decodeURIComponent(path).normalize("NFC");
    } catch {
        // Not UTF-8: the server will say so.
    }
    return url.origin + path.replace(/\/+$/, "");
}

function browserStorage() {
    try {
        return globalThis.document ? globalThis.localStorage : null;
    } catch {
        return null; // forbidden by the user
    }
}
