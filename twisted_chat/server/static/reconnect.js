/**
 * When to come back: pure decisions, no clock and no network.
 *
 * @typedef {object} Reason       why there is no connection
 * @property {string} code        to branch on: a code of the server, or one of `lost`, `offline`, `unreachable`,
 *                                `no_answer`, `websocket_blocked`, `closed`
 * @property {string} message     for people, in English
 *
 * @typedef {object} Verdict
 * @property {boolean} again      whether to come back without being asked to
 * @property {number} [after]     milliseconds to wait at least; without it the backoff alone decides
 * @property {boolean} [tooBig]   the frame that was just sent is why: do not send it again
 * @property {Reason} reason
 */

/** Longer and longer waits, half of each random: clients that lost a server together do not return together. */
export class Backoff {
    #first;
    #longest;
    #random;
    #attempts = 0;

    /** @param {{first?: number, longest?: number, random?: () => number}} [options] milliseconds */
    constructor({ first = 500, longest = 30_000, random = Math.random } = {}) {
        this.#first = first;
        this.#longest = longest;
        this.#random = random;
    }

    /** How many waits were given out since the last reset. */
    get attempts() {
        return this.#attempts;
    }

    /** The next wait in milliseconds. */
    next() {
        const ceiling = Math.min(this.#longest, this.#first * 2 ** Math.min(this.#attempts, 30));
        this.#attempts += 1;
        return ceiling / 2 + this.#random() * (ceiling / 2);
    }

    /** It works again: start over. */
    reset() {
        this.#attempts = 0;
    }
}

const LONGEST_HINT = 300;
const RESTARTING = { code: "going_away", message: "the server is restarting" };
const LOST = { code: "lost", message: "the connection was lost" };

/** Milliseconds that `retry=<seconds>` in a close reason asks for, at most five minutes; undefined without one. */
function hinted(text) {
    const hint = /(?:^|[;,\s])retry=(\d+(?:\.\d+)?)/.exec(text);
    return hint ? Math.min(Number(hint[1]), LONGEST_HINT) * 1000 : undefined;
}

/** `{code, message}` from a close reason such as "token_expired: the token ran out at 12:00". */
function said(text, otherwise) {
    const parts = /^([a-z][a-z0-9_]*)(?::\s*(.*))?$/su.exec(text);
    if (parts) {
        return { code: parts[1], message: parts[2] || parts[1].replaceAll("_", " ") };
    }
    return { code: otherwise, message: text || otherwise.replaceAll("_", " ") };
}

/**
 * What a closed WebSocket means.
 *
 * @param {number} code     close code (RFC 6455 section 7.4), 1005 or 1006 when there was none
 * @param {string} text     close reason
 * @returns {Verdict}
 */
export function afterClose(code, text) {
    switch (code) {
        case 1001:
        case 1012:
            return { again: true, after: hinted(text) ?? 0, reason: RESTARTING };
        case 1003:
        case 1007:
        case 1008:
            return { again: false, reason: said(text, "not_allowed") };
        case 1009:
            return { again: true, tooBig: true, reason: said(text, "message_too_long") };
        case 1013:
            return { again: true, after: hinted(text) ?? 5000, reason: said(text, "try_again") };
        case 3008:
            return { again: true, after: 0, reason: said(text, "too_slow") };
        default:
            return { again: true, reason: LOST };
    }
}

/**
 * What the answer to a plain HTTP request says about a WebSocket that would not open.
 *
 * @param {number} status                   HTTP status
 * @param {unknown} body                    the JSON of the answer, undefined if it was none
 * @param {string | null} [retryAfter]      its Retry-After header
 * @returns {Verdict}
 */
export function afterRefusal(status, body, retryAfter = null) {
    if (status >= 200 && status < 300) {
        const message = "the server answers, but something in between keeps WebSocket connections from opening";
        return { again: true, after: 5000, reason: { code: "websocket_blocked", message } };
    }
    const error = /** @type {any} */ (body)?.error ?? {};
    const reason = {
        code: typeof error.code === "string" ? error.code : `http_${status}`,
        message:
            typeof error.message === "string" ? error.message : `the server answered with HTTP status ${status}`,
    };
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
        const seconds = /^\d+$/.test(retryAfter ?? "") ? Math.min(Number(retryAfter), LONGEST_HINT) : 5;
        return { again: true, after: seconds * 1000, reason };
    }
    return { again: false, reason };
}
