"""How many threads a call gets, and how many calls run side by side."""

from __future__ import annotations

import os

MOST_AT_ONCE = 4
"""Calls side by side; each needs memory of its own."""


def calls_at_once(threads: int | None) -> int:
    """Return how many calls on so many threads run side by side on this CPU; None: one call has them all."""
    return 1 if threads is None else max(1, min(num_processors() // threads, MOST_AT_ONCE))


def threads_for(images: int) -> int | None:
    """Return the number of CPU threads for each call when this many images are segmented.

    One image gets all of them (None). Several images finish sooner side by side, with fewer threads each.
    """
    side_by_side = min(images, num_processors(), MOST_AT_ONCE)
    return None if side_by_side <= 1 else num_processors() // side_by_side


def num_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
