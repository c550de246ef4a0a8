// A WebSocket over HTTP/2 (RFC 8441): node's `http2` for the stream, the frames of `ws` in it.

import http2 from "node:http2";
import { Receiver, Sender } from "ws";
import { sendLines, tell } from "./lines.mjs";

const url = new URL(process.argv[2].replace("ws", "http"));
const session = http2.connect(url.origin);

session.once("remoteSettings", ({ enableConnectProtocol }) => {
  if (!enableConnectProtocol) {
    throw new Error("the server did not announce SETTINGS_ENABLE_CONNECT_PROTOCOL");
  }
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":path": url.pathname + url.search,
    ":authority": url.host,
    "sec-websocket-version": "13",
  });
  stream.once("response", ({ ":status": status }) => {
    if (status !== 200) {
      throw new Error(`answered with ${status}`);
    }
    tell("open");
    follow(stream);
  });
});

function follow(stream) {
  const sender = new Sender(stream, {});
  const receiver = new Receiver({ isServer: false });
  const end = { code: 1006, reason: "", clean: false };
  let leaving = false;

  function close(code, reason) {
    if (!leaving) {
      leaving = true;
      sender.close(code, reason, true, () => stream.end());
    }
  }

  receiver.on("message", (data) => tell("message", { text: data.toString() }));
  receiver.on("ping", (data) => sender.pong(data, true));
  receiver.on("conclude", (code, reason) => {
    Object.assign(end, { code, reason: reason.toString(), clean: true });
    close(code);
  });
  receiver.on("error", (error) => stream.destroy(error));
  stream.pipe(receiver);
  stream.once("close", () => {
    tell("close", end);
    process.stdin.destroy();
    session.close();
  });
  sendLines(
    (line) => sender.send(line, { fin: true, opcode: 1, mask: true, binary: false, compress: false }),
    () => close(1000, "bye"),
  );
}
