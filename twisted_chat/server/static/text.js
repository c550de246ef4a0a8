/** What users wrote, as nodes: text, and links where there is an http or https address. Never markup. */

import { element } from "./element.js";

/** What the server takes away or refuses in a message: control characters other than newline and tab. */
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\u0000-\u001f\u2028\u2029\ufeff]+/giu;
const CLOSING = { ")": "(", "]": "[", "}": "{" };

/** The length as the server counts it: in characters, not in UTF-16 units. */
export function lengthOf(text) {
    let length = 0;
    for (const _ of text) {
        length += 1;
    }
    return length;
}

/** Text as it may be sent: one kind of line end, no control characters, no halves of characters, no empty margin. */
export function cleaned(text) {
    const plain = text.toWellFormed().replace(/\r\n?/g, "\n").replace(CONTROLS, "");
    return plain.replace(/^\s*\n/, "").trimEnd();
}

/**
 * @param {string} text
 * @returns {{text: string, href?: string}[]} the pieces in order; joined, their texts are `text`
 */
export function pieces(text) {
    const found = [];
    let end = 0;
    for (const match of text.matchAll(ADDRESS)) {
        const address = withoutTail(match[0]);
        const href = linkable(address);
        if (href) {
            if (match.index > end) {
                found.push({ text: text.slice(end, match.index) });
            }
            found.push({ text: address, href });
            end = match.index + address.length;
        }
    }
    if (end < text.length) {
        found.push({ text: text.slice(end) });
    }
    return found;
}

/** @param {string} text @returns {(string | HTMLElement)[]} */
export function nodes(text) {
    return pieces(text).map(({ text, href }) =>
        href ? element("a", { href, text, target: "_blank", rel: "noopener noreferrer nofollow ugc" }) : text,
    );
}

/** Punctuation that ends the sentence does not belong to the address; a closing bracket does if it was opened in it. */
function withoutTail(address) {
    for (let kept = address; ; kept = kept.slice(0, -1)) {
        const last = kept.at(-1) ?? "";
        const opening = CLOSING[last];
        const unbalanced = opening && kept.split(last).length > kept.split(opening).length;
        if (!unbalanced && !/[.,:;!?…*_~|]/.test(last)) {
            return kept;
        }
    }
}

function linkable(address) {
    let url;
    try {
        url = new URL(address);
    } catch {
        return null;
    }
    // "https://bank.example@evil.example" leads to evil.example: such addresses stay text.
    const honest = ["http:", "https:"].includes(url.protocol) && url.hostname && !url.username && !url.password;
    return honest ? url.href : null;
}
