// socket.io, on WebSockets only, without the polling that it begins with otherwise. node socket_io.js PORT
const http = require("http").createServer();
const { Server } = require("socket.io");

const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false });
io.on("connection", (socket) => {
    socket.join("room");
    socket.on("m", (text) => io.to("room").emit("m", text));
});
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
