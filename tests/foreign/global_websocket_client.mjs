// The WebSocket that is part of node.

import { followSocket } from "./lines.mjs";

followSocket(new WebSocket(process.argv[2]));
