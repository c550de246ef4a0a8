"""The edges: bytes in, bytes out."""
