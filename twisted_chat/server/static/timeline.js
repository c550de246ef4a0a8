/**
 * The messages of a room: everything that was loaded, of which a window is in the document. Older ones are loaded, and
 * either end of the window grows while the other shrinks, as the reader scrolls; the text under their eyes stays put.
 *
 * @typedef {import("./message-row.js").Item} Item
 * @typedef {import("./message-row.js").Message} Message
 */

import { item, row } from "./message-row.js";

/** Rows that are added at a time, and the most that are in the document. */
const PAGE = 50;
const MOST_ROWS = 500;
/** The most messages kept in memory; older ones are loaded again when they are wanted. */
const MOST_ITEMS = 10_000;
/** This close to the end counts as reading the newest message. */
const CLOSE_PX = 48;
/** More is made ready this long before the reader comes to it. */
const AHEAD_PX = 1000;

export class Timeline extends EventTarget {
    #scroller;
    #list;
    #isOwn;
    #load;
    /** @type {Item[]} */
    #items = [];
    #ids = new Set();
    /** The window: items from #low up to, not including, #high have a row. */
    #low = 0;
    #high = 0;
    /** Whether the reader is at the end and stays there when more comes. */
    #following = true;
    /** The sizes for which the end was last brought into view. */
    #settled = "";
    /** Where a row that the reader sees ends, in the scroller. @type {{node: Element, bottom: number} | null} */
    #anchor = null;
    /** @type {string | null} */
    #firstUnread = null;
    #older = "waiting";
    #drawing = false;
    #extending = false;

    /**
     * Tells by events: `follow` when the reader comes to the end or leaves it, `older` when `older` changes, `drawn`.
     *
     * @param {object} parts
     * @param {HTMLElement} parts.scroller   what scrolls; has one child, which grows with what is in it
     * @param {HTMLElement} parts.list       in it: the rows and nothing else
     * @param {(handle: string) => boolean} parts.isOwn
     * @param {(before: string, limit: number) => Promise<{messages: Message[], more: boolean}>} parts.load
     */
    constructor({ scroller, list, isOwn, load }) {
        super();
        this.#scroller = scroller;
        this.#list = list;
        this.#isOwn = isOwn;
        this.#load = load;
        scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
        const sizes = new ResizeObserver(() => this.#stay());
        sizes.observe(scroller);
        sizes.observe(scroller.firstElementChild);
        // What unfolds grows where it is, also at the end.
        list.addEventListener("click", ({ target }) => target.closest("button") && this.#stayHere(), {
            capture: true,
        });
    }

    /** Whether the reader sees the newest message. */
    get following() {
        return this.#following;
    }

    get empty() {
        return this.#items.length === 0;
    }

    /** What comes before the first message: "waiting" for `begin`, "more" perhaps, "loading", "failed" or "none". */
    get older() {
        return this.#older;
    }

    /** Put messages at the end, those that are not there yet. @param {Message[]} messages */
    append(messages) {
        this.#items.push(...this.#fresh(messages));
        this.#drawSoon();
    }

    /** Something may be missing from here on: mark that, and go on. @param {Message[]} messages   the room's newest */
    interrupt(messages) {
        const last = this.#items.at(-1);
        const joined = last && "message" in last && messages.some(({ id }) => id === last.message.id);
        if (last && !("gap" in last) && !joined) {
            this.#items.push({ gap: true });
        }
        this.append(messages);
    }

    /** The newest messages have come. @param {boolean} more   whether there may be others before them */
    begin(more) {
        if (this.#older === "waiting") {
            this.#setOlder(more ? "more" : "none");
            this.#drawSoon();
        }
    }

    /** Loading failed, and the reader wants it tried once more. */
    retryOlder() {
        this.#setOlder("more");
        void this.#extend();
    }

    /** Mark where reading goes on, or take the mark away. @param {string | null} id */
    markUnread(id) {
        const marked = this.#firstUnread;
        this.#firstUnread = id;
        this.#redraw(marked);
        this.#redraw(id);
    }

    /** Who the reader is has changed, and so which messages are their own. */
    redraw() {
        this.#draw(this.#low, this.#high);
    }

    /** Bring the newest message into view. */
    toEnd() {
        const end = this.#items.length;
        if (this.#high < end) {
            this.#draw(Math.max(0, end - 2 * PAGE), end);
        }
        this.#follow(true);
        this.#stay();
    }

    // The rows ------------------------------------------------------------------------------------------------------

    /** Everything that comes before the next frame is drawn at once. */
    #drawSoon() {
        if (this.#drawing) {
            return;
        }
        this.#drawing = true;
        const draw = () => {
            if (this.#drawing) {
                this.#drawing = false;
                this.#drawNew();
            }
        };
        requestAnimationFrame(draw);
        setTimeout(draw, 250); // a hidden page has no frames
    }

    #drawNew() {
        const end = this.#items.length;
        if (!this.#following) {
            this.#growDown(Math.min(end, this.#low + MOST_ROWS)); // below the reader, whose place it does not change
        } else if (end - this.#high > MOST_ROWS) {
            this.#draw(end - MOST_ROWS, end);
        } else {
            this.#growDown(end);
            this.#shrinkTop();
        }
        if (this.#following) {
            this.#forget();
            this.#stay();
        }
        this.dispatchEvent(new Event("drawn"));
        void this.#extend();
    }

    /** Make the window another one. */
    #draw(low, high) {
        this.#quietly();
        this.#inPlace(() => {
            const anchored = this.#anchor ? [...this.#list.children].indexOf(this.#anchor.node) + this.#low : -1;
            this.#list.replaceChildren(this.#rows(low, high));
            this.#low = low;
            this.#high = high;
            if (this.#anchor && anchored >= low && anchored < high) {
                this.#anchor.node = this.#list.children[anchored - low];
            }
        });
    }

    #growDown(high) {
        if (high > this.#high) {
            this.#list.append(this.#rows(this.#high, high));
            this.#high = high;
        }
    }

    #growUp(low) {
        this.#quietly();
        const seam = this.#low;
        this.#inPlace(() => {
            this.#list.prepend(this.#rows(low, seam));
            this.#low = low;
            this.#replace(seam); // it may stand under a name or a day above it now
        });
    }

    #shrinkTop() {
        const surplus = this.#list.childElementCount - MOST_ROWS;
        for (let removed = 0; removed < surplus; removed += 1) {
            this.#list.firstElementChild.remove();
            this.#low += 1;
        }
    }

    #shrinkBottom() {
        while (this.#list.childElementCount > MOST_ROWS) {
            this.#list.lastElementChild.remove();
            this.#high -= 1;
        }
    }

    /** What is drawn in this frame is not news: screen readers are not to read it out. */
    #quietly() {
        this.#list.setAttribute("aria-busy", "true");
        requestAnimationFrame(() => requestAnimationFrame(() => this.#list.removeAttribute("aria-busy")));
    }

    #rows(low, high) {
        const rows = document.createDocumentFragment();
        for (let index = low; index < high; index += 1) {
            rows.append(this.#row(index));
        }
        return rows;
    }

    #row(index) {
        const one = this.#items[index];
        const message = "message" in one ? one.message : null;
        return row(one, this.#items[index - 1], {
            own: message !== null && this.#isOwn(message.handle),
            unread: message !== null && message.id === this.#firstUnread,
        });
    }

    #redraw(id) {
        const isIt = (one) => "message" in one && one.message.id === id;
        const index = id === null ? -1 : this.#items.findLastIndex(isIt);
        if (index >= this.#low && index < this.#high) {
            this.#inPlace(() => this.#replace(index));
        }
    }

    #replace(index) {
        const old = this.#list.children[index - this.#low];
        const made = this.#row(index);
        old.replaceWith(made);
        if (this.#anchor?.node === old) {
            this.#anchor.node = made;
        }
    }

    // Scrolling -----------------------------------------------------------------------------------------------------

    get #below() {
        return this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight;
    }

    #sizes() {
        return `${this.#scroller.scrollHeight} ${this.#scroller.clientHeight}`;
    }

    #scrolled() {
        if (this.#following && this.#sizes() !== this.#settled) {
            this.#stay(); // the layout moved, not the reader
            return;
        }
        const whole = this.#high === this.#items.length || (this.#following && this.#drawing);
        this.#follow(whole && this.#below < CLOSE_PX);
        this.#anchor = this.#findAnchor();
        void this.#extend();
    }

    /** Change rows above or under the reader's eyes. What they scrolled since the last event counts, too. */
    #inPlace(change) {
        if (!this.#following) {
            this.#anchor = this.#findAnchor();
        }
        change();
        this.#stay();
    }

    /** After a change of what is drawn or of sizes: the reader is to see what they saw. */
    #stay() {
        if (this.#following) {
            this.#scroller.scrollTop = this.#scroller.scrollHeight;
            this.#settled = this.#sizes();
        } else if (this.#anchor?.node.isConnected) {
            const moved = this.#bottomOf(this.#anchor.node) - this.#anchor.bottom;
            if (Math.abs(moved) >= 1) {
                this.#scroller.scrollTop += moved;
            }
        }
    }

    #stayHere() {
        this.#anchor = this.#findAnchor();
        this.#following = false;
        requestAnimationFrame(() => this.#scrolled());
    }

    /** The first row that ends inside the scroller. Its end, because days and names come and go above its text. */
    #findAnchor() {
        const rows = this.#list.children;
        let low = 0;
        let high = rows.length;
        while (low < high) {
            const middle = (low + high) >> 1;
            if (this.#bottomOf(rows[middle]) > 0) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return low < rows.length ? { node: rows[low], bottom: this.#bottomOf(rows[low]) } : null;
    }

    #bottomOf(node) {
        return node.getBoundingClientRect().bottom - this.#scroller.getBoundingClientRect().top;
    }

    #follow(following) {
        if (following !== this.#following) {
            this.#following = following;
            this.dispatchEvent(new Event("follow"));
        }
    }

    // What is not drawn, or not loaded ------------------------------------------------------------------------------

    /** Make more ready at either end that the reader comes near to. */
    async #extend() {
        if (this.#extending || this.#older === "waiting") {
            return;
        }
        this.#extending = true;
        try {
            while (this.#below < AHEAD_PX && this.#high < this.#items.length) {
                this.#growDown(Math.min(this.#items.length, this.#high + PAGE));
                this.#inPlace(() => this.#shrinkTop());
            }
            while (this.#scroller.scrollTop < AHEAD_PX && (this.#low > 0 || (await this.#loadOlder()))) {
                this.#growUp(Math.max(0, this.#low - PAGE));
                this.#shrinkBottom();
            }
        } finally {
            this.#extending = false;
        }
    }

    /** @returns {Promise<boolean>} whether there are more in memory now */
    async #loadOlder() {
        const [first] = this.#items;
        if (this.#older !== "more" || first === undefined || "gap" in first) {
            return false;
        }
        this.#setOlder("loading");
        try {
            const { messages, more } = await this.#load(first.message.id, PAGE);
            if (this.#items[0] !== first) {
                this.#setOlder("more");
                return false;
            }
            const older = this.#fresh(messages);
            this.#items.unshift(...older);
            this.#low += older.length;
            this.#high += older.length;
            this.#setOlder(more && older.length ? "more" : "none");
            return older.length > 0;
        } catch {
            this.#setOlder("failed");
            return false;
        }
    }

    /** What is far above a reader at the end can be loaded again. */
    #forget() {
        let surplus = this.#items.length - MOST_ITEMS;
        if (surplus > PAGE) {
            surplus += "gap" in this.#items[surplus] ? 1 : 0;
            for (const one of this.#items.splice(0, surplus)) {
                if ("message" in one) {
                    this.#ids.delete(one.message.id);
                }
            }
            this.#low -= surplus;
            this.#high -= surplus;
            this.#setOlder("more");
        }
    }

    /** Those that are not here yet, as items. @param {Message[]} messages */
    #fresh(messages) {
        const fresh = messages.filter(({ id }) => !this.#ids.has(id));
        fresh.forEach(({ id }) => this.#ids.add(id));
        return fresh.map(item);
    }

    #setOlder(older) {
        if (older !== this.#older) {
            this.#older = older;
            this.dispatchEvent(new Event("older"));
        }
    }
}
