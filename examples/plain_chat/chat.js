/** The page: enter a room, and say something in it. */

const [enter, name, room, messages, state, composer, text] = [
  "enter", "name", "room", "messages", "state", "composer", "text",
].map((id) => document.getElementById(id));

/** @type {WebSocket | null} */
let socket = null;

const SENTENCES = { came: "came in", went: "went away" };

function show({ event, name, message }) {
  if (event === "refused") {
    state.textContent = message;
    return;
  }
  const row = document.createElement("li");
  const who = document.createElement("b");
  who.textContent = name;
  row.append(who, " ", message ?? SENTENCES[event]);
  row.className = event;
  messages.append(row);
  row.scrollIntoView();
}

/** Connect, and again whenever the connection is lost. */
function connect() {
  const query = new URLSearchParams({ name: name.value.trim() });
  socket = new WebSocket(`${document.body.dataset.server}/ws/${room.value}/?${query}`);
  socket.addEventListener("open", () => {
    state.textContent = "";
  });
  socket.addEventListener("message", ({ data }) => show(JSON.parse(data)));
  socket.addEventListener("close", () => {
    state.textContent = "Not connected.";
    setTimeout(connect, 1000 + 1000 * Math.random());
  });
}

enter.addEventListener("submit", (event) => {
  event.preventDefault();
  enter.hidden = true;
  composer.hidden = false;
  text.focus();
  connect();
});

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState === WebSocket.OPEN && text.value.trim()) {
    socket.send(JSON.stringify({ message: text.value }));
    text.value = "";
  }
});

// Until now the form would have gone to the server as a page.
enter.querySelector("button").disabled = false;
