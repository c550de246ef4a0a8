"""HTTP/2 (RFC 9113) and WebSockets over it (RFC 8441), on the `h2` library."""
