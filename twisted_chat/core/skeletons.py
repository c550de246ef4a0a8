"""Names that look alike, by Unicode Technical Standard 39 (section 4, "Confusable Detection")."""

from __future__ import annotations

from functools import lru_cache

import disarm


@lru_cache(maxsize=16_384)  # a presence list is asked for again and again
def skeleton(handle: str) -> str:
    """Return the skeleton of `handle`: handles with equal skeletons look alike, whatever their case.

    A skeleton is for comparing, never for showing.
    """
    return disarm.skeleton_key(handle)


def unlike_itself(handle: str) -> str | None:
    """Return the skeleton of `handle`, or None where that is just `handle` in lower case, as clients assume."""
    found = skeleton(handle)
    return found if found != handle.lower() else None
