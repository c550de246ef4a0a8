/** Builds DOM without markup: what users wrote only ever becomes text. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [properties]   `text` and `on: {click: …}`; everything else is an attribute: true is
 *     an empty one, false, null and undefined are left out
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElement}
 */
export function element(tag, { on = {}, text, ...attributes } = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value !== false && value !== null && value !== undefined) {
            made.setAttribute(name, value === true ? "" : String(value));
        }
    }
    for (const [type, listener] of Object.entries(on)) {
        made.addEventListener(type, listener);
    }
    if (text !== undefined) {
        made.textContent = text;
    }
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
    return made;
}

/** A drawing of one stroked path on a 24 × 24 field; decoration only. @param {string} path */
export function icon(path) {
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("class", "icon");
    drawing.setAttribute("viewBox", "0 0 24 24");
    drawing.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path);
    drawing.append(line);
    return drawing;
}

/** The element of that id, which the page has. @param {string} id */
export function byId(id) {
    return /** @type {any} */ (document.getElementById(id));
}
