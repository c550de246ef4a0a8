// ws: each message is sent to each client. node node_ws.js PORT
const { WebSocket, WebSocketServer } = require("ws");

const server = new WebSocketServer({
    host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false, backlog: 4096,
});
server.on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data) => {
        for (const client of server.clients) {
            if (client.readyState === WebSocket.OPEN) {
                client.send(data, { binary: false });
            }
        }
    });
});
