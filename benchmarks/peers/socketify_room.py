"""socketify, which is uWebSockets in C++: a topic that all subscribe to. socketify_room.py PORT"""

import sys

from socketify import App, CompressOptions, OpCode

app = App()
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 65536,
        "idle_timeout": 120,
        "open": lambda socket: socket.subscribe("room"),
        "message": lambda socket, message, opcode: app.publish("room", message, OpCode.TEXT, False),
        "close": lambda socket, code, message: None,
    },
)
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
