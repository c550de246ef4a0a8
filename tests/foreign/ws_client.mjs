// The package `ws`, which offers compression by itself.

import WebSocket from "ws";
import { followSocket } from "./lines.mjs";

followSocket(new WebSocket(process.argv[2]));
