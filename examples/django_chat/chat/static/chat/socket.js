/**
 * A WebSocket that comes back when it is lost: soon at first, then less and less often, and never at the same moment as
 * everybody else.
 *
 * `url` is asked for before each connection, so that a token in it may be short-lived. Events: `open`, `message` (with
 * the frame in `detail`), `wait` (with the milliseconds until the next try in `detail`).
 */

const SHORTEST = 500;
const LONGEST = 20_000;

export class ReturningSocket extends EventTarget {
  #url;
  /** @type {WebSocket | null} */
  #socket = null;
  #failures = 0;

  /** @param {() => Promise<string>} url */
  constructor(url) {
    super();
    this.#url = url;
    this.#connect();
  }

  /** Send a frame if there is a connection; whether there is. @param {string} frame */
  send(frame) {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    if (open) {
      this.#socket.send(frame);
    }
    return open;
  }

  async #connect() {
    try {
      this.#socket = new WebSocket(await this.#url());
    } catch {
      this.#again();
      return;
    }
    this.#socket.addEventListener("open", () => {
      this.#failures = 0;
      this.dispatchEvent(new Event("open"));
    });
    this.#socket.addEventListener("message", ({ data }) => {
      this.dispatchEvent(new CustomEvent("message", { detail: data }));
    });
    this.#socket.addEventListener("close", () => this.#again());
  }

  #again() {
    const longest = Math.min(LONGEST, SHORTEST * 2 ** this.#failures);
    const delay = longest * (0.5 + Math.random() / 2);
    this.#failures += 1;
    setTimeout(() => this.#connect(), delay);
    this.dispatchEvent(new CustomEvent("wait", { detail: delay }));
  }
}
