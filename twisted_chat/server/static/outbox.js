/**
 * Messages that the server has not acknowledged yet. They are kept in a `Storage`, one item each, so that they survive
 * a reload, and so that two tabs of one room never overwrite each other's.
 *
 * @typedef {object} Unsent
 * @property {string} key           idempotency key: the server stores the same key of the same author once
 * @property {string} text
 * @property {string | null} handle under which it was written; null: the token's
 * @property {number} at            when it was written, milliseconds of Unix time
 * @property {number} order         tells messages of the same millisecond apart
 * @property {number | null} sentAt when it was first handed to a connection: it may be stored from then on
 * @property {string | null} after  a position of the room from before it was sent
 * @property {{code: string, message: string} | null} error     why it will not be sent unless asked to; null: waiting
 */

/** Where it keeps them when nothing outlives the page. */
export class MemoryStorage {
    #items = new Map();

    get length() {
        return this.#items.size;
    }

    key(index) {
        return [...this.#items.keys()][index] ?? null;
    }

    getItem(name) {
        return this.#items.get(name) ?? null;
    }

    setItem(name, value) {
        this.#items.set(name, String(value));
    }

    removeItem(name) {
        this.#items.delete(name);
    }
}

/** The outbox is full; nothing was added. */
export class OutboxFull extends Error {
    constructor(limit) {
        super(`${limit} messages wait to be sent already; more can be written once some of them are`);
        this.name = "OutboxFull";
        this.code = "outbox_full";
    }
}

export class Outbox {
    #storage;
    #prefix;
    #limit;
    /** @type {Unsent[]} */
    #entries = [];
    #order = 0;

    /**
     * Takes over what an earlier page of the same room left unsent.
     *
     * @param {Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem">} storage
     * @param {string} prefix   of the names of its items; one per room
     * @param {number} limit    most messages that may wait
     */
    constructor(storage, prefix, limit = 200) {
        this.#storage = storage;
        this.#prefix = prefix;
        this.#limit = limit;
        for (const name of this.#names()) {
            const entry = read(storage.getItem(name), name.slice(prefix.length));
            if (entry === null) {
                storage.removeItem(name);
            } else {
                this.#entries.push(entry);
            }
        }
        this.#entries.sort((a, b) => a.at - b.at || a.order - b.order);
        this.#order = Math.max(0, ...this.#entries.map((entry) => entry.order));
    }

    /** All of them, oldest first. */
    get entries() {
        return [...this.#entries];
    }

    /** The one to send next: the oldest that did not fail. */
    get next() {
        return this.#entries.find((entry) => entry.error === null);
    }

    find(key) {
        return this.#entries.find((entry) => entry.key === key);
    }

    /**
     * @param {{key: string, text: string, handle: string | null, at: number}} message
     * @returns {Unsent}
     * @throws {OutboxFull}
     */
    add({ key, text, handle, at }) {
        if (this.#entries.length >= this.#limit) {
            throw new OutboxFull(this.#limit);
        }
        this.#order += 1;
        const entry = { key, text, handle, at, order: this.#order, sentAt: null, after: null, error: null };
        this.#entries.push(entry);
        this.#keep(entry);
        return entry;
    }

    /** Change some of its properties. */
    update(entry, changes) {
        Object.assign(entry, changes);
        this.#keep(entry);
    }

    /** @returns {Unsent | undefined} what was removed */
    remove(key) {
        const index = this.#entries.findIndex((entry) => entry.key === key);
        if (index < 0) {
            return undefined;
        }
        this.#storage.removeItem(this.#prefix + key);
        return this.#entries.splice(index, 1)[0];
    }

    /** The key of the entry that an item of the storage belongs to, undefined if it is none of ours. */
    keyOf(name) {
        return name?.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : undefined;
    }

    #names() {
        const names = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index));
        return names.filter((name) => this.keyOf(name) !== undefined);
    }

    #keep({ key, ...rest }) {
        try {
            this.#storage.setItem(this.#prefix + key, JSON.stringify(rest));
        } catch {
            // Full or forbidden (private browsing): it waits in memory all the same, for as long as the page lives.
        }
    }
}

/** @returns {Unsent | null} null for what is not ours or broken */
function read(json, key) {
    try {
        const { text, handle = null, at, order, sentAt = null, after = null, error = null } = JSON.parse(json);
        if (typeof text !== "string" || !Number.isFinite(at) || !Number.isFinite(order)) {
            return null;
        }
        return { key, text, handle, at, order, sentAt, after, error };
    } catch {
        return null;
    }
}
