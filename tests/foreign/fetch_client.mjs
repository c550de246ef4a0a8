// Node's `fetch` alone: the event stream to listen, POST to speak.

import { sendLines, tell } from "./lines.mjs";

const url = new URL(process.argv[2].replace("ws", "http"));
const leaving = new AbortController();
const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: leaving.signal });
if (response.status !== 200) {
  throw new Error(`answered with ${response.status}`);
}
tell("open");

let posts = Promise.resolve();
sendLines(
  (line) => {
    posts = posts.then(() => post(line));
  },
  () => posts.then(() => leaving.abort()),
);

const end = { code: 1006, reason: "", clean: false };
try {
  let buffer = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (buffer + text).split("\n\n");
    buffer = events.pop();
    events.map(fields).forEach(listen);
  }
} catch (error) {
  if (!leaving.signal.aborted) {
    throw error;
  }
  Object.assign(end, { code: 1000, reason: "bye", clean: true });
}
tell("close", end);
process.stdin.destroy();

async function post(body) {
  const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  if (!answer.ok) {
    tell("message", { text: await answer.text() });
  }
  await answer.arrayBuffer().catch(() => undefined);
}

function fields(event) {
  return Object.fromEntries(event.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
}

function listen({ event, data }) {
  if (event === "refused") {
    const { code, message } = JSON.parse(data).error;
    Object.assign(end, { code: 1001, reason: `${code}: ${message}`, clean: true });
  } else if (data !== undefined) {
    tell("message", { text: data });
  }
}
