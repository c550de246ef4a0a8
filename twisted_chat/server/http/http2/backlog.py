"""Bytes that wait on one HTTP/2 connection for its client's flow control."""

from __future__ import annotations


class Backlog:
    """How many wait on all streams of one connection."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0
