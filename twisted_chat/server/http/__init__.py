"""HTTP/1.1 and HTTP/2 on one port, with limits, and the way from a request to a WebSocket."""
