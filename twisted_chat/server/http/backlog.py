"""Bytes that wait for clients to take them."""

from __future__ import annotations

from typing import Final

SITE_LIMIT: Final = 256 * 1024 * 1024
"""Bytes that may wait on all connections of a site; of what comes then, large answers are given up."""


class Backlog:
    """How many wait on one connection, or on all connections of a site."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0
