// A WebSocket whose other end is the test; a client on it, what it emitted, and what became of its promises.
async () => {
    const { ChatClient } = await import("/static/chat-client.js");
    class FakeSocket {
        static all = [];
        constructor(url) { this.url = new URL(url); this.sent = []; this.closed = false; FakeSocket.all.push(this); }
        send(text) { this.sent.push(JSON.parse(text)); }
        close() { this.closed = true; }
        receive(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
        lose(code = 1006, reason = "") { this.onclose({ code, reason }); }
        ready(rest = {}) {
            this.onopen({});
            this.receive({ event: "ready", position: "e-0-0", handle: null, writable: true, ...rest });
        }
    }
    let count = 0;
    const message = (handle, text, rest = {}) => {
        count += 1;
        const timestamp = new Date(1.8e12 + count * 1000).toISOString();
        return { id: `e-${count}-${count}`, timestamp, handle, message: text, ...rest };
    };
    const start = (options = {}) => {
        const lab = { events: [], settled: [], asked: [] };
        const answers = options.answers ?? [];
        const fetch = async (url, { headers }) => {
            lab.asked.push({ url: url.pathname + url.search, ...headers });
            const answer = answers.shift();
            if (!answer) throw new TypeError("no network");
            return new Response(JSON.stringify(answer.body), { status: answer.status ?? 200, headers: answer.headers });
        };
        const client = new ChatClient("/chat/lab", { handle: "ann", webSocket: FakeSocket, fetch, ...options });
        for (const type of ["message", "reset", "ready", "presence", "join", "leave", "typing", "error"]) {
            client.addEventListener(type, ({ detail }) => lab.events.push([type, detail]));
        }
        const send = (text) => client.send(text).then(
            (stored) => lab.settled.push(["stored", text, stored.id]),
            (error) => lab.settled.push([error.code, text]),
        );
        const turn = () => new Promise((resolve) => { const { port1, port2 } = new MessageChannel();
            port1.onmessage = resolve; port2.postMessage(0); });
        Object.assign(lab, { client, send, turn, message });
        lab.connect = async () => { client.connect(); await turn(); return lab.socket; };
        lab.texts = () => lab.events.filter(([type]) => type === "message").map(([, { message }]) => message);
        Object.defineProperty(lab, "socket", { get: () => FakeSocket.all.at(-1) });
        Object.defineProperty(lab, "sockets", { get: () => FakeSocket.all.length });
        return lab;
    };
    window.start = start;
}
