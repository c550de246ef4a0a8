"""What a link to Redis is held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Times are in seconds.

    deadline
        without any sign of life while something is due, after which the connection is given up
    first_retry, last_retry
        until a lost connection is tried again: they grow from one to the other, less up to a half at random
    commands, command_bytes
        that may wait for a reply; more are refused unsent
    """

    deadline: float = 5.0
    first_retry: float = 0.1
    last_retry: float = 5.0
    commands: int = 50_000
    command_bytes: int = 64 << 20
