// What the clients beside this have in common: each line of standard input is sent, all that happens is a line of JSON.
//
//   {"happened": "open"}
//   {"happened": "message", "text": "{…}"}
//   {"happened": "close", "code": 1000, "reason": "", "clean": true}
//
// At the end of standard input it leaves.

import { createInterface } from "node:readline";

export function tell(happened, details = {}) {
  process.stdout.write(`${JSON.stringify({ happened, ...details })}\n`);
}

export async function sendLines(send, leave) {
  for await (const line of createInterface({ input: process.stdin })) {
    send(line);
  }
  leave();
}

// Anything with the interface of a browser's WebSocket.
export function followSocket(socket) {
  socket.onopen = () => {
    tell("open");
    sendLines(
      (line) => socket.send(line),
      () => socket.close(1000, "bye"),
    );
  };
  socket.onmessage = ({ data }) => tell("message", { text: data });
  socket.onclose = ({ code, reason, wasClean }) => {
    tell("close", { code, reason, clean: wasClean });
    process.stdin.destroy();
  };
}
