/**
 * One row of the timeline: a message, or the mark of a gap. What stands above a message (day, name) depends on the row
 * before it.
 *
 * @typedef {import("./chat-client.js").Message} Message
 * @typedef {{message: Message, date: Date} | {gap: true}} Item
 */

import { avatar, colour } from "./handles.js";
import { element } from "./element.js";
import { locale, t } from "./i18n.js";
import { nodes } from "./text.js";

/** Messages of one author closer than this stand under one name. */
const TOGETHER_MS = 5 * 60_000;
/** Longer than this a message is folded until asked for. */
const LONG_CHARACTERS = 1500;
const LONG_LINES = 20;

const clock = new Intl.DateTimeFormat(locale, { hour: "numeric", minute: "2-digit" });
const moment = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long" });
const dayOfYear = new Intl.DateTimeFormat(locale, {
    weekday: "long",
    day: "numeric",
    month: "long",
    year: "numeric",
});

/** @param {Message} message @returns {Item} */
export function item(message) {
    return { message, date: new Date(message.timestamp) };
}

/**
 * @param {Item} item
 * @param {Item | undefined} previous     what stands above it
 * @param {{own: boolean, unread: boolean}} as    unread: the first one not seen yet
 * @returns {HTMLElement}
 */
export function row(item, previous, { own, unread }) {
    if ("gap" in item) {
        return element(
            "div",
            { class: "row" },
            element("p", { class: "divider gap" }, element("span", { text: t("gap") })),
        );
    }
    const { message, date } = item;
    const newDay = !previous || "gap" in previous || !sameDay(previous.date, date);
    const leads = newDay || unread || !together(previous, item);
    const made = element("div", {
        class: `row${own ? " own" : ""}${leads ? " leads" : ""}`,
        "data-id": message.id,
    });
    if (newDay) {
        made.append(element("h2", { class: "day" }, element("span", { text: dayName(date) })));
    }
    if (unread) {
        made.append(element("p", { class: "divider new" }, element("span", { text: t("new") })));
    }
    made.append(leads ? head(message, date, own) : continuation(message, date), bubble(message, date));
    return colour(made, message.handle);
}

function head({ handle }, date, own) {
    const name = element("span", { class: own ? "name visually-hidden" : "name", dir: "auto", text: handle });
    return element("div", { class: "head" }, own ? null : avatar(handle), name, " ", time(date));
}

/** Under the same name: seen only when pointed at, heard always. */
function continuation({ handle }, date) {
    const says = element("span", { class: "visually-hidden", text: t("says", { handle }) });
    return element("div", { class: "aside" }, says, time(date));
}

function bubble({ message }, date) {
    const text = element("p", { class: "text", dir: "auto" }, ...nodes(message));
    const made = element("div", { class: "bubble", title: moment.format(date) }, text);
    if (message.length > LONG_CHARACTERS || message.split("\n", LONG_LINES + 1).length > LONG_LINES) {
        made.classList.add("folded");
        const unfold = () => {
            made.classList.remove("folded");
            button.remove();
        };
        const button = element("button", {
            type: "button",
            class: "plain",
            text: t("more"),
            on: { click: unfold },
        });
        made.append(button);
    }
    return made;
}

function time(date) {
    const known = !Number.isNaN(date.getTime());
    return element("time", { datetime: known && date.toISOString(), text: known ? clock.format(date) : "" });
}

function together(previous, { message, date }) {
    return previous.message.handle === message.handle && date - previous.date < TOGETHER_MS;
}

function sameDay(one, other) {
    return one.toDateString() === other.toDateString();
}

function dayName(date) {
    const now = new Date();
    const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
    if (sameDay(date, now)) {
        return t("today");
    }
    if (sameDay(date, yesterday)) {
        return t("yesterday");
    }
    return (date.getFullYear() === now.getFullYear() ? day : dayOfYear).format(date);
}
