/** How a person is shown: always the same colour and initial for the same handle. */

import { element } from "./element.js";

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** A hue in degrees. The style sheets give it a lightness that contrasts with the background, in light and dark. */
export function hueOf(handle) {
    let hash = 2166136261; // FNV-1a
    for (const character of handle.normalize("NFC")) {
        hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
    }
    hash = Math.imul(hash ^ (hash >>> 16), 2246822507);
    // 24 hues: neighbours on the wheel closer than 15 degrees look the same anyway.
    return (((hash ^ (hash >>> 13)) >>> 0) % 24) * 15;
}

/** The first character that a reader sees. */
export function initialOf(handle) {
    const [first] = graphemes.segment(handle);
    return (first?.segment ?? "?").toLocaleUpperCase();
}

/** @param {HTMLElement} target what is drawn in the colour of `handle` */
export function colour(target, handle) {
    target.style.setProperty("--hue", String(hueOf(handle)));
    return target;
}

/** A round badge with the initial; the name itself stands beside it. */
export function avatar(handle) {
    return colour(element("span", { class: "avatar", "aria-hidden": "true", text: initialOf(handle) }), handle);
}
