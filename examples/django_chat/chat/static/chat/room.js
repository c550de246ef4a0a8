/**
 * The page of a room. It shows each message once, in the order of their numbers, and asks for those that it misses.
 * What is written stays in this tab, and is sent again, until it comes back as stored.
 */

import { ReturningSocket } from "./socket.js";

const room = document.getElementById("room");
const list = document.getElementById("messages");
const state = document.getElementById("state");
const text = document.getElementById("text");
const user = document.getElementById("user").textContent;
const storageKey = `unsent:${user}:${room.dataset.socket}`;

/** By their numbers. @type {Map<number, HTMLElement>} */
const rows = new Map();
/** All messages up to this number are here, or older than what is shown; null until the history has come. */
let last = null;
/** The `last` with which the page has asked for what is missing: once is enough, for the answer has all of it. */
let asked = null;
/** What is not known to be stored, by key. @type {Map<string, {message: string, row: HTMLElement}>} */
const unsent = new Map();

const socket = new ReturningSocket(async () => {
  const answer = await fetch(room.dataset.token, { redirect: "error" });
  if (answer.status === 403) {
    location.reload(); // no longer logged in: the page leads to the form
  }
  if (!answer.ok) {
    throw new Error(`no token: ${answer.status}`);
  }
  const { token } = await answer.json();
  const url = new URL(room.dataset.socket, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = new URLSearchParams({ token, since: last ?? "" });
  return url.href;
});

socket.addEventListener("open", () => {
  state.textContent = "";
  asked = null;
  for (const [key, { message }] of unsent) {
    socket.send(JSON.stringify({ message, key }));
  }
});

socket.addEventListener("wait", ({ detail }) => {
  state.textContent = `Not connected. Next try in ${Math.ceil(detail / 1000)} s.`;
});

socket.addEventListener("message", ({ detail }) => {
  const said = JSON.parse(detail);
  if (said.history) {
    said.history.forEach(show);
    // Where more is missing than the server tells at once, the page goes on after it.
    last = Math.max(last ?? 0, (said.history[0]?.number ?? 1) - 1);
    advance();
  } else if (said.errors) {
    state.textContent = Object.values(said.errors).flat().join(" ");
    settle(said.key);
  } else {
    show(said);
    if (last !== null && advance() < said.number && asked !== last) {
      asked = last;
      socket.send(JSON.stringify({ since: last }));
    }
  }
});

/** Look how far the messages go without a gap. */
function advance() {
  while (rows.has(last + 1)) {
    last += 1;
  }
  return last;
}

function show(said) {
  if (said.handle === user) {
    settle(said.key);
  }
  if (rows.has(said.number)) {
    return;
  }
  const row = rowOf(said.handle, said.message);
  const time = document.createElement("time");
  time.dateTime = said.timestamp;
  time.textContent = new Date(said.timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  row.append(time);
  place(row, said.number);
}

/** Put a row where its number belongs: nearly always behind the others. */
function place(row, number) {
  const later = [...rows.keys()].filter((other) => other > number);
  const next = later.length ? rows.get(Math.min(...later)) : (unsent.values().next().value?.row ?? null);
  rows.set(number, row);
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.insertBefore(row, next);
  if (atEnd) {
    list.scrollTop = list.scrollHeight;
  }
}

function rowOf(handle, message) {
  const row = document.createElement("li");
  row.classList.toggle("own", handle === user);
  const name = document.createElement("b");
  name.textContent = handle;
  const words = document.createElement("span");
  words.textContent = message;
  row.append(name, words);
  return row;
}

/** Write something: it is shown as unsent until it comes back. */
function say(message, key) {
  const row = rowOf(user, message);
  row.classList.add("unsent");
  list.append(row);
  list.scrollTop = list.scrollHeight;
  unsent.set(key, { message, row });
  keep();
  socket.send(JSON.stringify({ message, key }));
}

/** What has this key was stored, or refused. */
function settle(key) {
  unsent.get(key)?.row.remove();
  if (unsent.delete(key)) {
    keep();
  }
}

function keep() {
  sessionStorage.setItem(storageKey, JSON.stringify([...unsent].map(([key, { message }]) => [message, key])));
}

/** Random enough to be nobody else's; `crypto.randomUUID` is there on secure pages only. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const composer = document.getElementById("composer");
composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const message = text.value.trim();
  if (message) {
    say(message, newKey());
    text.value = "";
  }
});

for (const [message, key] of JSON.parse(sessionStorage.getItem(storageKey) ?? "[]")) {
  say(message, key);
}

// Until now the form would have gone to the server as a page.
composer.querySelector("button").disabled = false;
